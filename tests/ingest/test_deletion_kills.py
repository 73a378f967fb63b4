"""Killed at each step of a deletion: after the next start it is finished, or has never been (A60)."""

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from kernel.clock import MonotonicClock
from kernel.errors import NotFound
from kernel.events import CasePurged
from kernel.ids import UUID7, CaseId, DeletionId, FacilityId, PackId, StudyId
from kernel.reach import Reach
from plumbing.db import Database
from services.ingest import events
from services.ingest.deletion import Deletions
from services.ingest.domain import Limits, Sight
from services.ingest.gateway import Gateway
from services.ingest.packs import OpenPack, Packs
from services.ingest.purgerecord import CONFIRM, Begun, State
from services.ingest.store import IngestTransaction
from services.ingest.writers import Writer
from tests.ingest.builders import FACILITY, NOTHING, a_gateway, a_label, a_sender, an_instance, stored
from tests.ingest.test_deletion_timers import NoRouting
from tests.ingest.writing import a_writer

CLOCK = MonotonicClock()
NEW_ID = UUID7(CLOCK)
USER = "user"


class Killed(BaseException):
    """The process is no more."""


@dataclass
class Life:
    """A process, ended at its `ends_at`-th step."""

    ends_at: int = -1
    steps: int = 0

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.ends_at:
            raise Killed


@dataclass
class Access:
    """Answers a deletion that it has begun again, whoever asks."""

    life: Life = field(default_factory=Life)
    studies: dict[CaseId, StudyId] = field(default_factory=dict)
    begun: dict[DeletionId, Begun] = field(default_factory=dict)
    for_a_user: bool = True

    async def sight(self, case_id: CaseId) -> Sight | None:
        return Sight(FacilityId(FACILITY), by_privilege=True)

    async def reach(self, permission: str) -> Reach:
        return Reach(everywhere=True)

    async def begin_delete(self, case_id: CaseId, deletion_id: DeletionId, *, force: bool) -> Begun:
        self.life.step()
        if deletion_id not in self.begun:
            if not self.for_a_user:
                raise NotFound("there is no such deletion")
            self.begun[deletion_id] = Begun((self.studies[case_id],), FacilityId(FACILITY), "1")
        self.life.step()
        return self.begun[deletion_id]


class Mortal:
    """Database and files of a process: a step before and after each change of them."""

    def __init__(self, database: Database[IngestTransaction], packs: Packs, life: Life) -> None:
        self._database = database
        self._packs = packs
        self._life = life
        self.statements = database.statements
        self.audited = database.audited

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[IngestTransaction]:
        self._life.step()
        async with self._database.transaction() as transaction:
            yield transaction
            self._life.step()
        self._life.step()

    def seal(self, pack_id: PackId, committed_end: int) -> None:
        self._life.step()
        self._packs.seal(pack_id, committed_end)
        self._life.step()

    def release(self, sha256: bytes) -> None:
        self._life.step()
        self._packs.release(sha256)
        self._life.step()


@pytest.fixture
async def database(fresh_database: Callable[[str], str]) -> AsyncIterator[Database[IngestTransaction]]:
    connected = await Database.connect(
        fresh_database("ingest"), IngestTransaction, clock=CLOCK, new_id=NEW_ID
    )
    yield connected
    await connected.close()


async def an_open_pack(database: Database[IngestTransaction], packs: Packs, writer: Writer) -> OpenPack:
    pack_id = PackId(NEW_ID())
    async with database.statements() as statements:
        await statements.open_pack(pack_id, writer.volume_id, writer.writer_id)
    return packs.create(pack_id)


async def a_study(
    database: Database[IngestTransaction], packs: Packs, gateway: Gateway, writer: Writer
) -> StudyId:
    """A study of two packs, with a quarantined instance."""
    study_id, study, data = StudyId(NEW_ID()), an_instance().study_instance_uid, uuid4().bytes
    for _ in range(2):
        instance, pack = an_instance(study=study), await an_open_pack(database, packs, writer)
        entry = pack.entry(instance)
        entry.write(data)
        place = entry.complete(a_label(data))
        pack.close()
        async with database.transaction() as transaction:
            kept = stored(instance, data=data, pack_id=place.pack_id)
            await transaction.receive(study_id, a_sender(gateway), kept, NOTHING, create=True)
            await transaction.seal_packs([place.pack_id])
    # Refused bytes, in a pack as they are kept now and in a file as they were kept before.
    await quarantine_in_pack(database, packs, gateway, study_id, writer)
    await quarantine_in_file(database, packs, gateway, study_id)
    return study_id


async def quarantine_in_pack(
    database: Database[IngestTransaction],
    packs: Packs,
    gateway: Gateway,
    study_id: StudyId,
    writer: Writer,
) -> None:
    data, pack = uuid4().bytes, await an_open_pack(database, packs, writer)
    entry = pack.entry(an_instance())
    entry.write(data)
    place = entry.complete(a_label(data))
    pack.close()
    kept = replace(stored(an_instance(), data=data, pack_id=place.pack_id), place=place)
    async with database.transaction() as transaction:
        assert await transaction.quarantine(study_id, a_sender(gateway), kept, "why", Limits())
        await transaction.seal_packs([place.pack_id])


async def quarantine_in_file(
    database: Database[IngestTransaction], packs: Packs, gateway: Gateway, study_id: StudyId
) -> None:
    digest = hashlib.sha256(uuid4().bytes)
    (packs._directory / "quarantine" / f"{digest.hexdigest()}.dcm").write_bytes(b"refused")
    async with database.transaction() as transaction:
        await transaction.connection.execute(
            "insert into quarantined select $1, $2, $3, '1.2', '1.2', '1.2', 7, now()",
            digest.digest(),
            gateway.gateway_id,
            study_id,
        )


def on_disk(folder: Path) -> int:
    return len([path for path in folder.rglob("*") if path.is_file()])


@pytest.mark.drill
@pytest.mark.proves("ING-6", part="killed at each step")
async def test_killed_at_each_step(database: Database[IngestTransaction], tmp_path: Path) -> None:
    packs = Packs(tmp_path / "packs", NEW_ID)
    writer = await a_writer(database, packs, NEW_ID)
    gateway = a_gateway()
    async with database.transaction() as transaction:
        await transaction.insert_gateway(gateway)
    access = Access()
    outcomes: list[State | None] = []

    async def heard(deletions: Deletions, case_id: CaseId, life: Life) -> None:
        for name in CONFIRM:
            async with Mortal(database, packs, life).transaction() as transaction:
                await deletions.confirm(transaction, CasePurged(case_id, 1, name), [])

    async def deleted(deletions: Deletions, case_id: CaseId, life: Life) -> None:
        access.for_a_user = True
        await deletions.delete_study(USER, case_id, force=False)
        access.for_a_user = False
        await events.resume(deletions)
        await heard(deletions, case_id, life)
        await events.resume(deletions)

    async def started_again(deletions: Deletions, case_id: CaseId, life: Life) -> None:
        access.for_a_user = False
        await writer.trim()
        await events.resume(deletions, asked_for=timedelta())
        await heard(deletions, case_id, life)
        await events.resume(deletions)

    async def lives(act: Callable[[Deletions, CaseId, Life], Any], case_id: CaseId, life: Life) -> bool:
        """Whether the process outlives what it does."""
        mortal: Any = Mortal(database, packs, life)
        access.life = life
        try:
            await act(Deletions(mortal, access, NoRouting(), mortal, writer, NEW_ID), case_id, life)
        except Killed:
            return False
        return True

    whole = False
    while not whole:
        case_id = CaseId(NEW_ID())
        study_id = access.studies[case_id] = await a_study(database, packs, gateway, writer)
        whole = await lives(deleted, case_id, Life(ends_at=len(outcomes) + 1))
        assert whole or await lives(started_again, case_id, Life())
        async with database.statements() as statements:
            deletion = await statements.deletion_of(case_id)
            outcomes.append(deletion.state if deletion else None)
            for table in ("studies", "series", "instances", "packs", "quarantined", "tombstones"):
                count = await statements.connection.fetchval(
                    f"select count(*) from {table} where study_id = $1", study_id
                )
                assert bool(count) is ((table == "tombstones") is (deletion is not None)), table
            for table in ("doomed_files", "doomed_studies"):
                assert not await statements.connection.fetchval(f"select count(*) from {table}")
            assert not await statements.asked_deletions(statements.now, 9)
            told = await statements.connection.fetchval(
                "select count(*) from outbox where subject = 'case.deleted.v1' and payload->>'id' = $1",
                str(case_id),
            )
            assert bool(told) is (deletion is not None)
        if deletion is None:  # it has never been: the study is whole
            assert on_disk(packs._directory) == 4 + 1  # the volume has a name
            assert await lives(deleted, case_id, Life())
        assert on_disk(packs._directory) == 1
    packs.close()
    assert len(outcomes) > 30
    began = outcomes.index(State.CLOSED)
    assert set(outcomes[:began]) == {None}
    assert set(outcomes[began:]) == {State.CLOSED}
