"""Position: somebody who administers access at some facilities, and asks all that they may ask about sight.

Each case has words of its own. Whatever is asked, an answer holds no word of a case that the asker does not
see; what is counted lies at facilities that they administer; and whoever is of the facility's side is told of
users of that side only (A73).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from kernel.errors import ReadroomError
from kernel.ids import CaseId
from kernel.reading import PrivilegeLevel, Side
from services.access.accessfilter import Historical
from services.access.domain import ROLES, Facility, Permission, PermissionGrant, Role, User
from services.access.explain import ExplainedFacility, Explanation
from services.access.linting import Counted, Draft, Linted
from services.access.manager import Manager
from services.access.received import StudyAttributes
from tests.access.builders import a_study
from tests.access.conftest import Access, start
from tests.access.test_filters import save

TEXTS = (
    "StudyDescription = 'DESC{n}' and PatientAge < '18Y'",
    "PatientName = 'NAME{n}' or not ReferringPhysicianName contains 'REF'",
    "upper(PatientName) like 'NAME_' and AccessionNumber is not null",
    "StudyDescription in ('DESC{n}', 'DESC1', 'DESC2') and PatientID startswith 'id'",
)
"""In capitals: what is near to them is a word of a case."""

WORDS = {
    "study_description": "desc",
    "patient_name": "name",
    "referring_physician_name": "ref",
    "patient_id": "id",
    "accession_number": "num",
}


@dataclass
class Whole:
    """Facilities, cases, users of both sides with filters, and askers of every kind."""

    access: Access
    random: Random

    async def made(self) -> "Whole":
        access, pick = self.access, self.random.choice
        self.facilities = [await access.facility() for _ in range(3)]
        self.cases: dict[CaseId, Facility] = {}
        self.words: dict[CaseId, tuple[str, ...]] = {}
        for number in range(6):
            facility = self.facilities[number % 3]
            words = {field: f"{word}{number}" for field, word in WORDS.items()}
            case_id = await access.case(facility, a_study(attributes=StudyAttributes(**words)))
            self.cases[case_id], self.words[case_id] = facility, tuple(words.values())
        self.users = [
            await self.a_user(pick([Role.FACILITY_USER, Role.REFERRING_PHYSICIAN]), home=self.facilities[0]),
            await self.a_user(Role.RADIOLOGIST, home=self.facilities[0]),
            await self.a_user(Role.FACILITY_USER, home=self.facilities[1]),
            await self.a_user(Role.RADIOLOGIST, home=None),
        ]
        one, other, _ = self.facilities
        self.askers = [
            await self.an_asker(Role.FACILITY_MANAGER, one),
            await self.an_asker(Role.FACILITY_MANAGER, one, other),
            await self.an_asker(Role.RADIOLOGY_SUPPORT, one, other),
            await self.an_asker(Role.ADMINISTRATOR),
        ]
        for asker in self.askers[:2]:
            await access.folders.grant_case("ada", pick(list(self.cases)), asker.id)
        linked = self.random.sample(list(self.cases), 2)
        for facility in self.facilities:
            await access.give(access.admin, facility, PrivilegeLevel.VIEW)
        await access.linking.link_patients("ada", "", *linked, preview=False)
        return self

    async def a_user(self, role: Role, home: Facility | None) -> User:
        user = await self.access.user(role, home_facility_id=home.id if home else None)
        for facility in self.facilities:
            if self.random.random() < 0.6:
                await self.access.give(user, facility, PrivilegeLevel.VIEW)
        text = self.random.choice(TEXTS).format(n=self.random.randrange(6))
        await save(self.access, user, text, historical=self.random.choice(list(Historical)))
        return user

    async def an_asker(self, role: Role, *at: Facility) -> User:
        admin = Permission.ADMINISTER_ACCESS
        everywhere = frozenset() if at else frozenset({PermissionGrant(admin)})
        asker = await self.access.user(
            role,
            permissions=everywhere | {PermissionGrant(admin, each.id) for each in at},
            home_facility_id=at[0].id if role is Role.FACILITY_MANAGER else None,
        )
        for facility in self.random.sample(self.facilities, 2):
            await self.access.give(asker, facility, PrivilegeLevel.VIEW)
        if self.random.random() < 0.5:
            await save(self.access, asker, self.random.choice(TEXTS[2:3]).format(n=1))
        return asker

    async def questions(self, asker: User) -> AsyncIterator[tuple[User | None, Awaitable[object]]]:
        """All that is asked of sight, and about whom."""
        access, login = self.access, asker.login
        yield None, access.filters.list_filters(login, "", 100)
        for case_id in self.cases:
            yield None, access.linking.describe_patient(login, "", case_id)
        for user in self.users:
            yield user, access.explaining.explain_list(login, user.id, None, 10)
            yield user, access.filters.describe_filter(login, user.id)
            for text in (*(each.format(n=3) for each in TEXTS), "true"):
                yield user, access.linting.lint(login, "", Draft(user.id, {}, text))
            for case_id in self.cases:
                yield user, access.explaining.explain(login, user.id, case_id)


async def nobody_is_told_of_what_they_do_not_see(whole: Whole, answered: dict[str, int]) -> None:
    access = whole.access
    for asker in whole.askers:
        async with access.database.statements() as statements:
            compiled = await statements.compiled_user(asker.login)
        assert compiled is not None
        hidden = {
            word
            for case_id, words in whole.words.items()
            if not (await access.check(asker, case_id)).allowed
            for word in words
        }
        async for about, question in whole.questions(asker):
            try:
                answer = await question
            except ReadroomError as refusal:
                answer = refusal
            told = repr(answer) + getattr(answer, "sentence", "")
            assert not {word for word in hidden if word in told}, (asker.role, answer)
            if isinstance(answer, ReadroomError):
                continue
            kind = type(answer).__name__
            answered[kind] = answered.get(kind, 0) + 1
            if about and compiled.reading_side is Side.FACILITY:
                assert ROLES[about.role].side is not Side.GROUP, answer
            lies_where_they_administer(whole, Manager(compiled), answer)


def lies_where_they_administer(whole: Whole, manager: Manager, answer: Any) -> None:
    theirs = [each for each in whole.facilities if manager.administers(each.id)]
    at = {each.id: sum(at == each for at in whole.cases.values()) for each in theirs}
    match answer:
        case Explanation():
            assert answer.case.facility.id in at
        case Linted(counted=Counted(cases)):
            assert sum(at.values()) == cases
        case [ExplainedFacility(), *_] as rows:
            assert {each.facility.id: each.counted.cases for each in rows} == at


def answers_of(fresh_database: Callable[[str], str], seeds: range) -> dict[str, int]:
    answered: dict[str, int] = {}

    async def try_it(seed: int) -> None:
        async for access in start(fresh_database("access")):
            whole = await Whole(access, Random(seed)).made()
            await nobody_is_told_of_what_they_do_not_see(whole, answered)

    for seed in seeds:
        asyncio.run(try_it(seed))
    return answered


@pytest.mark.proves("A73")
def test_no_answer_holds_a_word_of_a_case_that_the_asker_does_not_see(
    fresh_database: Callable[[str], str],
) -> None:
    answered = answers_of(fresh_database, range(1))
    assert {"Explanation", "Linted", "list", "DescribedFilter", "Known"} == set(answered)


@pytest.mark.drill
def test_no_answer_in_many_more_worlds(fresh_database: Callable[[str], str]) -> None:
    answers_of(fresh_database, range(100, 150))
