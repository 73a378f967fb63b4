"""What a row of the worklist says beside the study: what may be done, what the case waits for, its priors.

The worlds are those of `test_worlds.py`, with more permissions, and shares that may be shared on. What a row
says may be done is compared with what the acts answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import timedelta
from random import Random
from typing import Any
from uuid import uuid4

import pytest

from kernel.errors import Conflict, Denied, Invalid, NotFound, ReadroomError
from kernel.ids import BucketId, CaseId, DeletionId, FacilityId
from kernel.reading import DraftState, PrivilegeLevel, ReadType
from services.access import answers
from services.access.acts import CaseAct, Rights
from services.access.buckets import Grant, Share
from services.access.caseindex import CaseSummary, ListedCase
from services.access.domain import Decision, Permission, PermissionGrant, Role, User
from services.access.places import PlaceTokens
from services.access.reading import Projection
from services.access.received import StudyAttributes
from services.access.search import NEWEST_FIRST, Place, Related
from services.access.shown import ALL_COLUMNS, Column, ShownCase, WaitsFor, columns_of, shown
from services.access.status import ReadingState
from services.reporting.sight import Sight
from tests.access.builders import a_lock, a_part, a_reading, a_study
from tests.access.conftest import ADMIN, Access, start
from tests.access.test_worlds import SESSION, Somebody, World, a_world
from tests.clocks import NOON
from wire.access.v1 import access_pb2 as pb

ALL_READ_TYPES = frozenset(ReadType)
OF_CASES = (Permission.DELETE_STUDY, Permission.ASSIGN_CASE, Permission.CREATE_SHARE, Permission.VIEW_REPORT)


# In whole worlds


async def a_world_of_acts(access: Access, random: Random) -> World:
    """One in which users may do more, and some shares may be shared on."""
    world = await a_world(access, random)
    async with access.database.transaction() as transaction:
        for one in world.people:
            wheres = [None, *one.levels]
            more = {PermissionGrant(each, random.choice(wheres)) for each in random.sample(OF_CASES, 2)}
            less = {PermissionGrant(each) for each in random.sample(OF_CASES, 1)}
            user = replace(one.user, permissions=one.user.permissions - less | more)
            await transaction.save_user(user, by=ADMIN)
            await transaction.connection.execute(
                "update privileges set read_types = $2 where user_id = $1 and level = 3",
                user.id,
                random.sample(sorted(ReadType), random.choice((0, 2))),
            )
        for bucket in world.buckets:
            assert bucket.terms is not None
            facility = world.cases[min(bucket.terms.case_ids)]["facility"]
            await transaction.connection.execute(
                "update buckets set allow_further_sharing = $2, facility_id = $3 where bucket_id = $1",
                bucket.id,
                random.random() < 0.7,
                facility,
            )
    return world


async def refusal(act: Awaitable[object]) -> ReadroomError | None:
    try:
        await act
    except ReadroomError as error:
        return error
    return None


async def shares(access: Access, one: Somebody, case_id: CaseId, parent_id: BucketId | None) -> bool:
    """Whether they may, tried with themself as recipient: that alone is refused then."""
    share = Share(
        case_ids=(case_id,),
        grants=(Grant(BucketId(uuid4()), one.user.login, two_factor=True),),
        ends_at=NOON + timedelta(minutes=1),
        write_report=False,
        allow_further_sharing=False,
        parent_id=parent_id,
    )
    refused = await refusal(access.buckets.grant_buckets(one.user.login, SESSION, share))
    assert isinstance(refused, (Invalid, Denied, NotFound, Conflict)), refused
    return isinstance(refused, Invalid) and refused.field == "recipients"


async def shares_somehow(access: Access, world: World, one: Somebody, row: ShownCase) -> bool:
    """As sharing does: by their privilege where they hold `share.create`, else by one of their buckets."""
    holds, *_ = (
        await access.questions.check_permission(one.user.login, Permission.CREATE_SHARE, row.facility_id)
        if await knows(access, one, row)
        else (False,)
    )
    decision = await access.check(one.user, row.case_id, SESSION)
    if holds and "privilege" in decision.paths:
        return await shares(access, one, row.case_id, None)
    theirs = [each.id for each in world.buckets if each.terms and each.terms.recipient_id == one.user.id]
    return any([await shares(access, one, row.case_id, each) for each in theirs])


async def knows(access: Access, one: Somebody, row: ShownCase) -> bool:
    asked_of = access.questions.check_permission(one.user.login, Permission.CREATE_SHARE, row.facility_id)
    return await refusal(asked_of) is None


async def assigns(access: Access, one: Somebody, case_id: CaseId) -> bool:
    """Whether they may, tried with nobody."""
    assign = access.assignments.assign(one.user.login, SESSION, case_id, "nobody", force=True)
    refused = await refusal(assign)
    assert isinstance(refused, (Denied, NotFound))
    return refused.field == "assignee_login"


async def deletes(access: Access, one: Somebody, case_id: CaseId) -> bool:
    begin = access.deletions.begin_delete(one.user.login, SESSION, case_id, DeletionId(uuid4()), force=False)
    return not isinstance(await refusal(begin), Denied)


def for_reporting(decision: Decision) -> Sight:
    """What reporting judges by."""
    return Sight(allowed=True, level=decision.level, side=decision.side, read_types=decision.read_types)


async def done(access: Access, world: World, one: Somebody, row: ShownCase) -> frozenset[CaseAct]:
    """What the services that serve the acts let them do."""
    decision = await access.check(one.user, row.case_id, SESSION)
    sight = for_reporting(decision)
    answers_ = {
        CaseAct.OPEN: decision.images,
        CaseAct.DRAFT: sight.level >= PrivilegeLevel.DRAFT,
        CaseAct.REPORT: any(sight.completes(each, ALL_READ_TYPES) for each in ReadType),
        CaseAct.SHARE: await shares_somehow(access, world, one, row),
        CaseAct.ASSIGN: await assigns(access, one, row.case_id),
        CaseAct.DELETE: await deletes(access, one, row.case_id),
    }
    return frozenset(act for act, may in answers_.items() if may)


def priors(world: World, seen: set[CaseId], case_id: CaseId) -> int:
    """Counted slowly, of those that are seen."""
    person = world.persons[case_id]
    return sum(
        person is not None and world.persons[each] == person and world.is_earlier(each, case_id)
        for each in seen - {case_id}
    )


def test_a_row_says_what_the_acts_answer_and_counts_the_priors_that_are_seen(
    fresh_database: Callable[[str], str],
) -> None:
    met: dict[CaseAct, set[bool]] = {each: set() for each in CaseAct}
    counted = set()

    async def try_it(seed: int) -> None:
        random = Random(seed)
        async for access in start(fresh_database("access")):
            world = await a_world_of_acts(access, random)
            for one in world.people:
                rows = await access.questions.list_cases(one.user.login, None, 100, session=SESSION)
                seen = {row.case_id for row in rows}
                for row in rows:
                    assert priors(world, seen, row.case_id) == row.prior_count, (one, row)
                    counted.add(row.prior_count)
                for row in random.sample(rows, min(4, len(rows))):
                    answered = await done(access, world, one, row)
                    assert answered == row.may, (one, row)
                    for each in CaseAct:
                        met[each].add(each in answered)

    for seed in range(4):
        asyncio.run(try_it(seed))
    assert all(each == {False, True} for each in met.values()), met
    assert len(counted) > 2, "there are priors"


async def test_a_share_that_has_ended_is_not_shared_on_whatever_another_one_shows(access: Access) -> None:
    facility, user = await access.facility(), await access.user(Role.REFERRING_PHYSICIAN)
    case_id = await access.case(facility)
    await access.share(user, case_id, facility_id=facility.id)
    ended = {"allow_further_sharing": True, "facility_id": facility.id, "ends_at": NOON - timedelta(hours=1)}
    await access.share(user, case_id, **ended)

    async def may() -> frozenset[CaseAct]:
        return (await access.questions.describe_case(user.login, case_id)).may

    assert {CaseAct.OPEN} == await may()
    await access.share(user, case_id, **ended | {"ends_at": None})
    assert {CaseAct.OPEN, CaseAct.SHARE} == await may()


# Columns


async def a_full_case(access: Access, user: User) -> CaseId:
    """One with something in each column, beside an older one of the same patient."""
    facility = await access.facility("North")
    await access.give(user, facility, PrivilegeLevel.REPORT, read_types=[ReadType.FINAL])
    attributes = StudyAttributes(
        **{each.name: f"{number}" for number, each in enumerate(fields(StudyAttributes))}
    )
    attributes = replace(attributes, patient_birth_date="19700131", study_date="20261101")
    older = a_study(a_part(), attributes=replace(attributes, study_date="20260101"), in_full=True)
    await access.case(facility, older)
    parts = a_part(modalities=("CT", "MR"), modalities_left_out=2, instance_count=9)
    study = a_study(
        parts, attributes=attributes, in_full=True, calling_ae_title="AE", gateway_id=uuid4(), settled=True
    )
    notes = ("patient_name",)
    case_id = await access.case(
        facility, study, undistributed=True, another_patient_held=1, written_differently=notes
    )
    await access.query(
        "update cases set assignee_id = $1, assigned_at = now(), priority = 2 where case_id = $2",
        user.id,
        case_id,
    )
    reported = Projection(
        ReadingState.REOPENED, a_lock(), frozenset({ReadType.FINAL}), NOON, 5, waits_since=NOON
    )
    await access.hear(a_reading(case_id, reported))
    await access.query("update readings set images_since = $1", NOON)
    return case_id


async def test_a_column_says_the_same_alone_and_no_other_is_answered(access: Access) -> None:
    user = await access.user()
    case_id = await a_full_case(access, user)

    whole = answers.a_case(await access.questions.describe_case(user.login, case_id))
    for column in Column:
        assert column in {field.name for field, _ in whole.ListFields()}, column
        [alone, *_] = await access.questions.list_cases(
            user.login, None, 5, replace(NEWEST_FIRST, where="StudyDate > '2026-10-31'"), frozenset({column})
        )
        row = answers.a_case(alone, frozenset({column}))
        assert {"case_id", column} == {field.name for field, _ in row.ListFields()}
        assert getattr(whole, column) == getattr(row, column), column


def test_every_field_of_a_case_is_a_column() -> None:
    assert {each.name for each in pb.Case.DESCRIPTOR.fields} == {"case_id", *Column}
    assert ALL_COLUMNS == columns_of([])
    assert frozenset() == columns_of(["case_id"])
    with pytest.raises(Invalid, match="the columns are: case_id facility_id"):
        columns_of(["case_id", "name"])


# One case, and those beside it


async def told(access: Access, user: User, *questions: Callable[[CaseId], Awaitable[object]]) -> set[str]:
    """What a user is answered of a case that they do not see, and of one that is absent."""
    unseen, absent = await access.case(await access.facility()), CaseId(uuid4())
    said = set()
    for case_id in (unseen, absent):
        for question in questions:
            refused = await refusal(question(case_id))
            assert isinstance(refused, NotFound)
            said.add(f"{refused.sentence.replace(str(case_id), 'ID')} {refused.field}")
    return said


async def test_a_case_that_is_not_seen_is_answered_like_an_absent_one(access: Access) -> None:
    user = await access.user()
    login = user.login

    assert {"there is no case `ID`, or you do not see it case_id"} == await told(
        access,
        user,
        lambda each: access.questions.describe_case(login, each),
        lambda each: access.questions.list_related_cases(login, each, None, 5),
    )


async def a_study_of(access: Access, facility: Any, day: str, **said: str) -> CaseId:
    attributes = StudyAttributes(
        patient_name="Doe^Jane", patient_id="P", patient_birth_date="19700131", study_date=day, **said
    )
    return await access.case(facility, a_study(attributes=attributes, in_full=True))


@pytest.mark.proves("A7", part="related cases")
async def test_related_are_the_cases_of_the_patient_that_are_seen_the_latest_study_first(
    access: Access,
) -> None:
    north, south, unseen = [await access.facility(name) for name in ("North", "South", "Unseen")]
    user = await access.user()
    for facility in (north, south, unseen):
        await access.give(access.admin, facility, PrivilegeLevel.VIEW)
        if facility != unseen:
            await access.give(user, facility, PrivilegeLevel.VIEW)
    days = ["20260301", "", "20260101", "20260301", "20251231"]
    of_jane = [await a_study_of(access, north, day) for day in days]
    elsewhere = await a_study_of(access, south, "20260201")
    never_seen = await a_study_of(access, unseen, "20260202")
    asked_of = of_jane[0]

    async def related() -> list[CaseId]:
        """Page by page."""
        found: list[CaseId] = []
        place = None
        while True:
            page = await access.questions.list_related_cases(user.login, asked_of, place, 2)
            found += [case.case_id for case in page]
            if len(page) < 2:
                return found
            place = page[-1].place

    assert [of_jane[3], of_jane[2], of_jane[4], of_jane[1]] == await related()
    for linked in (elsewhere, never_seen):
        await access.linking.link_patients(ADMIN, SESSION, asked_of, linked, preview=False)
    assert [of_jane[3], elsewhere, of_jane[2], of_jane[4], of_jane[1]] == await related()
    rows = await access.questions.list_cases(user.login, None, 50)
    assert {row.case_id: row.prior_count for row in rows} == {
        of_jane[0]: 5,
        of_jane[1]: 0,
        of_jane[2]: 2,
        of_jane[3]: 5,
        of_jane[4]: 1,
        elsewhere: 3,
    }


def test_a_token_of_a_related_case_counts_for_its_user_and_case_alone() -> None:
    tokens, place = PlaceTokens("k" * 32), Place("2026-11-01", CaseId(uuid4()))
    one, other = Related(CaseId(uuid4())), Related(CaseId(uuid4()))
    token = tokens.token(place, "jane", one)

    assert place == tokens.place(token, "jane", one)
    for login, asked in (("john", one), ("jane", other), ("jane", NEWEST_FIRST)):
        with pytest.raises(Invalid):
            tokens.place(token, login, asked)


# What a case waits for

READ_ONCE, LATER = NOON + timedelta(hours=1), NOON + timedelta(hours=2)


def a_projection(state: ReadingState = ReadingState.UNREAD, **more: Any) -> Projection:
    return Projection(state, **more)


WAITING: Sequence[tuple[str, Mapping[str, Any], Projection, tuple[WaitsFor | None, Any]]] = [
    ("images arrive", {"settled": False}, a_projection(), (WaitsFor.IMAGES, NOON)),
    ("all have come", {}, a_projection(), (WaitsFor.READING, NOON)),
    ("it is at its hub", {"undistributed": True}, a_projection(), (WaitsFor.DISTRIBUTION, NOON)),
    ("it is drafted", {}, a_projection(draft=DraftState.DICTATED), (WaitsFor.SIGNATURE, NOON)),
    ("it is typed", {}, a_projection(draft=DraftState.TRANSCRIBED), (WaitsFor.SIGNATURE, NOON)),
    ("it is read", {}, a_projection(ReadingState.FINAL), (None, None)),
    ("it was read once", {}, a_projection(ReadingState.PRELIMINARY, waits_since=READ_ONCE), (None, None)),
    (
        "it was read once, and is drafted again",
        {},
        a_projection(ReadingState.PRELIMINARY, draft=DraftState.DICTATED, waits_since=READ_ONCE),
        (WaitsFor.SIGNATURE, READ_ONCE),
    ),
    (
        "it was reopened",
        {},
        a_projection(ReadingState.REOPENED, waits_since=LATER),
        (WaitsFor.READING, LATER),
    ),
    ("nobody knows when", {}, a_projection(ReadingState.REOPENED), (WaitsFor.READING, None)),
]


@pytest.mark.parametrize(
    ("changes", "reading", "expected"), [pytest.param(*each, id=name) for name, *each in WAITING]
)
def test_what_a_case_waits_for(
    changes: Mapping[str, bool], reading: Projection, expected: tuple[Any, Any]
) -> None:
    summary = CaseSummary(StudyAttributes(), (), 1, 1, changes.get("settled", True))
    case = ListedCase(
        case_id=CaseId(uuid4()),
        facility_id=FacilityId(uuid4()),
        facility_name="North",
        received_at=NOON,
        study_instance_uid="1.2",
        undistributed=changes.get("undistributed", False),
        summary=summary,
        reading=reading,
    )

    row = shown(case, Rights(PrivilegeLevel.VIEW, frozenset()), NOON)
    assert expected == (row.waits_for, row.waits_since)
