"""Deletion in access: who may, hidden from everybody at once, purged for good, and nothing comes back."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from kernel.errors import Conflict, Denied, NotFound, Unavailable
from kernel.ids import BucketId, CaseId, DeletionId, StudyId
from kernel.reading import PrivilegeLevel, ReadType
from services.access.buckets import Grant, Share
from services.access.caseindex import Deletion
from services.access.domain import BEING_DELETED, NO_SIGHT, Facility, Permission, PermissionGrant, User
from services.access.reading import Projection
from services.access.received import StudyAttributes
from services.access.status import ReadingState
from tests.access.builders import a_lock, a_placement, a_reading, a_study, a_user
from tests.access.conftest import ADMIN, Access
from tests.clocks import NOON
from tests.healing import heal

LOCKED = Projection(ReadingState.UNREAD, a_lock("Dr. Roe"))
KEPT = {"deletions", "tombstones", "audit_rows", "outbox", "heard", "case_changes"}
"""What may still name a case that was purged: by its ids, never by what they were given to."""


async def a_deleter(
    access: Access, facility: Facility, *more: Permission, level: PrivilegeLevel | None = PrivilegeLevel.VIEW
) -> User:
    """A radiologist who may delete at a facility, and whose privilege there is of this level."""
    there = {PermissionGrant(each, facility.id) for each in (Permission.DELETE_STUDY, *more)}
    user = await access.user(permissions=a_user().permissions | there)
    if level:
        await access.give(user, facility, level)
    return user


async def begin(
    access: Access, user: User, case_id: CaseId, deletion_id: UUID | None = None, *, force: bool = False
) -> Deletion:
    deletion, _ = await access.deletions.begin_delete(
        user.login, "s", case_id, DeletionId(deletion_id or uuid4()), force=force
    )
    return deletion


async def purge(access: Access, case_id: CaseId, version: int = 1) -> None:
    """The fact is heard."""
    async with access.database.transaction() as transaction:
        await access.deletions.purge(transaction, case_id, version)


async def deleted(access: Access, facility: Facility, case_id: CaseId) -> None:
    """Somebody has deleted the case, and it was purged here."""
    await begin(access, await a_deleter(access, facility), case_id)
    await purge(access, case_id)


async def share(access: Access, sender: User, recipient: User, *case_ids: CaseId) -> BucketId:
    bucket_id = BucketId(uuid4())
    grant = Grant(bucket_id, recipient.login, two_factor=False)
    wanted = Share(case_ids, (grant,), None, write_report=True, allow_further_sharing=False, parent_id=None)
    await access.buckets.grant_buckets(sender.login, "s", wanted)
    return bucket_id


async def rows_naming(access: Access, *words: object) -> dict[str, int]:
    """How many rows of each table hold one of these in any column."""
    tables = await access.query(
        "select table_name as name from information_schema.tables where table_schema = 'public'"
    )
    counts = {}
    for table in (row["name"] for row in tables):
        rows = await access.query(f"select t::text as text from {table} t")
        if count := sum(any(str(word) in row["text"] for word in words) for row in rows):
            counts[table] = count
    return counts


# Who may


@pytest.mark.proves("ING-7")
async def test_who_sees_a_case_by_privilege_and_may_delete_there_deletes_it(access: Access) -> None:
    north = await access.facility()
    study = a_study()
    case_id = await access.case(north, study)
    user = await a_deleter(access, north)
    before = await access.revision()

    deletion, revision = await access.deletions.begin_delete(
        user.login, "s", case_id, DeletionId(uuid4()), force=False
    )

    assert (case_id, north.id, (study.id,)) == (deletion.case_id, deletion.facility_id, deletion.study_ids)
    assert before < revision == await access.revision()
    assert (user.login, "case.deletion_begun", "done") == (await access.audited())[-1]
    assert ("sight.changed.v1", str(case_id), 2) == (await access.facts())[-1]


@pytest.mark.proves("ING-7")
@pytest.mark.parametrize("where", [None, "elsewhere"])
async def test_without_the_permission_at_the_facility_it_is_refused(
    access: Access, where: str | None
) -> None:
    north, south = await access.facility(), await access.facility()
    case_id = await access.case(north)
    user = await a_deleter(access, south) if where else await access.user()
    await access.give(user, north, PrivilegeLevel.REPORT)

    with pytest.raises(Denied, match=r"study\.delete"):
        await begin(access, user, case_id)

    assert (await access.check(user, case_id)).allowed
    assert (user.login, "case.deletion_begun", "refused") == (await access.audited())[-1]


@pytest.mark.proves("ING-7", part="by which way the case must be seen (A29)")
@pytest.mark.proves("A29")
@pytest.mark.parametrize("path", ["grant", "folder", "share"])
async def test_a_folder_a_grant_or_a_share_is_not_enough_to_delete(access: Access, path: str) -> None:
    north = await access.facility()
    case_id = await access.case(north)
    user = await a_deleter(access, north, level=None)
    match path:
        case "grant":
            await access.folders.grant_case(ADMIN, case_id, user.id)
        case "folder":
            await access.folders.put_in_folder(ADMIN, await access.folder(user), case_id)
        case "share":
            sender = await access.user()
            await access.give(sender, north, PrivilegeLevel.VIEW)
            await share(access, sender, user, case_id)

    with pytest.raises(Denied, match="by your privilege"):
        await begin(access, user, case_id)

    assert (await access.check(user, case_id)).allowed
    without = await access.user()
    for each in (user, without):
        await access.give(each, north, PrivilegeLevel.VIEW)
    with pytest.raises(Denied, match=r"study\.delete"):
        await begin(access, without, case_id)
    with pytest.raises(NotFound):
        await begin(access, user, await access.case(await access.facility()))
    assert await begin(access, user, case_id)


async def test_a_case_that_he_does_not_see_is_the_same_as_an_absent_one(access: Access) -> None:
    north, south = await access.facility(), await access.facility()
    unseen = await access.case(north)
    user = await a_deleter(access, south)
    answers = []

    for case_id in (unseen, CaseId(uuid4())):
        with pytest.raises(NotFound) as refusal:
            await begin(access, user, case_id)
        answers.append(refusal.value.sentence.replace(str(case_id), "…"))

    assert answers[0] == answers[1]


# A locked case (A28)


async def a_locked_case(access: Access, north: Facility) -> CaseId:
    case_id = await access.case(north)
    await access.hear(a_reading(case_id, LOCKED))
    return case_id


@pytest.mark.proves("ING-6", part="a locked case (A28)")
@pytest.mark.proves("A28", part="a locked case")
@pytest.mark.proves("A60", part="the lock as the index knows it")
async def test_a_locked_case_is_deleted_by_force_and_with_lock_break_only(access: Access) -> None:
    north = await access.facility()
    case_id = await a_locked_case(access, north)
    plain = await a_deleter(access, north)
    strong = await a_deleter(access, north, Permission.BREAK_LOCK)

    for user, force, refusal, words in (
        (plain, False, Conflict, "Dr. Roe"),
        (strong, False, Conflict, "Dr. Roe"),
        (plain, True, Denied, r"lock\.break"),
    ):
        with pytest.raises(refusal, match=words):
            await begin(access, user, case_id, force=force)
        assert (user.login, "case.deletion_begun", "refused") == (await access.audited())[-1]

    await begin(access, strong, case_id, force=True)
    assert BEING_DELETED == await access.check(strong, case_id)


async def test_a_lock_that_has_ended_stops_nobody(access: Access) -> None:
    north = await access.facility()
    case_id = await a_locked_case(access, north)
    user = await a_deleter(access, north)
    assert LOCKED.lock
    access.clock.at = LOCKED.lock.ends_at - timedelta(microseconds=1)

    with pytest.raises(Conflict):
        await begin(access, user, case_id)
    access.clock.at = LOCKED.lock.ends_at

    assert await begin(access, user, case_id)


async def test_the_lock_is_the_one_that_the_side_of_the_user_sees(access: Access) -> None:
    """So that a refusal tells them nothing that their worklist does not (A59)."""
    north = await access.facility()
    case_id = await access.case(north)
    await access.hear(a_reading(case_id, group=LOCKED, facility=Projection()))
    manager = await access.manager(north, Permission.DELETE_STUDY)
    await access.give(manager, north, PrivilegeLevel.VIEW)

    assert await begin(access, manager, case_id)


# Hidden


@pytest.mark.proves("ING-6", part="hidden at once")
@pytest.mark.proves("A60", part="hidden at once")
async def test_a_case_being_deleted_is_hidden_from_everybody_at_once(access: Access) -> None:
    north = await access.facility()
    case_id = await access.case(north)
    by_privilege, by_grant, by_folder, by_share, stranger = [await access.user() for _ in range(5)]
    await access.give(by_privilege, north, PrivilegeLevel.REPORT)
    await access.folders.grant_case(ADMIN, case_id, by_grant.id)
    folder_id = await access.folder(by_folder)
    await access.folders.put_in_folder(ADMIN, folder_id, case_id)
    await share(access, by_privilege, by_share, case_id)
    seers = [by_privilege, by_grant, by_folder, by_share]
    assert [[case_id]] * 4 == [await access.worklist(user) for user in seers]

    await begin(access, await a_deleter(access, north), case_id)

    for user in seers:
        assert BEING_DELETED == await access.check(user, case_id)
        assert [BEING_DELETED] == await access.questions.check_many(user.login, [case_id])
        assert [] == await access.worklist(user)
        assert [] == await access.worklist(user, facility_id=north.id)
    assert NO_SIGHT == await access.check(stranger, case_id)
    assert [] == await access.buckets.describe_cases([case_id])
    with pytest.raises(NotFound, match=f"no case `{case_id}`"):
        await share(access, by_privilege, stranger, case_id)
    for act in (
        access.folders.grant_case(ADMIN, case_id, stranger.id),
        access.folders.revoke_grant(ADMIN, case_id, by_grant.id),
        access.folders.put_in_folder(ADMIN, folder_id, case_id),
        access.folders.remove_from_folder(ADMIN, folder_id, case_id),
    ):
        with pytest.raises(NotFound, match=f"no case `{case_id}`"):
            await act


@pytest.mark.parametrize("path", ["privilege", "grant", "folder", "share"])
async def test_a_page_of_the_worklist_is_not_cut_short_by_hidden_cases(access: Access, path: str) -> None:
    north = await access.facility()
    studies = [a_study(received_at=NOON + timedelta(minutes=minute)) for minute in range(5)]
    cases = [await access.case(north, study) for study in studies]
    user, sender = await access.user(), await access.user()
    await access.give(sender, north, PrivilegeLevel.VIEW)
    match path:
        case "privilege":
            await access.give(user, north, PrivilegeLevel.VIEW)
        case "grant":
            for case_id in cases:
                await access.folders.grant_case(ADMIN, case_id, user.id)
        case "folder":
            folder_id = await access.folder(user)
            for case_id in cases:
                await access.folders.put_in_folder(ADMIN, folder_id, case_id)
        case "share":
            await share(access, sender, user, *cases)
    deleter = await a_deleter(access, north)

    for case_id in cases[2:]:
        await begin(access, deleter, case_id)

    assert [cases[1], cases[0]] == await access.worklist(user, limit=2)


# Asked again


@pytest.mark.proves("A60", part="asked again, without a user")
async def test_the_same_deletion_asked_again_is_answered_the_same(access: Access) -> None:
    north = await access.facility()
    case_id = await access.case(north)
    user = await a_deleter(access, north)
    deletion_id = DeletionId(uuid4())

    first = await begin(access, user, case_id, deletion_id)
    again = await begin(access, user, case_id, deletion_id)
    for_itself, _ = await access.deletions.begun(case_id, deletion_id)
    await purge(access, case_id)
    after_the_purge, _ = await access.deletions.begun(case_id, deletion_id)

    assert first == again == for_itself == after_the_purge
    assert 1 == len([fact for fact in await access.facts() if fact[0] == "sight.changed.v1"])


async def test_a_deletion_asked_again_is_answered_to_nobody_who_may_not_delete_there(access: Access) -> None:
    north, south = await access.facility(), await access.facility()
    case_id = await access.case(north)
    begun = await begin(access, await a_deleter(access, north), case_id)

    assert begun == await begin(access, await a_deleter(access, north), case_id, begun.id)
    stranger = await a_deleter(access, south)
    for purged in (False, True):
        if purged:
            await purge(access, case_id)
        with pytest.raises(NotFound, match=f"no case `{case_id}`"):
            await begin(access, stranger, case_id, begun.id)


async def test_a_deletion_that_has_not_begun_is_not_found(access: Access) -> None:
    north = await access.facility()
    case_id, other = await access.case(north), await access.case(north)
    user = await a_deleter(access, north)
    begun = await begin(access, user, case_id)

    for case, deletion_id in ((case_id, DeletionId(uuid4())), (other, begun.id)):
        with pytest.raises(NotFound):
            await access.deletions.begun(case, deletion_id)
    with pytest.raises(NotFound, match=f"no case `{case_id}`"):
        await begin(access, user, case_id)


async def test_of_two_deletions_at_once_one_begins(access: Access) -> None:
    north = await access.facility()
    case_id = await access.case(north)
    users = [await a_deleter(access, north) for _ in range(4)]

    outcomes = await asyncio.gather(*(begin(access, user, case_id) for user in users), return_exceptions=True)

    assert 1 == len([each for each in outcomes if isinstance(each, Deletion)])
    assert 3 == len([each for each in outcomes if isinstance(each, NotFound)])


# Purged


async def everything(access: Access, north: Facility, words: str) -> tuple[CaseId, StudyId, list[BucketId]]:
    """A case of which there is a row in every table that may have one, with these words in every field."""
    attributes = StudyAttributes(**{name: f"{words} {name}" for name in StudyAttributes.__slots__})
    study = a_study((f"1.2.{words}", words, 1), attributes=attributes)
    case_id = await access.case(north, study, study_instance_uid=f"1.3.{words}")
    other = await access.case(north)
    holder = Projection(ReadingState.FINAL, a_lock(words, ends_at=NOON), frozenset({ReadType.FINAL}), NOON)
    await access.hear(a_reading(case_id, holder))
    user, sender = await access.user(), await access.user()
    await access.give(sender, north, PrivilegeLevel.VIEW)
    await access.folders.grant_case(ADMIN, case_id, user.id)
    await access.folders.put_in_folder(ADMIN, await access.folder(user), case_id)
    buckets = [await share(access, sender, user, *cases) for cases in ([case_id], [case_id, other])]
    for bucket_id in buckets:
        await access.buckets.register_session(bucket_id, "s")
    return case_id, study.id, buckets


@pytest.mark.proves("ING-6", part="every row of access")
async def test_nothing_is_left_of_a_purged_case_but_its_ids(access: Access) -> None:
    north = await access.facility()
    case_id, study_id, (alone, with_another) = await everything(access, north, "PLANTED")
    before = await rows_naming(access, case_id, study_id, "PLANTED")
    assert {
        "cases",
        "case_studies",
        "patients",
        "readings",
        "case_grants",
        "folder_cases",
        "bucket_cases",
    } <= before.keys()

    await deleted(access, north, case_id)

    assert await rows_naming(access, case_id, study_id, "PLANTED") != before
    assert KEPT >= (await rows_naming(access, case_id, study_id)).keys()
    assert {} == await rows_naming(access, "PLANTED")
    tombstones = {row["id"] for row in await access.query("select id from tombstones")}
    assert {case_id, study_id} == tombstones
    assert [with_another] == [row["bucket_id"] for row in await access.query("select * from buckets")]
    assert [] == [
        row for row in await access.query("select * from bucket_sessions") if row["bucket_id"] == alone
    ]


@pytest.mark.proves("ING-6", part="every row of access")
async def test_the_purge_is_confirmed_each_time_also_where_nothing_was_held(access: Access) -> None:
    north = await access.facility()
    case_id, unknown = await access.case(north), CaseId(uuid4())
    await deleted(access, north, case_id)
    await purge(access, case_id, 2)
    revision = await access.revision()
    await purge(access, unknown)

    said = [fact for fact in await access.facts() if fact[0] == "case.purged.v1"]
    assert [(str(case_id), 1), (str(case_id), 2), (str(unknown), 1)] == [fact[1:] for fact in said]
    assert revision == await access.revision()
    assert {case_id, unknown} <= {row["id"] for row in await access.query("select id from tombstones")}


@pytest.mark.proves("ING-7", part="a fact alone purges nothing that nobody deletes")
async def test_a_case_that_nobody_deletes_is_not_purged_whatever_a_fact_says(access: Access) -> None:
    north = await access.facility()
    reader = await access.user()
    await access.give(reader, north, PrivilegeLevel.VIEW)
    case_id = await access.case(north)

    with pytest.raises(Conflict):
        await purge(access, case_id)

    assert (await access.check(reader, case_id)).allowed
    assert [] == await access.query("select from tombstones")


@pytest.mark.proves("A60", part="tombstones in the transaction of the purge")
async def test_the_purge_and_its_tombstones_stand_or_fall_together(access: Access) -> None:
    north = await access.facility()
    case_id, study_id, _ = await everything(access, north, "PLANTED")
    await begin(access, await a_deleter(access, north), case_id)
    before = await rows_naming(access, case_id, study_id)

    async def purge_and_fail() -> None:
        async with access.database.transaction() as transaction:
            await access.deletions.purge(transaction, case_id, 1)
            raise RuntimeError("the power goes")

    with pytest.raises(RuntimeError):
        await purge_and_fail()

    assert before == await rows_naming(access, case_id, study_id)
    assert [] == await access.query("select from tombstones")


# Nothing comes back


Writer = Callable[[], Awaitable[None]]


async def until_it_can(write: Writer) -> None:
    """As the consumer does."""
    while True:
        with suppress(Unavailable):
            return await write()


async def held_writers(access: Access, north: Facility, case_id: CaseId, study_id: StudyId) -> list[Writer]:
    """Hearings of a placement, a study and a reading that have fetched their snapshot and not yet begun."""
    placement = replace(access.owners.placements[case_id], version=9)
    access.owners.add(placement, a_study(id=study_id, version=9), a_reading(case_id, LOCKED, version=9))
    snapshots = await access.index.fetch_case(case_id)
    study = await access.index.fetch_study(study_id)
    reading = await access.index.fetch_reading(case_id)
    assert snapshots.placement
    assert snapshots.studies
    assert study
    assert reading

    async def index_case() -> None:
        async with access.database.transaction() as transaction:
            await access.index.index_case(transaction, case_id, snapshots)

    async def index_study() -> None:
        async with access.database.transaction() as transaction:
            await access.index.index_study(transaction, study)

    async def index_reading() -> None:
        async with access.database.transaction() as transaction:
            await access.index.index_reading(transaction, reading)

    return [index_case, index_study, index_reading]


@pytest.mark.proves("ING-6", part="what was fetched before the purge")
async def test_what_was_fetched_before_a_purge_and_is_written_after_it_brings_nothing_back(
    access: Access,
) -> None:
    north = await access.facility()
    case_id, study_id, _ = await everything(access, north, "PLANTED")
    writers = await held_writers(access, north, case_id, study_id)

    await deleted(access, north, case_id)
    for write in writers:
        await write()

    assert KEPT >= (await rows_naming(access, case_id, study_id)).keys()


@pytest.mark.proves("ING-6", part="what was fetched before the purge")
async def test_a_first_snapshot_held_while_the_case_is_deleted_elsewhere_brings_nothing_back(
    access: Access,
) -> None:
    """Access has not even heard of the case when it hears that it was deleted."""
    north = await access.facility()
    study = a_study()
    placement = a_placement(north.id, study)
    access.owners.add(placement, study, a_reading(placement.case_id, LOCKED))
    snapshots = await access.index.fetch_case(placement.case_id)  # which notes its studies
    reading = await access.index.fetch_reading(placement.case_id)

    await purge(access, placement.case_id)
    async with access.database.transaction() as transaction:
        await access.index.index_case(transaction, placement.case_id, snapshots)
    async with access.database.transaction() as transaction:
        await access.index.index_reading(transaction, reading)
    async with access.database.transaction() as transaction:
        await access.index.index_study(transaction, study)

    assert KEPT >= (await rows_naming(access, placement.case_id, study.id)).keys()


@pytest.mark.proves("ING-6", part="what was fetched before the purge")
@pytest.mark.parametrize("writer", [0, 1, 2], ids=["placement", "study", "reading"])
async def test_a_writer_that_races_the_purge_leaves_nothing(access: Access, writer: int) -> None:
    """Whoever of the two comes first; the other waits for it."""
    north = await access.facility()
    for _ in range(5):
        study = a_study()
        case_id = await access.case(north, study)
        write = (await held_writers(access, north, case_id, study.id))[writer]
        await begin(access, await a_deleter(access, north), case_id)
        await asyncio.gather(until_it_can(write), purge(access, case_id))
        assert KEPT >= (await rows_naming(access, case_id, study.id)).keys()


@pytest.mark.proves("ING-6", part="healing")
async def test_healing_resurrects_nothing_while_the_owners_still_have_it(access: Access) -> None:
    north = await access.facility()
    case_id, study_id, _ = await everything(access, north, "PLANTED")
    access.owners.add(
        replace(access.owners.placements[case_id], version=9),
        a_study(id=study_id, version=9),
        a_reading(case_id, LOCKED, version=9),
    )
    await deleted(access, north, case_id)

    await heal(access.database, access.index.kinds())
    await heal(access.database, access.index.kinds())

    assert KEPT >= (await rows_naming(access, case_id, study_id)).keys()


async def test_hearing_of_a_purged_case_has_no_effect_and_no_error(access: Access) -> None:
    """A late fact is harmless: it is heard once, and not tried again for ever."""
    north = await access.facility()
    study = a_study()
    case_id = await access.case(north, study)
    await deleted(access, north, case_id)

    placement: object = access.owners.placements[case_id]
    for late in (placement, study, a_reading(case_id, LOCKED)):
        await access.hear(late)  # type: ignore[arg-type]

    assert KEPT >= (await rows_naming(access, case_id, study.id)).keys()


@pytest.mark.proves("ING-8", part="access: the new copy is another case")
async def test_a_resend_is_another_case_and_untouched_by_late_facts_about_the_old_one(access: Access) -> None:
    north = await access.facility()
    old = await access.case(north, study_instance_uid="1.2.3")
    user = await access.user()
    await access.give(user, north, PrivilegeLevel.VIEW)
    deleter = await a_deleter(access, north)
    await begin(access, deleter, old)
    new = await access.case(north, study_instance_uid="1.2.3")
    await purge(access, old)
    await purge(access, old, 2)

    assert [new] == await access.worklist(user)
