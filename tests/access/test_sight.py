"""What users ask, on PostgreSQL."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from itertools import product
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kernel.errors import Invalid, NotFound, Unauthenticated, Unavailable
from kernel.ids import CaseId, FacilityId
from kernel.reading import PrivilegeLevel
from services.access.caseindex import ListedCase
from services.access.casequery import seen_by
from services.access.domain import NO_SIGHT, ConfirmedStudy, Path, Permission, PermissionGrant, Role, User
from services.access.explain import Reason
from services.access.filter.demand import ANYTHING
from services.access.received import FIRST_PART
from services.access.search import Listing, Order
from services.access.shapes import window_of
from services.access.usecases import Questions
from services.access.walking import By, Way, Window
from tests.access.builders import (
    PrivilegeCase,
    a_bucket,
    a_placement,
    a_study,
    a_user,
    confirmed,
    privilege_cases,
)
from tests.access.conftest import ADMIN, Access, start
from tests.clocks import NOON


@pytest.mark.parametrize("case", privilege_cases())
async def test_check_and_list_answer_what_the_user_may_do(access: Access, case: PrivilegeCase) -> None:
    north = await access.facility("North", "Europe/Amsterdam")
    south = await access.facility("South", "America/New_York")
    places = {"North": north.id, "South": south.id}
    home: dict[str, Any] = {"home_facility_id": south.id} if case.role is Role.FACILITY_MANAGER else {}
    user = await access.user(case.role, permissions=case.permissions(places), **home)
    for facility, privilege in ((north, case.privilege()), (south, case.privilege("elsewhere"))):
        if privilege:
            await access.users.save_privilege(ADMIN, user.id, facility.id, privilege)
    case_id = await access.case(north)
    if case.entry.get("grant"):
        await access.folders.grant_case(ADMIN, case_id, user.id)
    if case.entry.get("folder"):
        await access.folders.put_in_folder(ADMIN, await access.folder(user), case_id)
    if share := case.entry.get("share"):
        await access.share(user, case_id, write_report=share == "write")
    access.clock.at = case.now

    decision = await access.check(user, case_id)
    (again,) = await access.questions.check_many(user.login, [case_id])
    listed = await access.questions.list_cases(user.login, None, 10, at_least=0)

    if case.expected is None:
        assert [NO_SIGHT, NO_SIGHT, []] == [decision, again, listed]
        return
    assert case.expected["level"] == decision.level.name.lower()
    assert [case.expected["images"], case.expected["reports"]] == [decision.images, decision.reports]
    assert set(case.expected["read_types"]) == decision.read_types
    assert case.expected["ways"] == list(decision.paths)
    assert decision.facility_id == north.id
    assert decision.images == bool(decision.studies)
    assert (decision.level, decision.paths, ()) == (again.level, again.paths, again.studies)
    assert [(case_id, decision.level)] == [(each.case_id, each.level) for each in listed]


# Check and list agree, whatever the world looks like


async def a_world(access: Access, random: Random) -> tuple[list[User], list[CaseId]]:
    """Facilities, users of any role, privileges, cases, grants and folders at random, by SQL alone."""
    facilities = [await access.facility() for _ in range(random.randint(1, 4))]
    users = [
        await access.user(
            random.choice([role for role in Role if role is not Role.FACILITY_MANAGER]),
            active=random.random() < 0.9,
        )
        for _ in range(4)
    ]
    cases = [
        await access.case(
            random.choice(facilities),
            # Several are received at the same instant, so that the id decides their order.
            a_study(received_at=NOON + timedelta(minutes=random.randint(0, 5))),
        )
        for _ in range(random.randint(0, 20))
    ]
    folders = [await access.folder(*random.sample(users, 2), name=str(uuid4())) for _ in range(2)]
    async with access.database.transaction() as transaction:
        for user in users:
            for facility in facilities:
                level = random.choice(list(PrivilegeLevel))
                if level is not PrivilegeLevel.NONE:
                    await transaction.connection.execute(
                        "insert into privileges values ($1, $2, $3, null, '{}')", user.id, facility.id, level
                    )
            for case_id in cases:
                if random.random() < 0.15:
                    await transaction.grant_case(user.id, case_id)
            for _ in range(random.randint(0, 3)):
                shared = random.sample(cases, min(len(cases), 3))
                await transaction.save_buckets([a_bucket(user, *shared, **a_fate(random))])
        for folder_id in folders:
            for case_id in random.sample(cases, len(cases) // 4):
                await transaction.put_in_folder(folder_id, case_id)
        await transaction.bump_users([user.id for user in users], by="ada")
    return users, cases


def a_fate(random: Random) -> dict[str, Any]:
    """How a bucket may stand: it has ended, is closed, or asks for a code, or gives sight."""
    return {
        "is_open": random.random() < 0.8,
        "ends_at": NOON + timedelta(hours=random.choice([-1, 0, 1])) if random.random() < 0.5 else None,
        "two_factor": random.random() < 0.3,
        "write_report": random.random() < 0.5,
    }


async def everything(access: Access, user: User, page: int, **only: FacilityId) -> list[ListedCase]:
    """The worklist, page by page."""
    seen: list[ListedCase] = []
    after = None
    while True:
        listed = await access.questions.list_cases(
            user.login, after, page, Listing(facility_id=only.get("facility_id"))
        )
        seen += listed
        if len(listed) < page:
            return seen
        after = seen[-1].place


@pytest.mark.proves("ACC-3")
@pytest.mark.proves("ACC-4")
@pytest.mark.proves("ACC-5")
@pytest.mark.proves("BEY-1", part="one evaluation")
def test_the_worklist_is_exactly_what_check_allows(fresh_database: Any) -> None:
    @settings(max_examples=15)
    @given(st.integers(0, 2**32), st.integers(1, 7))
    @example(3100225, 3)  # cases in two folders
    def agree(seed: int, page: int) -> None:
        async def try_it() -> None:
            async for access in start(fresh_database("access")):
                users, cases = await a_world(access, Random(seed))
                for user in users:
                    if not user.active:
                        with pytest.raises(Unauthenticated):
                            await access.worklist(user)
                        continue
                    checked = await access.questions.check_many(user.login, cases) if cases else []
                    allowed = {case_id for case_id, each in zip(cases, checked, strict=True) if each.allowed}
                    for case_id, each in list(zip(cases, checked, strict=True))[:5]:
                        told = await access.explaining.explain(ADMIN, user.id, case_id)
                        assert (told.decision.level, told.decision.paths) == (each.level, each.paths)
                        is_open = [path.path for path in told.paths if path.reason is Reason.OPEN]
                        assert is_open == list(each.paths)
                    listed = await everything(access, user, page)
                    order = [(case.received_at, case.case_id) for case in listed]
                    assert order == sorted(set(order), reverse=True)
                    assert {case.case_id for case in listed} == allowed
                    for facility_id in access.owners.facilities:
                        there = await everything(access, user, page, facility_id=FacilityId(facility_id))
                        assert there == [case for case in listed if case.facility_id == facility_id]

        asyncio.run(try_it())

    agree()


# Absent, unseen and unknown


async def test_a_case_that_is_absent_and_one_that_is_unseen_answer_alike(access: Access) -> None:
    user = await access.user()
    unseen = await access.case(await access.facility())

    assert NO_SIGHT == await access.check(user, unseen)
    assert NO_SIGHT == await access.check(user, CaseId(uuid4()))


@pytest.mark.parametrize(
    "login", ["nobody", "", "$user", "o'brien", "a\0b", "x" * 10_000, "ada'; drop table users--"]
)
async def test_who_is_not_a_user_is_nobody(access: Access, login: str) -> None:
    for question in (
        access.questions.check(login, CaseId(uuid4()), images=False, at_least=0),
        access.questions.check_many(login, [CaseId(uuid4())]),
        access.questions.check_permission(login, Permission.VIEW_IMAGES, None),
        access.questions.list_cases(login, None, 10, at_least=0),
        access.users.list_users(login, "", 10),
        access.folders.grant_case(login, CaseId(uuid4()), access.admin.id),
    ):
        with pytest.raises(Unauthenticated, match="there is no active user with this login"):
            await question


async def test_who_was_deactivated_is_nobody_from_that_moment(access: Access) -> None:
    user = await access.user()
    assert NO_SIGHT == await access.check(user, CaseId(uuid4()))

    async with access.database.transaction() as transaction:
        await transaction.save_user(a_user(id=user.id, login=user.login, active=False, version=2), by="ada")

    with pytest.raises(Unauthenticated):
        await access.check(user, CaseId(uuid4()))


async def test_a_login_is_found_without_regard_to_case(access: Access) -> None:
    user = await access.user(login="jane")
    case_id = await access.case(facility := await access.facility())
    await access.give(user, facility, PrivilegeLevel.VIEW)

    decision, _ = await access.questions.check("JANE", case_id, images=False, at_least=0)

    assert decision.allowed


# The version guard


@pytest.mark.proves("ACC-3")
@pytest.mark.parametrize("question", ["check", "check_many", "list", "permission"])
async def test_what_was_compiled_before_a_change_counts_for_nothing_after_it(
    access: Access, question: str
) -> None:
    """Another instance of access changes the user: this one hears nothing and must not need to."""
    facility = await access.facility()
    user = await access.user()
    case_id = await access.case(facility)
    await access.give(user, facility, PrivilegeLevel.VIEW)

    async def sees() -> bool:
        match question:
            case "check":
                return (await access.check(user, case_id)).allowed
            case "check_many":
                return (await access.questions.check_many(user.login, [case_id]))[0].allowed
            case "list":
                return await access.worklist(user) == [case_id]
            case _:
                with suppress(NotFound):  # as for a facility that does not exist
                    held = await access.questions.check_permission(
                        user.login, Permission.VIEW_IMAGES, facility.id
                    )
                    return held[0]
                return False

    assert await sees()
    other_instance = access.database
    async with other_instance.transaction() as transaction:
        await transaction.connection.execute("delete from privileges")
        await transaction.connection.execute("delete from permissions where user_id = $1", user.id)
        await transaction.bump_users([user.id], by="ada")

    assert not await sees()


@pytest.mark.proves("ACC-3")
async def test_a_privilege_revoked_between_compiling_and_asking_is_not_used(access: Access) -> None:
    facility = await access.facility()
    user = await access.user()
    case_id = await access.case(facility)
    await access.give(user, facility, PrivilegeLevel.REPORT)

    class RevokingAfterwards(Questions):
        async def _compile(self, statements: Any, login: str) -> Any:
            compiled = await super()._compile(statements, login)
            if compiled.facilities:
                await access.give(user, facility, PrivilegeLevel.NONE)
            return compiled

    sight = RevokingAfterwards(access.database, access.clock)

    decision, _ = await sight.check(user.login, case_id, images=False, at_least=0)
    assert not decision.allowed
    await access.give(user, facility, PrivilegeLevel.REPORT)
    assert [] == await sight.list_cases(user.login, None, 10, at_least=0)


async def test_a_user_who_never_stops_changing_is_told_to_come_back(access: Access) -> None:
    user = await access.user()

    class Restless(Questions):
        async def _compile(self, statements: Any, login: str) -> Any:
            compiled = await super()._compile(statements, login)
            async with access.database.transaction() as transaction:
                await transaction.bump_users([user.id], by="ada")
            return compiled

    with pytest.raises(Unavailable):
        await Restless(access.database, access.clock).check(
            user.login, CaseId(uuid4()), images=False, at_least=0
        )


async def test_a_revision_that_has_not_arrived_is_not_guessed(access: Access) -> None:
    user = await access.user()
    revision = await access.revision()

    _, decided_on = await access.questions.check(user.login, CaseId(uuid4()), images=False, at_least=revision)
    assert revision == decided_on
    with pytest.raises(Unavailable):
        await access.questions.check(user.login, CaseId(uuid4()), images=False, at_least=revision + 1)
    with pytest.raises(Unavailable):
        await access.questions.list_cases(user.login, None, 10, at_least=revision + 1)


async def test_only_so_many_users_are_kept_compiled(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.access.usecases.MAX_COMPILED_USERS", 2)
    for user in [await access.user() for _ in range(4)]:
        await access.check(user, CaseId(uuid4()))

    assert 2 == len(access.questions._compiled)


# Images and their studies


async def test_the_studies_of_a_case_are_told_only_when_images_are_asked_for_and_allowed(
    access: Access,
) -> None:
    facility = await access.facility()
    with_images = await access.user()
    without = await access.user(Role.REFERRING_PHYSICIAN)
    for user in (with_images, without):
        await access.give(user, facility, PrivilegeLevel.VIEW)
    whole, partly = a_study(), a_study(("1.1", "CT", 3), ("1.2", "CT", 4))
    placed = {confirmed(whole, *whole.parts), ConfirmedStudy(partly.id, ("1.1",), (FIRST_PART,))}
    placement = a_placement(facility.id, *placed)
    await access.hear(whole, partly, placement)

    async def studies(user: User, *, images: bool) -> set[ConfirmedStudy]:
        decision, _ = await access.questions.check(user.login, placement.case_id, images=images, at_least=0)
        return set(decision.studies)

    assert placed == await studies(with_images, images=True)
    assert set() == await studies(with_images, images=False)
    assert set() == await studies(without, images=True)


# Many, and pages


async def test_a_thousand_cases_are_checked_in_the_order_asked(access: Access) -> None:
    facility = await access.facility()
    user = await access.user()
    await access.give(user, facility, PrivilegeLevel.VIEW)
    seen = await access.case(facility)
    hidden = await access.case(await access.facility())
    asked = [seen, hidden, CaseId(uuid4()), seen] * 250

    decisions = await access.questions.check_many(user.login, asked)

    assert [True, False, False, True] * 250 == [decision.allowed for decision in decisions]


@pytest.mark.parametrize("count", [0, 1001])
async def test_neither_none_nor_more_than_a_thousand(access: Access, count: int) -> None:
    with pytest.raises(Invalid) as refused:
        await access.questions.check_many(ADMIN, [CaseId(uuid4())] * count)

    assert refused.value.field == "case_ids"


async def test_pages_stay_complete_while_cases_arrive(access: Access) -> None:
    facility = await access.facility()
    user = await access.user()
    await access.give(user, facility, PrivilegeLevel.VIEW)

    async def arrive(minute: int) -> CaseId:
        return await access.case(facility, a_study(received_at=NOON + timedelta(minutes=minute)))

    before = [await arrive(minute) for minute in range(0, 40, 2)]
    seen: list[CaseId] = []
    after = None
    for number in range(100):
        listed = await access.questions.list_cases(user.login, after, 3, at_least=0)
        seen += [case.case_id for case in listed]
        if len(listed) < 3:
            break
        after = listed[-1].place
        await arrive(100 + number)  # on top
        await arrive(2 * number + 1)  # somewhere in the middle

    assert set(before) <= set(seen)
    assert len(seen) == len(set(seen))


async def test_the_worklist_of_one_facility(access: Access) -> None:
    north, south = await access.facility(), await access.facility()
    user = await access.user()
    await access.give(user, north, PrivilegeLevel.VIEW)
    here, granted, in_folder = await access.case(north), await access.case(south), await access.case(south)
    await access.folders.grant_case(ADMIN, granted, user.id)
    await access.folders.put_in_folder(ADMIN, await access.folder(user), in_folder)

    assert [here] == await access.worklist(user, facility_id=north.id)
    assert {granted, in_folder} == set(await access.worklist(user, facility_id=south.id))
    assert [] == await access.worklist(user, facility_id=FacilityId(uuid4()))


# Permissions


async def test_a_permission_is_held_everywhere_or_singly(access: Access) -> None:
    north, south = await access.facility(), await access.facility()
    user = await access.user(
        permissions=frozenset(
            {
                PermissionGrant(Permission.UPLOAD_STUDY),
                PermissionGrant(Permission.DELETE_STUDY, north.id),
            }
        )
    )

    await access.give(user, south, PrivilegeLevel.VIEW)
    stranger = await access.facility()

    async def holds(permission: Permission, facility_id: FacilityId | None) -> tuple[bool, set[UUID]]:
        allowed, singly, *_ = await access.questions.check_permission(user.login, permission, facility_id)
        return allowed, set(singly)

    assert (True, set()) == await holds(Permission.UPLOAD_STUDY, None)
    assert (True, set()) == await holds(Permission.UPLOAD_STUDY, south.id)
    assert (False, {north.id}) == await holds(Permission.DELETE_STUDY, None)
    assert (True, set()) == await holds(Permission.DELETE_STUDY, north.id)
    assert (False, set()) == await holds(Permission.DELETE_STUDY, south.id)
    for unknown in (FacilityId(uuid4()), stranger.id):
        with pytest.raises(NotFound) as refusal:
            await holds(Permission.UPLOAD_STUDY, unknown)
        assert refusal.value.field == "facility_id"


async def test_what_is_asked_leaves_no_audit_row(access: Access) -> None:
    before = await access.audited()

    await access.check(access.admin, CaseId(uuid4()))
    await access.questions.check_many(ADMIN, [CaseId(uuid4())])
    await access.questions.check_permission(ADMIN, Permission.ADMINISTER_ACCESS, None)
    await access.worklist(access.admin)

    assert before == await access.audited()


async def test_a_case_seen_by_several_ways_is_listed_once(access: Access) -> None:
    facility = await access.facility()
    user = await access.user()
    case_id = await access.case(facility)
    await access.give(user, facility, PrivilegeLevel.REPORT)
    await access.folders.grant_case(ADMIN, case_id, user.id)
    for name in ("one", "other"):
        await access.folders.put_in_folder(ADMIN, await access.folder(user, name=name), case_id)

    assert [case_id] == await access.worklist(user)
    assert (Path.PRIVILEGE, Path.GRANT, Path.FOLDER) == (await access.check(user, case_id)).paths


async def test_a_case_in_several_folders_takes_one_place_on_a_page(access: Access) -> None:
    facility = await access.facility()
    user = await access.user()
    cases = [
        await access.case(facility, a_study(received_at=NOON + timedelta(minutes=minute)))
        for minute in range(4)
    ]
    for name in ("one", "other"):
        folder_id = await access.folder(user, name=name)
        for case_id in cases:
            await access.folders.put_in_folder(ADMIN, folder_id, case_id)

    assert cases[:0:-1] == await access.worklist(user, limit=3)


# What serves a page


NAMES_OF_ORDERS = {
    Order.RECEIVED: "",
    Order.STUDY_DATE: "_by_study",
    Order.PATIENT_NAME: "_by_name",
    Order.PRIORITY: "_by_priority",
}
OF_FACILITIES = {
    Order.RECEIVED: "cases_by_facility",
    Order.STUDY_DATE: "cases_by_study",
    Order.PATIENT_NAME: "cases_by_patient_name",
    Order.PRIORITY: "cases_by_priority",
}
OF_ALL = {
    Order.RECEIVED: "cases_in_order_of_receipt",
    Order.STUDY_DATE: "cases_in_order_of_study",
    Order.PATIENT_NAME: "cases_in_order_of_name",
    Order.PRIORITY: "cases_in_order_of_priority",
}
OF_SHOWINGS = {
    "case_grants": "case_grants_by_user",
    "folder_cases": "folder_cases_by_folder",
    "bucket_cases": "bucket_cases_by_bucket",
}


async def test_each_path_of_the_worklist_is_served_by_its_index_in_order(access: Access) -> None:
    """However many cases there are, a window reads no more than a window of each path."""
    facilities = [await access.facility() for _ in range(3)]
    user = await access.user()
    for facility in facilities:
        await access.give(user, facility, PrivilegeLevel.VIEW)
    folder_id = await access.folder(user)
    template = await access.case(facilities[0])
    async with access.database.transaction() as transaction:
        execute = transaction.connection.execute
        await execute("alter table cases alter column case_id set default gen_random_uuid()")
        columns = (
            "study_instance_uid, undistributed, placed_at, placement_version, patient_name, patient_id, "
            "patient_birth_date, patient_sex, study_date, study_time, study_description, accession_number, "
            "referring_physician_name, modalities_in_study, series_count, instance_count, settled, version"
        )
        await execute(
            f"""insert into cases (facility_id, received_at, status_group, assignee_id, {columns})
            select ($2::uuid[])[1 + n % 3], received_at + n * interval '1 second',
                case when n % 40 = 0 then 'ASSIGNED' else 'READ' end, case when n % 40 = 0 then $3::uuid end,
                {columns}
            from cases, generate_series(1, 6000) n where case_id = $1""",
            template,
            [facility.id for facility in facilities],
            user.id,
        )
        shown = "select case_id, received_at from cases"
        await execute(
            "insert into case_grants (case_id, user_id, received_at)"
            f" select case_id, $1, received_at from ({shown}) c",
            user.id,
        )
        await execute(
            f"insert into folder_cases (folder_id, case_id, received_at) select $1, * from ({shown}) c",
            folder_id,
        )
        await transaction.save_buckets([a_bucket(user) for _ in range(20)])
        await execute(
            f"""insert into bucket_cases (bucket_id, user_id, case_id, received_at)
            select bucket_id, user_id, case_id, received_at from ({shown}) c
            cross join (select *, row_number() over () as number from buckets) b
            where number = 1 or case_id in (select case_id from cases limit 3)"""
        )
        await execute("analyze")
    every = tuple(facility.id for facility in facilities)
    async with access.database.statements() as statements:
        compiled = await statements.compiled_user(user.login)
        assert compiled is not None
        for order, descending in product(Order, (True, False)):
            name = NAMES_OF_ORDERS[order]
            ways = {
                OF_FACILITIES[order]: Way(By.FACILITY, every, (51, 51, 51)),
                OF_ALL[order]: Way(By.ALL, (), (51,)),
                f"cases_unread_by_group{name}": Way(By.FACILITY, every, (51, 51, 51), unread=True),
                f"cases_by_assignee{name}": Way(By.ASSIGNEE, (user.id,), (51,)),
            }
            for index, way in ways.items():
                cases = seen_by(compiled, NOON)
                window = Window(None, 51, 51, way, None, ANYTHING)
                statement = window_of(cases, Listing(order, descending), window, "")
                rows = await statements.connection.fetch(
                    f"explain (analyze, format text) {statement}", *cases.parameters
                )
                plan = "\n".join(row[0] for row in rows)
                of_showings = [f"{table}{name}" if name else by for table, by in OF_SHOWINGS.items()]
                assert [] == [each for each in (index, *of_showings) if f"{each} on " not in plan], plan
                assert "Seq Scan on cases" not in plan
                assert "Sort Method: external" not in plan
                offered = [part.split("rows=")[1].split(" ")[0] for part in plan.split("actual time")[1:]]
                assert max(map(float, offered)) <= 8 * 51, plan
