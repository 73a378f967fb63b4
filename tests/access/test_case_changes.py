"""What is noted of each change: the cases that it concerns, the users whose sight it moves, and no others."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from kernel.ids import DeletionId, MoveId
from kernel.reading import PrivilegeLevel
from services.access.caseindex import Priority
from services.access.domain import Permission, PermissionGrant, Role
from services.access.moves import Move
from services.access.reading import NOT_READ, Projection
from tests.access.builders import a_lock, a_placement, a_reading, a_study, a_user
from tests.access.conftest import ADMIN, Access, Scene

NOTED = {
    "cases",
    "readings",
    "case_grants",
    "folder_cases",
    "buckets",
    "bucket_cases",
    "bucket_sessions",
    "facilities",
    "users",
}
"""Tables of which each change is noted, by triggers."""

SHOWS_NOTHING = {
    # Whoever writes these counts up the version of the users whom it concerns.
    "permissions",
    "privileges",
    "privilege_changes",
    "user_filters",
    "folder_members",
    # Nothing of them is shown in a list, or their entry in `cases` is written with them.
    "case_studies",
    "deletions",
    "folders",
    "identities",
    "invitations",
    "patient_links",
    "patients",
    "rezoned",
    "revision",
    "tombstones",
    "healing",
    "case_changes",
    "case_changes_gone",
}

OF_EVERY_SERVICE = {
    "audit_rows",
    "bus_state",
    "dead_letters",
    "heard",
    "leases",
    "migrations",
    "outbox",
}


async def noted(access: Access, act: Callable[[], Awaitable[object]]) -> set[UUID]:
    """What is noted of an act."""
    async with access.database.statements() as statements:
        before = await statements.changes_since(None, 0)
    await act()
    async with access.database.statements() as statements:
        changes = await statements.changes_since(before.snapshot, 100)
    assert changes.ids is not None
    return {*changes.ids}


async def test_each_table_is_noted_or_shows_nothing(access: Access) -> None:
    """A new table belongs to one of the two: say to which."""
    tables = await access.query("select tablename from pg_tables where schemaname = 'public'")
    triggers = await access.query(
        "select distinct tgrelid::regclass::text as name from pg_trigger where tgname like '%\\_note%'"
    )

    assert {row["tablename"] for row in tables} - OF_EVERY_SERVICE == NOTED | SHOWS_NOTHING
    assert {row["name"] for row in triggers} == NOTED


async def test_of_a_case_is_noted_what_its_owners_say(scene: Scene) -> None:
    access, (case_id, _) = scene.access, scene.cases
    study = a_study()
    placement = a_placement(scene.facility.id, study)
    assert {placement.case_id} == await noted(access, lambda: access.hear(study, placement))
    grown = replace(a_study(("1.2.3", "CT", 5), id=study.id), version=2)

    assert {placement.case_id} == await noted(access, lambda: access.hear(grown))
    locked = a_reading(case_id, Projection(lock=a_lock()), version=1)
    assert {case_id} == await noted(access, lambda: access.hear(locked))
    assert {case_id} == await noted(access, lambda: access.hear(a_reading(case_id, NOT_READ, version=2)))
    assert set() == await noted(access, lambda: access.hear(a_reading(case_id, NOT_READ, version=2)))


async def test_of_a_case_and_its_reader_is_noted_who_is_shown_it(scene: Scene) -> None:
    access, (case_id, _), jane = scene.access, scene.cases, scene.jane
    folder_id = await access.folder(jane)
    share = scene.a_share(jane, two_factor=True)
    bucket_id = share.grants[0].bucket_id
    acts: dict[str, tuple[Callable[[], Awaitable[object]], set[UUID]]] = {
        "grant": (lambda: access.folders.grant_case(ADMIN, case_id, jane.id), {case_id, jane.id}),
        "revoke": (lambda: access.folders.revoke_grant(ADMIN, case_id, jane.id), {case_id, jane.id}),
        "put": (lambda: access.folders.put_in_folder(ADMIN, folder_id, case_id), {case_id}),
        "take": (lambda: access.folders.remove_from_folder(ADMIN, folder_id, case_id), {case_id}),
        "share": (lambda: scene.grant(share), {case_id, jane.id}),
        "code": (lambda: access.buckets.register_session(bucket_id, "phone", 1), {case_id}),
        "block": (lambda: scene.change(bucket_id, 1, is_open=False), {case_id, jane.id}),
    }

    for name, (act, expected) in acts.items():
        assert (name, expected) == (name, await noted(access, act))


async def test_of_a_case_is_noted_that_it_is_assigned_moved_and_deleted(scene: Scene) -> None:
    access, (case_id, other), sender = scene.access, scene.cases, scene.sender
    lakeside = await access.facility("Lakeside")
    may_delete = {PermissionGrant(Permission.DELETE_STUDY)}
    reader = await access.user(
        Role.ADMINISTRATOR, permissions=a_user(Role.ADMINISTRATOR).permissions | may_delete
    )
    for facility in (scene.facility, lakeside):
        await access.give(reader, facility, PrivilegeLevel.REPORT)
    by = reader.login
    move = Move(MoveId(uuid4()), case_id, scene.facility.id, lakeside.id, by_hand=False)

    assert {case_id} == await noted(
        access, lambda: access.assignments.assign(by, "", case_id, by, force=False)
    )
    assert {case_id} == await noted(
        access, lambda: access.assignments.set_priority(by, "", case_id, Priority.STAT)
    )
    assert {case_id} == await noted(access, lambda: access.moves.begin_move(move, preview=False))
    deletion_id = DeletionId(uuid4())
    assert {other} == await noted(
        access, lambda: access.deletions.begin_delete(by, "", other, deletion_id, force=False)
    )

    async def purge() -> None:
        async with access.database.transaction() as transaction:
            await transaction.purge_case(other)

    assert {other} == await noted(access, purge)
    assert sender.id not in await noted(access, lambda: access.check(sender, case_id))


async def test_of_users_is_noted_that_they_are_compiled_anew(scene: Scene) -> None:
    access, jane = scene.access, scene.jane

    assert {jane.id} == await noted(access, lambda: access.give(jane, scene.facility, PrivilegeLevel.VIEW))
    assert {jane.id, scene.john.id} == await noted(access, lambda: access.folder(jane, scene.john))
    renamed = replace(scene.facility, name="Elm Street", version=2)
    assert {renamed.id} == await noted(access, lambda: access.hear(renamed))


async def test_what_was_committed_late_is_told_once(access: Access) -> None:
    """A transaction that began before another and was committed after it."""
    facility = await access.facility()
    early = uuid4()
    async with access.database.statements() as statements:
        before = await statements.changes_since(None, 0)
    async with access.database.transaction() as slow:
        await slow.connection.execute("select note_changes($1::uuid[])", [early])
        case_id = await access.case(facility)
        async with access.database.statements() as statements:
            meanwhile = await statements.changes_since(before.snapshot, 100)
    async with access.database.statements() as statements:
        after = await statements.changes_since(meanwhile.snapshot, 100)
        last = await statements.changes_since(after.snapshot, 100)

    assert ([case_id], [early], []) == (meanwhile.ids, after.ids, last.ids)


@pytest.mark.parametrize("kept_for", [timedelta(), timedelta(hours=1)])
async def test_whoever_read_before_what_was_pruned_knows_that_something_is_missing(
    access: Access, kept_for: timedelta
) -> None:
    facility = await access.facility()
    async with access.database.statements() as statements:
        before = await statements.changes_since(None, 0)
        await access.case(facility)
        after = await statements.changes_since(before.snapshot, 100)
        too_many = await statements.changes_since(before.snapshot, 0)
        of_others = await statements.changes_since(before.snapshot, 0, among={uuid4()})
        pruned = await statements.prune_changes(kept_for)
        missing = await statements.changes_since(before.snapshot, 100)
        complete = await statements.changes_since(after.snapshot, 100)

    assert (too_many.ids, of_others.ids) == (None, [])
    assert (pruned > 0, missing.ids is None) == ((True, True) if not kept_for else (False, False))
    assert [] == complete.ids


async def test_changes_of_another_life_of_the_database_count_no_more(access: Access) -> None:
    """It was restored, and counts its transactions from lower numbers."""
    async with access.database.statements() as statements:
        await statements.connection.execute(
            "insert into case_changes values ('9000000000', $1, now()), ('9000000001', $1, now())", uuid4()
        )
        await statements.connection.execute("update case_changes_gone set up_to = '9000000002'")
        assert (await statements.changes_since("9000000000:9000000003:", 100)).ids is None
        await statements.prune_changes(timedelta(hours=1))
        before = await statements.changes_since(None, 0)
        assert [] == (await statements.changes_since(before.snapshot, 100)).ids
