"""What the index decides, on a real PostgreSQL."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from kernel.clock import MonotonicClock
from kernel.errors import Conflict, Unavailable
from kernel.ids import UUID7, PackId, StudyId, TransferId
from kernel.reach import Reach
from plumbing.db import Database
from services.ingest.domain import Admission, Instance, Limits, RecordedRefusal, Refusal, RefusalKind, Verdict
from services.ingest.gateway import Gateway
from services.ingest.parts import Description
from services.ingest.store import IngestTransaction
from services.ingest.transfers import Transfer
from services.ingest.writers import Ended
from tests.conftest import OpenDatabase
from tests.ingest.builders import (
    FACILITY,
    NOTHING,
    NOW,
    a_gateway,
    a_sender,
    a_uid,
    an_instance,
    stored,
)
from tests.ingest.writing import VOLUME, WRITER, open_pack
from tests.wait import eventually

Store = Database[IngestTransaction]
EVERYWHERE = Reach(everywhere=True)
CLOCK = MonotonicClock()


@pytest.fixture
async def store(open_database: OpenDatabase) -> Store:
    return await open_database("ingest", IngestTransaction, CLOCK, UUID7(CLOCK))


@pytest.fixture
async def gateway(store: Store) -> Gateway:
    gateway = a_gateway("RIVERSIDE")
    async with store.transaction() as transaction:
        await transaction.insert_gateway(gateway)
    return gateway


async def receive(
    store: Store,
    gateway: Gateway,
    study_id: StudyId,
    instance: Instance,
    *,
    pack_id: PackId,
    data: bytes = b"data",
    offset: int = 0,
    description: Description = NOTHING,
) -> tuple[Verdict, StudyId]:
    async with store.transaction() as transaction:
        await open_pack(transaction, pack_id)
        return await transaction.receive(
            study_id,
            a_sender(gateway),
            stored(instance, data=data, pack_id=pack_id, offset=offset),
            description,
            create=True,
        )


async def test_new_duplicate_and_conflict(store: Store, gateway: Gateway) -> None:
    study_id, pack_id, instance = StudyId(uuid4()), PackId(uuid4()), an_instance()
    assert await receive(store, gateway, study_id, instance, pack_id=pack_id) == (Verdict.FIRST, study_id)
    again = an_instance(study=instance.study_instance_uid)
    assert (await receive(store, gateway, study_id, again, pack_id=pack_id, offset=4096))[0] is Verdict.NEW
    other = PackId(uuid4())
    assert (await receive(store, gateway, study_id, instance, pack_id=other))[0] is Verdict.DUPLICATE
    assert (await receive(store, gateway, study_id, instance, pack_id=other, data=b"x"))[
        0
    ] is Verdict.CONFLICT
    async with store.statements() as statements:
        # A duplicate and a conflict leave nothing in a pack.
        filled = "select array_agg(pack_id) from packs where committed_end > 0"
        assert await statements.connection.fetchval(filled) == [pack_id]


async def test_nothing_is_created_unless_it_is_asked_for(store: Store, gateway: Gateway) -> None:
    async with store.statements() as statements:
        verdict, _ = await statements.receive(
            StudyId(uuid4()),
            a_sender(gateway),
            stored(an_instance(), pack_id=PackId(uuid4())),
            NOTHING,
            create=False,
        )
        assert verdict is Verdict.ABSENT
        assert await statements.connection.fetchval("select count(*) from studies") == 0


async def test_a_study_has_one_live_id_at_a_facility(store: Store, gateway: Gateway) -> None:
    first, second, instance = StudyId(uuid4()), StudyId(uuid4()), an_instance()
    await receive(store, gateway, first, instance, pack_id=PackId(uuid4()))
    late = an_instance(study=instance.study_instance_uid)
    assert await receive(store, gateway, second, late, pack_id=PackId(uuid4())) == (
        Verdict.OTHER_STUDY_ID,
        first,
    )


@pytest.mark.proves("R3", part="a commit that comes too late")
async def test_a_sealed_pack_takes_no_late_commit(store: Store, gateway: Gateway) -> None:
    """Sealing a pack of which nothing is committed yet leaves a fence; the late commit leaves nothing."""
    study_id, pack_id, instance = StudyId(uuid4()), PackId(uuid4()), an_instance()
    async with store.transaction() as transaction:
        await open_pack(transaction, pack_id)
        await transaction.seal_packs([pack_id])
    with pytest.raises(Unavailable):
        await receive(store, gateway, study_id, instance, pack_id=pack_id)
    async with store.transaction() as transaction:
        for table in ("studies", "series", "instances"):
            assert await transaction.connection.fetchval(f"select count(*) from {table}") == 0
        later = transaction.now + timedelta(minutes=1)
        await transaction.prune_packs(later, 9)  # its file has to go first
        assert await transaction.connection.fetchval("select count(*) from packs") == 1
        await transaction.packs_are_trimmed([Ended(pack_id, 0)])
        await transaction.prune_packs(transaction.now - timedelta(hours=1), 9)
        assert await transaction.connection.fetchval("select count(*) from packs") == 1
        await transaction.prune_packs(later, 9)
        assert await transaction.connection.fetchval("select count(*) from packs") == 0


async def test_a_sealed_pack_ends_where_the_last_commit_ended(store: Store, gateway: Gateway) -> None:
    study_id, pack_id = StudyId(uuid4()), PackId(uuid4())
    study, series = a_uid(), a_uid()
    for offset in (0, 4096):
        instance = an_instance(study=study, series=series)
        await receive(store, gateway, study_id, instance, pack_id=pack_id, offset=offset)
    async with store.transaction() as transaction:
        await transaction.seal_packs([pack_id])
        assert await transaction.packs_to_trim(VOLUME, WRITER, 9) == [Ended(pack_id, 8192)]
        assert await transaction.pack_ends([pack_id, PackId(uuid4())]) == {pack_id: 8192}


async def test_a_study_settles_when_all_its_packs_are_sealed_for_long_enough(
    store: Store, gateway: Gateway
) -> None:
    study_id, first, second = StudyId(uuid4()), PackId(uuid4()), PackId(uuid4())
    study, series = a_uid(), a_uid()

    async def arrives(pack_id: PackId) -> None:
        await receive(store, gateway, study_id, an_instance(study=study, series=series), pack_id=pack_id)

    async def settles(quiet_for: timedelta = timedelta(0)) -> dict[StudyId, int]:
        async with store.transaction() as transaction:
            return await transaction.settle(quiet_for, 9)

    async def seal(pack_id: PackId) -> None:
        async with store.transaction() as transaction:
            await transaction.seal_packs([pack_id])

    await arrives(first)
    await arrives(second)
    await seal(first)
    assert await settles() == {}
    await seal(second)
    assert await settles(timedelta(seconds=30)) == {}
    assert await settles() == {study_id: 2}
    assert await settles() == {}
    third = PackId(uuid4())
    await arrives(third)
    assert await settles() == {}
    await seal(third)
    assert await settles() == {study_id: 3}


async def test_the_first_value_wins_and_later_ones_fill_gaps(store: Store, gateway: Gateway) -> None:
    study_id, pack_id, study, series = StudyId(uuid4()), PackId(uuid4()), a_uid(), a_uid()
    told = [
        Description({"PatientID": "1"}, {"Modality": "CT"}, {"PatientID": "1"}),
        Description({"PatientID": "2", "StudyID": "9"}, {"Modality": "MR", "SeriesNumber": "4"}, {}),
        Description({}, {}, {"PatientID": "2", "StationName": "S"}),
        Description({}, {}, {"PatientID": "1"}),
    ]
    for number, description in enumerate(told):
        await receive(
            store,
            gateway,
            study_id,
            an_instance(study=study, series=series),
            pack_id=pack_id,
            offset=number * 4096,
            description=description,
        )
    async with store.statements() as statements:
        described = await statements.study(study_id)
    assert described is not None
    assert described.attributes == {"PatientID": "1", "StudyID": "9"}
    (only,) = described.series
    assert only.attributes == {"Modality": "CT", "SeriesNumber": "4"}
    assert [(v.keyword, v.value, v.ordinal) for v in only.mapping_values] == [
        ("PatientID", "1", 1),
        ("PatientID", "2", 2),
        ("StationName", "S", 3),
    ]


async def test_a_title_is_unique_among_live_gateways(store: Store, gateway: Gateway) -> None:
    with pytest.raises(Conflict) as conflict:
        async with store.transaction() as transaction:
            await transaction.insert_gateway(replace(a_gateway("OTHER", "RIVERSIDE"), name="Other"))
    assert conflict.value.field == "ae_titles.ae_title"
    async with store.transaction() as transaction:
        assert await transaction.gateways(EVERYWHERE, None, 10) == [gateway]
        await transaction.revoke_gateway(gateway.revoke(NOW))
        await transaction.insert_gateway(a_gateway("OTHER", "RIVERSIDE"))
        admission = Admission(gateway.gateway_id, gateway.bindings[0].ae_title, FACILITY)
        assert await transaction.ended([admission]) == {admission}
        assert await transaction.gateway_of_certificate(gateway.certificate_sha256) == gateway.revoke(NOW)


async def test_refusals_are_bounded_by_age_and_number(store: Store, gateway: Gateway) -> None:
    kept = [
        RecordedRefusal(
            UUID(int=day),
            NOW + timedelta(days=day),
            Refusal(RefusalKind.ASSOCIATION, "x", "h:1", gateway_id=gateway.gateway_id if day % 2 else None),
        )
        for day in range(10)
    ]
    async with store.transaction() as transaction:
        for each in kept:
            await transaction.insert_refusal(each)
        await transaction.prune_refusals(NOW + timedelta(days=2), 5, 9)
        assert await transaction.refusals(EVERYWHERE, None, 100) == kept[:4:-1]
        assert await transaction.refusals(EVERYWHERE, kept[7].refusal_id, 1) == [kept[6]]
        at_the_facility = Reach(facilities=frozenset({FACILITY}))
        assert await transaction.refusals(at_the_facility, None, 100) == [kept[9], kept[7], kept[5]]
        assert await transaction.refusals(Reach(), None, 100) == []


async def test_the_newest_entry_of_a_queue_is_never_superseded(store: Store, gateway: Gateway) -> None:
    uid, title = a_uid(), gateway.bindings[0].ae_title
    transfers = [
        Transfer(TransferId(uuid4()), gateway.gateway_id, title, uid, NOW + timedelta(minutes=minute))
        for minute in (5, 1, 9, 3)
    ]
    async with store.transaction() as transaction:
        for each in transfers:
            assert await transaction.begin_transfers(gateway.gateway_id, [each]) == [each]
        rows = await transaction.connection.fetch("select * from transfers where superseded_by is null")
        assert [row["transfer_id"] for row in rows] == [transfers[2].transfer_id]
        await transaction.prune_transfers(NOW + timedelta(minutes=4), 9)
        assert await transaction.transfer(transfers[1].transfer_id) is None
        assert await transaction.transfer(transfers[2].transfer_id) == transfers[2]


async def test_the_quarantine_has_room_for_so_many_and_so_much(store: Store, gateway: Gateway) -> None:
    sender, study_id, instance = a_sender(gateway), StudyId(uuid4()), an_instance()
    await receive(store, gateway, study_id, instance, pack_id=PackId(uuid4()))
    length = stored(instance, pack_id=PackId(uuid4())).place.file_length

    async def keep(
        instances: int, size: int, data: bytes = b"even", study_id: StudyId = study_id
    ) -> PackId | None:
        """The pack that refused bytes of this length are kept in; None if they are not."""
        limits = Limits(quarantine_instances=instances, quarantine_bytes=size)
        refused = stored(instance, data=data, pack_id=PackId(uuid4()))
        async with store.statements() as statements:
            await open_pack(statements, refused.place.pack_id)
            kept = await statements.quarantine(study_id, sender, refused, "why", limits)
        return refused.place.pack_id if kept else None

    assert not await keep(9, 9 * length, study_id=StudyId(uuid4()))  # purged meanwhile
    assert not await keep(1, length - 1)
    first = await keep(1, length)
    assert first
    assert not await keep(9, 9 * length)  # once per digest
    assert not await keep(1, 9 * length, b"odd!")
    assert not await keep(2, 2 * length - 1, b"odd!")
    assert await keep(2, 2 * length, b"odd!")
    async with store.transaction() as transaction:
        # The pack ends behind them, and takes nothing once it is sealed.
        await transaction.seal_packs([first])
        assert await transaction.pack_ends([first]) == {first: 4096}
    async with store.statements() as statements:
        late = stored(instance, data=b"late", pack_id=first)
        with pytest.raises(Unavailable):
            await statements.quarantine(study_id, sender, late, "why", Limits())
        assert await statements.connection.fetchval("select count(*) from quarantined") == 2


@pytest.mark.proves("A27", part="the cap holds against several at once")
async def test_associations_that_refuse_at_once_share_the_last_room(store: Store, gateway: Gateway) -> None:
    sender, study_id, instance = a_sender(gateway), StudyId(uuid4()), an_instance()
    await receive(store, gateway, study_id, instance, pack_id=PackId(uuid4()))

    async def keep(number: int) -> bool:
        refused = stored(instance, data=bytes([number]), pack_id=PackId(uuid4()))
        async with store.statements() as statements:
            await open_pack(statements, refused.place.pack_id)
            return await statements.quarantine(
                study_id, sender, refused, "why", Limits(quarantine_instances=3)
            )

    assert sorted(await asyncio.gather(*map(keep, range(8)))) == [False] * 5 + [True] * 3


async def test_a_gateway_is_known_by_each_of_its_certificates(store: Store, gateway: Gateway) -> None:
    another, of_the_version_before = "ab" * 32, "cd" * 32
    old = a_gateway("OLD")
    async with store.transaction() as transaction:
        execute = transaction.connection.execute
        await execute(
            "insert into gateway_certificates values ($1, $2, now(), null)", another, gateway.gateway_id
        )
        await transaction.insert_gateway(old)
        await execute("delete from gateway_certificates where gateway_id = $1", old.gateway_id)
        known = [
            await transaction.gateway_of_certificate(each)
            for each in (gateway.certificate_sha256, another, old.certificate_sha256, of_the_version_before)
        ]
    assert known == [gateway, gateway, old, None]


@pytest.mark.proves("SEC-2", part="revocation is in the statement that indexes")
async def test_a_revocation_waits_for_what_is_being_indexed_and_nothing_is_indexed_after_it(
    store: Store, gateway: Gateway
) -> None:
    study, series = a_uid(), a_uid()
    study_id, pack_id = StudyId(uuid4()), PackId(uuid4())

    async def revoke() -> None:
        async with store.transaction() as transaction:
            await transaction.revoke_gateway(gateway.revoke(NOW))

    async def is_waiting() -> bool:
        async with store.statements() as statements:
            return bool(
                await statements.connection.fetchval("select exists (select from pg_locks where not granted)")
            )

    async with store.transaction() as transaction:
        await open_pack(transaction, pack_id)
        stored_one = stored(an_instance(study=study, series=series), pack_id=pack_id)
        sender = a_sender(gateway)
        verdict, _ = await transaction.receive(study_id, sender, stored_one, NOTHING, create=True)
        assert verdict is Verdict.FIRST
        revoking = asyncio.create_task(revoke())
        await eventually(is_waiting)
    await revoking
    later = an_instance(study=study, series=series)
    assert await receive(store, gateway, study_id, later, pack_id=pack_id, offset=4096) == (
        Verdict.REVOKED,
        study_id,
    )
    first_of_another = an_instance()
    verdict, _ = await receive(store, gateway, StudyId(uuid4()), first_of_another, pack_id=PackId(uuid4()))
    assert verdict is Verdict.REVOKED
    async with store.statements() as statements:
        counted = "select (select count(*) from instances), (select count(*) from studies)"
        assert tuple(await statements.connection.fetchrow(counted)) == (1, 1)  # type: ignore[arg-type]
