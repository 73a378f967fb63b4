"""How far a case was read: two projections, heard in any order, of which a user is answered one."""

from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import permutations

import pytest

from kernel.errors import Invalid
from kernel.ids import CaseId
from kernel.reading import PrivilegeLevel, ReadType, Side
from services.access.administration import HeldPrivilege
from services.access.caseindex import ListedCase, Placement
from services.access.domain import Facility, Role, User
from services.access.reading import NOT_READ, Projection, Reading
from services.access.status import ReadingState
from tests.access.builders import a_lock, a_placement, a_reading, a_study
from tests.access.conftest import ADMIN, Access
from tests.clocks import NOON
from tests.healing import heal

PRE_READ = Projection(read_types=frozenset({ReadType.PRE_READ}), reported_at=NOON)
FINAL = Projection(ReadingState.FINAL, None, frozenset({ReadType.FINAL}), NOON)
ALL_TYPES = frozenset(ReadType)


async def both_sides(access: Access, facility: Facility) -> tuple[User, User]:
    """Somebody of the group, and somebody of the facility."""
    radiologist, physician = await access.user(), await access.user(Role.REFERRING_PHYSICIAN)
    for user in (radiologist, physician):
        await access.give(user, facility, PrivilegeLevel.VIEW)
    return radiologist, physician


async def shown(access: Access, user: User) -> ListedCase:
    (case,) = await access.questions.list_cases(user.login, None, 10, at_least=0)
    return case


async def test_both_sides_are_told_since_when_a_case_is_locked(access: Access) -> None:
    """Where access of the version before has written the row since, nobody knows."""
    facility = await access.facility()
    sides = await both_sides(access, facility)
    case_id = await access.case(facility)
    lock = a_lock()
    await access.hear(a_reading(case_id, Projection(lock=lock)))

    assert [lock.since] * 2 == [since(await shown(access, each)) for each in sides]
    await access.query("update readings set version = version + 1")
    assert [None] * 2 == [since(await shown(access, each)) for each in sides]


def since(case: ListedCase) -> datetime | None:
    assert case.reading.lock is not None
    return case.reading.lock.since


# StudyStatusID


async def test_each_side_has_the_status_that_it_sees(access: Access) -> None:
    facility = await access.facility()
    radiologist, physician = await both_sides(access, facility)
    case_id = await access.case(facility, a_study(settled=True))
    assert "READY_TO_READ" == (await shown(access, radiologist)).study_status_id

    await access.hear(a_reading(case_id, group=PRE_READ, facility=NOT_READ))

    # A pre-read makes nothing read (A33).
    assert ("READY_TO_READ", PRE_READ) == (
        (case := await shown(access, radiologist)).study_status_id,
        case.reading,
    )
    assert ("READY_TO_READ", NOT_READ) == (
        (case := await shown(access, physician)).study_status_id,
        case.reading,
    )


# What is heard


@pytest.mark.parametrize("order", list(permutations(range(4))))
async def test_readings_heard_in_any_order_and_again_end_alike(
    access: Access, order: tuple[int, ...]
) -> None:
    """Older snapshots come when owners answer slowly, or from a backup; the case itself comes at any time."""
    facility = await access.facility()
    radiologist, physician = await both_sides(access, facility)
    study = a_study(settled=True)
    placement = a_placement(facility.id, study)
    case_id = placement.case_id
    newest = a_reading(case_id, replace(FINAL, read_types=ALL_TYPES), FINAL, version=3)
    told: list[Reading | Placement] = [
        a_reading(case_id, replace(PRE_READ, lock=a_lock()), replace(NOT_READ, lock=a_lock()), version=1),
        a_reading(case_id, PRE_READ, NOT_READ, version=2),
        newest,
        placement,
    ]
    access.owners.add(study)

    for index in (*order, *order):
        await access.hear(told[index])

    assert newest.projections[Side.GROUP] == (await shown(access, radiologist)).reading
    assert newest.projections[Side.FACILITY] == (await shown(access, physician)).reading


async def test_a_reading_as_new_as_the_known_one_changes_nothing(access: Access) -> None:
    facility = await access.facility()
    radiologist, _ = await both_sides(access, facility)
    case_id = await access.case(facility)
    await access.hear(a_reading(case_id, FINAL, version=2))

    for version in (2, 1):
        await access.hear(a_reading(case_id, NOT_READ, version=version))

    assert FINAL == (await shown(access, radiologist)).reading


async def test_a_reading_before_its_case_waits_for_it(access: Access) -> None:
    facility = await access.facility()
    radiologist, physician = await both_sides(access, facility)
    study = a_study(settled=True)
    placement = a_placement(facility.id, study)

    await access.hear(a_reading(placement.case_id, FINAL))
    assert [] == await access.worklist(radiologist)
    await access.hear(study, placement)

    for user in (radiologist, physician):
        assert FINAL == (await shown(access, user)).reading


async def test_of_what_reporting_no_longer_knows_nothing_is_written(access: Access) -> None:
    facility = await access.facility()
    case_id = await access.case(facility)

    reading = await access.index.fetch_reading(case_id)
    async with access.database.transaction() as transaction:
        await access.index.index_reading(transaction, reading)

    assert [] == await access.query("select * from readings")


async def test_with_a_case_goes_what_is_known_of_its_reading(access: Access) -> None:
    facility = await access.facility()
    case_id, other = await access.case(facility), await access.case(facility)
    await access.hear(a_reading(case_id, FINAL), a_reading(other, FINAL))
    del access.owners.placements[case_id]

    snapshots = await access.index.fetch_case(case_id)
    async with access.database.transaction() as transaction:
        await access.index.index_case(transaction, case_id, snapshots)

    assert {other} == {row["case_id"] for row in await access.query("select * from readings")}


async def test_a_reading_that_no_fact_told_heals(access: Access) -> None:
    facility = await access.facility()
    radiologist, _ = await both_sides(access, facility)
    case_id = await access.case(facility)
    access.owners.add(a_reading(case_id, PRE_READ, NOT_READ))

    assert 1 == await heal(access.database, access.index.kinds())
    assert PRE_READ == (await shown(access, radiologist)).reading
    access.owners.add(a_reading(case_id, FINAL, version=2))
    assert 1 == await heal(access.database, access.index.kinds())
    assert FINAL == (await shown(access, radiologist)).reading
    assert 0 == await heal(access.database, access.index.kinds())


async def test_a_reading_changes_neither_the_entry_of_its_case_nor_sight(access: Access) -> None:
    """A version or a revision that moves would tell of a pre-read."""
    facility = await access.facility()
    case_id = await access.case(facility)

    async def everything_else() -> list[object]:
        tables = "case_studies case_grants folder_cases users outbox audit_rows revision"
        others = [await access.query(f"select * from {table} t order by t") for table in tables.split()]
        # What follows the reading for the group alone, the facility side is never asked about.
        entry = "to_jsonb(c) - 'reported_types_group'"
        return [*others, await access.query(f"select {entry} from cases c order by case_id")]

    before = await everything_else()
    await access.hear(a_reading(case_id, PRE_READ, NOT_READ))

    assert before == await everything_else()


async def test_what_was_read_stays_where_it_is_in_the_worklist(access: Access) -> None:
    facility = await access.facility()
    users = await both_sides(access, facility)
    received = [NOON - timedelta(minutes=minute) for minute in range(4)]
    cases = [await access.case(facility, a_study(received_at=at)) for at in received]

    for number in (3, 1):
        await access.hear(a_reading(cases[number], replace(FINAL, lock=a_lock())))

    for user in users:
        assert cases == await access.worklist(user)
        assert cases[:2] == await access.worklist(user, limit=2)


# The lock


async def the_lock_of(access: Access, case_id: CaseId, reading: Reading) -> tuple[User, User]:
    facility = access.owners.facilities[access.owners.placements[case_id].facility_id]
    await access.hear(reading)
    return await both_sides(access, facility)


@pytest.mark.proves("REP-13", part="worklist")
@pytest.mark.proves("R11", part="the end of a lock, as it is shown")
async def test_a_lock_is_shown_to_both_sides_exactly_while_it_lives(access: Access) -> None:
    """Nobody tells access that it has ended: its own clock does."""
    case_id = await access.case(await access.facility())
    lock = a_lock("Dr. Roe", ends_at=NOON + timedelta(minutes=10))
    reading = a_reading(case_id, replace(PRE_READ, lock=lock), replace(NOT_READ, lock=lock))
    users = await the_lock_of(access, case_id, reading)

    for at, live in (
        (NOON, lock),
        (lock.ends_at - timedelta(microseconds=1), lock),
        (lock.ends_at, None),
        (lock.ends_at + timedelta(days=1), None),
    ):
        access.clock.at = at
        assert [live, live] == [(await shown(access, user)).reading.lock for user in users]


@pytest.mark.proves("REP-13", part="worklist")
async def test_a_lock_that_is_given_back_is_gone_and_a_renewed_one_stays(access: Access) -> None:
    case_id = await access.case(await access.facility())
    lock = a_lock()
    users = await the_lock_of(access, case_id, a_reading(case_id, replace(NOT_READ, lock=lock)))

    renewed = replace(lock, ends_at=lock.ends_at + timedelta(minutes=10))
    await access.hear(a_reading(case_id, replace(NOT_READ, lock=renewed), version=2))
    access.clock.at = lock.ends_at
    assert [renewed, renewed] == [(await shown(access, user)).reading.lock for user in users]

    await access.hear(a_reading(case_id, PRE_READ, NOT_READ, version=3))
    assert [None, None] == [(await shown(access, user)).reading.lock for user in users]


# Pre-read in privileges


@pytest.mark.proves("REP-7", part="who may be given it")
async def test_a_radiologist_is_given_pre_reads_and_a_physician_is_not(access: Access) -> None:
    facility = await access.facility()
    case_id = await access.case(facility)
    radiologist, physician = await both_sides(access, facility)
    read_types = {ReadType.FINAL, ReadType.PRE_READ}

    await access.give(radiologist, facility, PrivilegeLevel.REPORT, read_types=read_types)
    with pytest.raises(Invalid) as refused:
        await access.give(physician, facility, PrivilegeLevel.REPORT, read_types=read_types)

    assert refused.value.field == "read_types"
    assert read_types == (await access.check(radiologist, case_id)).read_types
    assert frozenset() == (await access.check(physician, case_id)).read_types


@pytest.mark.proves("REP-4", part="privileges")
async def test_who_is_not_of_the_group_is_not_shown_who_pre_reads(access: Access) -> None:
    """A manager of users who work for the group, and one who worked for it once and keeps the row."""
    facility = await access.facility()
    manager = await access.manager(facility)
    radiologist = await access.user(home_facility_id=facility.id)
    await access.give(
        radiologist, facility, PrivilegeLevel.REPORT, read_types={ReadType.FINAL, ReadType.PRE_READ}
    )

    async def read_types(asker: str) -> list[frozenset[ReadType]]:
        held = await access.users.list_privileges(asker, radiologist.id)
        return [each.privilege.read_types for each in held]

    assert [{ReadType.FINAL}] == await read_types(manager.login)
    assert [{ReadType.FINAL, ReadType.PRE_READ}] == await read_types(ADMIN)
    assert [{ReadType.FINAL, ReadType.PRE_READ}] == await read_types(radiologist.login)

    async with access.database.transaction() as transaction:
        await transaction.save_user(replace(radiologist, role=Role.FACILITY_USER, version=9), by="ada")
    assert [{ReadType.FINAL}] == await read_types(radiologist.login)


@pytest.mark.proves("REP-4", part="a privilege for pre-reads alone")
async def test_a_privilege_for_pre_reads_alone_is_to_the_facility_side_one_to_draft(access: Access) -> None:
    """Else the level REPORT without a read type would tell them of the pre-reads."""
    facility = await access.facility()
    manager = await access.manager(facility)
    pre_reads, drafts = [await access.user(home_facility_id=facility.id) for _ in range(2)]
    ends = date(2027, 1, 1)
    await access.give(
        pre_reads, facility, PrivilegeLevel.REPORT, expires_on=ends, read_types={ReadType.PRE_READ}
    )
    await access.give(drafts, facility, PrivilegeLevel.DRAFT)

    async def held(asker: str, user: User) -> HeldPrivilege:
        [only] = await access.users.list_privileges(asker, user.id)
        return only

    told = [await held(manager.login, each) for each in (pre_reads, drafts)]
    assert told[0] == replace(told[1], user_id=pre_reads.id)
    known = [await held(asker, pre_reads) for asker in (ADMIN, pre_reads.login)]
    assert {(PrivilegeLevel.REPORT, frozenset({ReadType.PRE_READ}))} == {
        (each.privilege.level, each.privilege.read_types) for each in known
    }
    [described] = (await access.users.describe_users([pre_reads.id], []))[1]
    assert known[0].expires_at == described.expires_at
    assert described.expires_at is not None


@pytest.mark.proves("REP-4", part="a save of what the facility side was shown")
async def test_a_save_of_what_is_shown_neither_takes_pre_reads_away_nor_tells_of_them(access: Access) -> None:
    """Else a manager of the facility learns by the version of the privilege who pre-reads there."""
    facility = await access.facility()
    manager = await access.manager(facility)
    await access.give(manager, facility, PrivilegeLevel.VIEW)
    hidden = {ReadType.PRE_READ}
    for level, stored, shown in [
        (PrivilegeLevel.DRAFT, hidden, set()),
        (PrivilegeLevel.REPORT, {ReadType.FINAL} | hidden, {ReadType.FINAL}),
    ]:
        told = []
        for read_types in (stored, shown):
            user = await access.user(home_facility_id=facility.id)
            await access.give(
                user, facility, PrivilegeLevel.REPORT if read_types else level, read_types=read_types
            )
            [before] = await access.users.list_privileges(ADMIN, user.id)
            revision = await access.revision()

            await access.give(user, facility, level, read_types=shown, by=manager.login)

            [after] = await access.users.list_privileges(ADMIN, user.id)
            assert before == after
            told.append((after.privilege.version, await access.revision() - revision))
        assert [(told[0])] * 2 == told


async def test_what_a_facility_shortens_keeps_its_pre_reads_until_it_is_no_level_to_report(
    access: Access,
) -> None:
    facility = await access.facility()
    manager = await access.manager(facility)
    user = await access.user(home_facility_id=facility.id)
    both = frozenset({ReadType.FINAL, ReadType.PRE_READ})
    await access.give(user, facility, PrivilegeLevel.REPORT, read_types=both)
    ends = date(2027, 1, 1)

    await access.give(
        user, facility, PrivilegeLevel.REPORT, expires_on=ends, read_types={ReadType.FINAL}, by=manager.login
    )
    [held] = await access.users.list_privileges(ADMIN, user.id)
    assert (both, ends) == (held.privilege.read_types, held.privilege.expires_on)

    await access.give(user, facility, PrivilegeLevel.VIEW, by=manager.login)
    [held] = await access.users.list_privileges(ADMIN, user.id)
    assert (PrivilegeLevel.VIEW, frozenset()) == (held.privilege.level, held.privilege.read_types)
