"""Whatever text a filter is, stored or asked for: it narrows, or it denies, and nothing else comes of it."""

from collections.abc import Sequence

import pytest

from kernel.errors import Invalid
from kernel.ids import CaseId
from kernel.reading import PrivilegeLevel
from services.access.domain import User
from services.access.filter.grammar import MAX_CHARACTERS, MAX_DEPTH, MAX_NODES, parse
from services.access.search import Listing
from tests.access.conftest import Access
from tests.access.filter.fuzzing import CORPUS
from tests.access.test_filters import described, save

VALUES = ("O'Neil", "100%_\\", "'; drop table cases; --", "$1", "Doe^Jane\n--", "' or true or '", "null")
"""Of cases, and as filters: what a statement would run that is put together from texts."""

FOUND = [path.read_bytes()[1:].decode("utf-8", "replace") for path in sorted(CORPUS.iterdir())]
"""What the fuzzer found once: some of it is read, some is not."""


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


NARROWING = [
    *(f"StudyDescription = {quoted(value)}" for value in VALUES),
    *(f"StudyDescription contains {quoted(value)}" for value in VALUES),
    *(
        f"ReferringPhysicianName in ({quoted(value)}, 'x') or not StudyDescription startswith '$'"
        for value in VALUES
    ),
    "StudyDescription like '100\\%\\_\\\\'",
    "AssignedToUser = '$user' or LockedBy = '$USER'",
]
DENYING = [
    *VALUES,
    "true or 1 = 1",
    "StudyDescription = '' or true --",
    "StudyDescription = 'x') or (c.case_id is not null",
    "case_id is not null",
    "facility_id = facility_id",
    "StudyDescription = StudyDescription",
    "exists (select from cases)",
    "true; true",
    "not",
    "pg_sleep(9) = 1",
    "StudyDescription = 'x' collate \"C\"",
    "StudyDescription like '%%%%%%'",
    "NewField = 'x' or true",
    "(" * (MAX_DEPTH + 1) + "true" + ")" * (MAX_DEPTH + 1),
    " or ".join(["true"] * (MAX_NODES + 1)),
    "true or PatientName = " + quoted("x" * MAX_CHARACTERS),
]


async def stored(access: Access, user: User, text: str) -> None:
    """However it came there: a version to come, or somebody with the power of the database."""
    async with access.database.transaction() as transaction:
        await transaction.connection.execute("update user_filters set expression = $1", text)
        await transaction.bump_users([user.id], by="ada")


async def seen(access: Access, user: User, cases: Sequence[CaseId]) -> set[CaseId]:
    """What they see, asked in each way."""
    many = await access.questions.check_many(user.login, cases)
    single = [(await access.check(user, case_id)).allowed for case_id in cases]
    listed = set(await access.worklist(user))
    assert single == [each.allowed for each in many] == [case_id in listed for case_id in cases]
    return listed


async def searched(access: Access, user: User, text: str) -> set[CaseId] | None:
    """What a search finds of what they see; None if it is refused."""
    try:
        found = await access.questions.list_cases(user.login, None, 50, Listing(where=text))
    except Invalid:
        return None
    return {shown.case_id for shown in found}


def is_read(text: str) -> bool:
    try:
        parse(text, is_of_group=True, stored=True)
    except Invalid:
        return False
    return True


@pytest.mark.proves("SEC-13")
async def test_whatever_text_is_stored_or_asked_for_it_narrows_or_it_denies(access: Access) -> None:
    facility, elsewhere = await access.facility(), await access.facility()
    cases = [await access.case(facility, described(each, referring_physician_name=each)) for each in VALUES]
    foreign = await access.case(elsewhere, described(VALUES[0], referring_physician_name=VALUES[0]))
    user, searcher = await access.user(), await access.user()
    for each in (user, searcher):
        await access.give(each, facility, PrivilegeLevel.VIEW)
    await save(access, user, "true")
    assert {True} == set(map(is_read, NARROWING))
    assert {False} == set(map(is_read, DENYING))
    shown = 0

    for text in filter(None, (*NARROWING, *DENYING, *FOUND)):
        found = await searched(access, searcher, text)
        assert is_read(text) == (found is not None), text
        assert (found or set()) <= set(cases), text
        if "\0" in text:  # PostgreSQL stores none
            continue
        await stored(access, user, text)
        assert (found or set()) == await seen(access, user, [*cases, foreign]), text
        shown += len(found or ())
    assert shown > 2 * len(VALUES), "those that narrow show something"
