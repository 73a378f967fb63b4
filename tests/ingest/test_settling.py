"""How long a study must be quiet before it has settled: a length for each receiving facility (A55, A68)."""

from datetime import timedelta
from uuid import uuid4

import pytest
from google.protobuf.duration_pb2 import Duration

from kernel.errors import Conflict, Denied, Invalid, NotFound
from kernel.ids import UUID7, FacilityId, PackId, StudyId
from plumbing.db import Database
from services.ingest.settling import SettleLength
from services.ingest.store import IngestTransaction
from tests.clocks import Clock
from tests.conftest import OpenDatabase
from tests.ingest.builders import FACILITY, NOTHING, NOW, a_gateway, a_sender, a_uid, an_instance, stored
from tests.ingest.objects import a_ct
from tests.ingest.system import ADMIN, HARBOUR, READER, RIVERSIDE, Ingest, Sender, sent_objects
from tests.ingest.writing import open_pack
from tests.wait import eventually
from wire.ingest.v1 import ingest_pb2 as pb

OTHER = FacilityId(uuid4())
Store = Database[IngestTransaction]


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
async def store(open_database: OpenDatabase, clock: Clock) -> Store:
    return await open_database("ingest", IngestTransaction, clock, UUID7(clock))


async def quiet_study(store: Store, facility_id: FacilityId) -> StudyId:
    """A study whose only pack is sealed now."""
    gateway = a_gateway(f"T{uuid4().hex[:8]}", facility_id=facility_id)
    study_id, pack_id = StudyId(uuid4()), PackId(uuid4())
    async with store.transaction() as transaction:
        await transaction.insert_gateway(gateway)
        placed = stored(an_instance(study=a_uid()), pack_id=pack_id)
        await open_pack(transaction, pack_id)
        await transaction.receive(study_id, a_sender(gateway), placed, NOTHING, create=True)
        await transaction.seal_packs([pack_id])
    return study_id


@pytest.mark.proves("A55", part="a settle length for each facility")
async def test_each_study_waits_as_long_as_its_facility_says(store: Store, clock: Clock) -> None:
    quick, slow = await quiet_study(store, FACILITY), await quiet_study(store, OTHER)
    async with store.transaction() as transaction:
        await transaction.save_settle_length(SettleLength(OTHER, timedelta(minutes=3), 1), by="ada")

    async def settled() -> set[StudyId]:
        async with store.transaction() as transaction:
            return set(await transaction.settle(timedelta(seconds=5), 9))

    async def pass_by(length: timedelta) -> None:
        """The packs were sealed so much earlier, by PostgreSQL's clock, which alone counts here."""
        async with store.statements() as statements:
            await statements.connection.execute(
                "update packs set sealed_at = sealed_at - $1::interval", length
            )

    clock.pass_by(timedelta(days=1))
    await pass_by(timedelta(seconds=2))
    assert set() == await settled()
    await pass_by(timedelta(seconds=4))
    assert {quick} == await settled()
    await pass_by(timedelta(minutes=1))
    assert set() == await settled()
    await pass_by(timedelta(minutes=2))
    assert {slow} == await settled()


def a_length(facility_id: FacilityId, seconds: float, version: int = 0) -> pb.SaveSettleLengthRequest:
    length = pb.SettleLength(facility_id=str(facility_id), version=version)
    length.settle_after.FromTimedelta(timedelta(seconds=seconds))
    return pb.SaveSettleLengthRequest(settle_length=length)


async def read(ingest: Ingest, facility_id: FacilityId) -> tuple[float, int]:
    request = pb.ReadSettleLengthRequest(facility_id=str(facility_id))
    length = (await ingest.acting(ADMIN).ReadSettleLength(request)).settle_length
    return length.settle_after.ToTimedelta().total_seconds(), length.version


async def test_a_saved_length_counts_for_its_facility_only(ingest: Ingest) -> None:
    assert (0.5, 0) == await read(ingest, RIVERSIDE)

    saved = (await ingest.acting(ADMIN).SaveSettleLength(a_length(RIVERSIDE, 3600))).settle_length

    assert (3600, 1) == (saved.settle_after.seconds, saved.version)
    assert [(3600, 1), (0.5, 0)] == [await read(ingest, each) for each in (RIVERSIDE, HARBOUR)]
    for facility_id in (RIVERSIDE, HARBOUR):
        gateway = await ingest.enrol(f"T{facility_id.hex[-2:]}", facility_id)
        await sent_objects(Sender.of(ingest, gateway), a_ct(study=a_uid()))
    await eventually(lambda: ingest.rows("select from studies where settled_at is not null"))
    (settled,) = await ingest.rows("select receiving_facility_id from studies where settled_at is not null")
    assert HARBOUR == settled[0]
    rows = await ingest.rows("select action, outcome from audit_rows where action like 'settle_length.%'")
    assert [("settle_length.saved", "done")] == [tuple(row) for row in rows]


@pytest.mark.proves("A68", part="settle length")
async def test_a_save_names_the_version_it_was_made_from(ingest: Ingest) -> None:
    stub = ingest.acting(ADMIN)
    await stub.SaveSettleLength(a_length(RIVERSIDE, 10))
    for version in (0, 2):
        with pytest.raises(Conflict, match=f"by `{ADMIN}`") as refused:
            await stub.SaveSettleLength(a_length(RIVERSIDE, 20, version))
        assert "version" == refused.value.field

    await stub.SaveSettleLength(a_length(RIVERSIDE, 20, 1))

    assert (20, 2) == await read(ingest, RIVERSIDE)


@pytest.mark.parametrize("seconds", [0.999, 3600.001, 0, -5, 10**9])
async def test_a_length_lies_between_a_second_and_an_hour(ingest: Ingest, seconds: float) -> None:
    with pytest.raises(Invalid, match="between 1 second and 1 hour") as refused:
        await ingest.acting(ADMIN).SaveSettleLength(a_length(RIVERSIDE, seconds))
    assert "settle_after" == refused.value.field
    assert (0.5, 0) == await read(ingest, RIVERSIDE)


async def test_what_is_no_length_and_no_facility_is_refused(ingest: Ingest) -> None:
    stub = ingest.acting(ADMIN)
    hostile = pb.SettleLength(facility_id=str(RIVERSIDE), settle_after=Duration(seconds=2**63 - 1))
    for wanted in (hostile, pb.SettleLength(facility_id=str(RIVERSIDE)), pb.SettleLength(facility_id="x")):
        with pytest.raises(Invalid):
            await stub.SaveSettleLength(pb.SaveSettleLengthRequest(settle_length=wanted))
    with pytest.raises(Invalid):
        await stub.ReadSettleLength(pb.ReadSettleLengthRequest(facility_id="x"))


async def test_only_who_administers_the_facility_reads_and_saves(ingest: Ingest) -> None:
    unknown = FacilityId(uuid4())
    ingest.access.known[str(HARBOUR)] = {READER}
    stub = ingest.acting(READER)
    for facility_id, refusal in ((HARBOUR, Denied), (RIVERSIDE, NotFound), (unknown, NotFound)):
        with pytest.raises(refusal):
            await stub.SaveSettleLength(a_length(facility_id, 10))
        with pytest.raises(refusal):
            await stub.ReadSettleLength(pb.ReadSettleLengthRequest(facility_id=str(facility_id)))

    assert [] == await ingest.rows("select from settle_lengths")
    rows = await ingest.rows("select action, outcome from audit_rows where action like 'settle_length.%'")
    assert 6 == len(rows)
    assert {"refused"} == {row["outcome"] for row in rows}
