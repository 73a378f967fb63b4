"""A deleted case is purged with what was held beside it; what was sent again since then is placed."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import pytest

from kernel.errors import NotFound, Unavailable
from kernel.events import CaseDeleted, CasePurged
from kernel.ids import CaseId, FacilityId, StudyId
from services.routing.domain import Deletion, Facility, Model, Placement, Study
from services.routing.parts import HeldKind, HeldReason
from tests.clocks import NOON
from tests.healing import heal
from tests.routing.builders import a_study
from tests.routing.conftest import ADMIN, Routing
from tests.routing.system import System, a_hub, at, facts_said
from tests.wait import eventually

BEFORE, BEGUN, AFTER = (NOON + timedelta(minutes=minute) for minute in (0, 5, 6))


async def two_ways(routing: Routing) -> tuple[Facility, Facility]:
    """A hub that sends everything to an endpoint, which also receives by itself."""
    hub = await routing.facility("North Hub", Model.HUB)
    lakeside = await routing.facility("Lakeside", Model.ENDPOINT)
    await routing.rule(hub, "MS44", lakeside)
    return hub, lakeside


async def received(routing: Routing, study: Study) -> Study:
    """Ingest has it, and routing has heard so."""
    routing.archive.add(study)
    await routing.place(study)
    return study


async def a_case(routing: Routing, facility: Facility, **changes: object) -> tuple[Study, Placement]:
    study = await received(routing, a_study(facility.id, ("1.1", "MS44"), **changes))  # type: ignore[arg-type]
    (case,) = await routing.cases()
    return study, case


def again(study: Study, at: FacilityId, received_at: datetime = AFTER) -> Study:
    """The same study, received another time."""
    return replace(study, id=StudyId(uuid4()), receiving_facility_id=at, received_at=received_at)


async def purge(routing: Routing, case_id: CaseId, version: int = 1) -> None:
    """The fact is heard, as often as it takes."""
    routing.archive.deletions[case_id] = BEGUN

    async def heard() -> bool:
        with suppress(Unavailable):
            await hear(routing, await fetched(routing, case_id), version)
            return True
        return False

    await eventually(heard)


async def fetched(routing: Routing, case_id: CaseId) -> Deletion:
    deletion = await routing.placements.fetch_deletion(case_id)
    assert deletion
    return deletion


async def hear(routing: Routing, deletion: Deletion, version: int = 1) -> None:
    async with routing.database.transaction() as transaction:
        await routing.placements.purge(transaction, deletion, version)


async def said(routing: Routing) -> list[CasePurged]:
    rows = await routing.query(
        "select payload from outbox where subject = $1 order by id", CasePurged.subject
    )
    return [msgspec.json.decode(row["payload"], type=CasePurged) for row in rows]


async def rows_naming(routing: Routing, *ids: object) -> set[str]:
    """The tables that hold a row with one of these ids in any column."""
    tables = await routing.query(
        "select table_name as name from information_schema.tables where table_schema = 'public'"
    )
    found = set()
    for table in (row["name"] for row in tables):
        for row in await routing.query(f"select t::text as text from {table} t"):
            if any(str(each) in row["text"] for each in ids):
                found.add(table)
    return found


KEPT = {"tombstones", "audit_rows", "outbox", "heard"}


# What goes


@pytest.mark.proves("ING-6", part="placement and what is held")
async def test_nothing_is_left_of_a_purged_case_but_its_ids(routing: Routing) -> None:
    hub, _ = await two_ways(routing)
    study = await received(
        routing, a_study(hub.id, ("1.1", "unknown"), ("1.2", "MS44"), ("1.3", "MS44\\MS55"))
    )
    (case,) = await routing.cases()
    assert {HeldKind.UNDISTRIBUTED, HeldKind.PART} == {each.kind for each in await routing.held()}

    await purge(routing, case.case_id)

    assert KEPT >= await rows_naming(routing, case.case_id, study.id, study.study_instance_uid, "unknown")
    assert [] == await routing.held()
    assert [CasePurged(case.case_id, 1, "routing", (study.id,))] == await said(routing)
    with pytest.raises(NotFound):
        await routing.moves.distribute(ADMIN, case.case_id, hub.id)


async def test_routing_answers_for_good_what_it_has_purged_with_a_case(routing: Routing) -> None:
    hub, lakeside = await two_ways(routing)
    study, case = await a_case(routing, lakeside)
    second = await received(routing, again(study, hub.id, BEFORE))
    with pytest.raises(NotFound):
        await routing.placements.describe_purge(case.case_id)

    for version in (1, 2):
        await purge(routing, case.case_id, version)
        assert {study.id, second.id} == set(await routing.placements.describe_purge(case.case_id))

    unknown = CaseId(uuid4())
    with pytest.raises(NotFound):
        await routing.placements.describe_purge(unknown)
    with pytest.raises(NotFound):
        await routing.placements.describe_purge(CaseId(study.id))
    await purge(routing, unknown)
    assert [] == await routing.placements.describe_purge(unknown)


@pytest.mark.proves("ING-6", part="what was held beside the case")
@pytest.mark.parametrize("received_at", [BEFORE, BEGUN, None], ids=["before", "just then", "gone"])
async def test_what_was_held_beside_the_case_is_deleted_with_it(
    routing: Routing, received_at: datetime | None
) -> None:
    hub, lakeside = await two_ways(routing)
    study, case = await a_case(routing, lakeside)
    second = await received(routing, again(study, hub.id, received_at or AFTER))
    assert [HeldReason.SECOND_STUDY] == [each.reason for each in await routing.held()]
    if received_at is None:
        del routing.archive.studies[second.id]

    await purge(routing, case.case_id)

    assert KEPT >= await rows_naming(routing, case.case_id, study.id, second.id)
    (purged,) = await said(routing)
    assert {study.id, second.id} == set(purged.study_ids)


@pytest.mark.proves("ING-8", part="a resend that comes before the purge")
async def test_a_study_sent_again_before_the_purge_is_placed_by_it(routing: Routing) -> None:
    _, lakeside = await two_ways(routing)
    study, case = await a_case(routing, lakeside)
    resent = await received(routing, again(study, lakeside.id))
    assert [case] == await routing.cases()

    await purge(routing, case.case_id)

    (new,) = await routing.cases()
    assert new.case_id != case.case_id
    assert [resent.id] == [each.id for each in new.studies]
    assert [] == await routing.held()
    assert [CasePurged(case.case_id, 1, "routing", (study.id,))] == await said(routing)
    assert ("case.placed.v1", 1) == [fact for fact in await routing.facts() if "placed" in fact[0]][-1]

    await routing.place(replace(resent, version=2))
    await purge(routing, case.case_id, 2)
    assert [new.case_id] == [each.case_id for each in await routing.cases()]


async def test_of_two_sent_again_the_first_is_placed_and_the_second_held_beside_it(routing: Routing) -> None:
    hub, lakeside = await two_ways(routing)
    study, case = await a_case(routing, lakeside)
    later = await received(routing, again(study, hub.id, AFTER + timedelta(minutes=1)))
    earlier = await received(routing, again(study, lakeside.id, AFTER))

    await purge(routing, case.case_id)

    (new,) = await routing.cases()
    (held,) = await routing.held()
    assert [earlier.id] == [each.id for each in new.studies]
    assert (later.id, HeldReason.SECOND_STUDY, new.case_id) == (held.study_id, held.reason, held.case_id)


async def test_a_study_that_comes_beside_the_case_during_the_purge_is_not_lost(routing: Routing) -> None:
    _, lakeside = await two_ways(routing)
    study, case = await a_case(routing, lakeside)
    routing.archive.deletions[case.case_id] = BEGUN
    deletion = await fetched(routing, case.case_id)
    resent = await received(routing, again(study, lakeside.id))

    with pytest.raises(Unavailable):  # the consumer comes again
        await hear(routing, deletion)
    assert [case] == await routing.cases()

    await purge(routing, case.case_id)
    (new,) = await routing.cases()
    assert [resent.id] == [each.id for each in new.studies]


# Said


@pytest.mark.proves("ING-6", part="confirmed with the studies that routing held")
async def test_a_deletion_told_again_is_confirmed_again_with_the_same_studies(routing: Routing) -> None:
    _, lakeside = await two_ways(routing)
    study, case = await a_case(routing, lakeside)
    unknown = CaseId(uuid4())

    await purge(routing, case.case_id)
    await purge(routing, case.case_id, 2)
    await purge(routing, unknown)

    assert [
        CasePurged(case.case_id, 1, "routing", (study.id,)),
        CasePurged(case.case_id, 2, "routing", (study.id,)),
        CasePurged(unknown, 1, "routing", ()),
    ] == await said(routing)


async def test_a_deletion_that_ingest_knows_nothing_of_purges_nothing(routing: Routing) -> None:
    _, lakeside = await two_ways(routing)
    _, case = await a_case(routing, lakeside)

    assert await routing.placements.fetch_deletion(case.case_id) is None
    assert [case] == await routing.cases()


# Nothing comes back


@pytest.mark.proves("ING-6", part="what was fetched before the purge")
@pytest.mark.parametrize("version", [1, 2])
async def test_a_snapshot_fetched_before_the_purge_and_written_after_it_brings_nothing_back(
    routing: Routing, version: int
) -> None:
    _, lakeside = await two_ways(routing)
    study, case = await a_case(routing, lakeside)
    snapshot = await routing.placements.fetch(study.id)
    assert snapshot

    await purge(routing, case.case_id)
    await routing.place(replace(snapshot, version=version))

    assert KEPT >= await rows_naming(routing, case.case_id, study.id)


@pytest.mark.proves("ING-6", part="healing")
async def test_healing_resurrects_nothing_while_ingest_still_has_it(routing: Routing) -> None:
    _, lakeside = await two_ways(routing)
    study, case = await a_case(routing, lakeside)
    await purge(routing, case.case_id)

    await heal(routing.database, routing.placements.kinds())

    assert KEPT >= await rows_naming(routing, case.case_id, study.id)


@pytest.mark.proves("ING-8", part="a resend that comes before the purge")
async def test_placing_and_purging_side_by_side_leave_the_new_copy_only(routing: Routing) -> None:
    """Whoever comes first: the old copy is gone, and each new one has a case or is held beside it."""
    _, lakeside = await two_ways(routing)
    for _ in range(8):
        study = await received(routing, a_study(lakeside.id, ("1.1", "MS44")))
        (case,) = [each for each in await routing.cases() if each.studies[0].id == study.id]
        resent = again(study, lakeside.id)
        newer = routing.archive.add(replace(resent, version=2))

        await asyncio.gather(
            routing.place(study, resent),
            routing.place(newer),
            purge(routing, case.case_id),
            purge(routing, case.case_id, 2),
            routing.place(replace(study, version=2)),
        )

        assert KEPT >= await rows_naming(routing, case.case_id, study.id)
        (new,) = [
            each for each in await routing.cases() if each.study_instance_uid == study.study_instance_uid
        ]
        assert [resent.id] == [each.id for each in new.studies]
    assert [] == await routing.held()


# The whole service


@pytest.mark.proves("ING-6", part="from the fact to its confirmation")
@pytest.mark.proves("ING-8", part="a resend that comes before the purge")
async def test_a_deleted_case_is_gone_and_its_resend_placed(running: System) -> None:
    _, lakeside = await a_hub(running)
    study = await running.receive(a_study(at(lakeside), ("1.1", "MS44")))
    case = await running.case_of(study)
    case_id = CaseId(UUID(case.case_id))
    resent = await running.receive(again(study, at(lakeside)))
    running.ingest.archive.deletions[case_id] = BEGUN

    await running.tell(CaseDeleted(case_id, 1))

    new = await running.case_of(resent)
    assert new.case_id != case.case_id
    with pytest.raises(NotFound):
        await running.described(case.case_id)

    async def confirmed() -> bool:
        return (CasePurged.subject, case.case_id, 1) in await facts_said(running)

    await eventually(confirmed)
