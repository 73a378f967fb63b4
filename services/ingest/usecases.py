"""Received studies: each instance counts once, whoever needs to know is told, and what is quiet settles."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from kernel.database import Database
from kernel.dicom import UID
from kernel.errors import NotFound
from kernel.events import StudyChanged, StudyReceived
from kernel.ids import NewId, PackId, StudyId, VolumeId, WriterId
from services.ingest.domain import (
    ANSWERS,
    Limits,
    Refused,
    Sender,
    StoredInstance,
    StoreStatus,
    Study,
    Verdict,
)
from services.ingest.parts import Description, StudyInParts, parse_mapping_tag
from services.ingest.transfers import carrying

if TYPE_CHECKING:
    from services.ingest.store import IngestTransaction

VERSIONS_PAGE = 500
"""What a page of versions holds; a page with fewer is the last."""
CHANGES_S = 1.0
"""A changing study is told at most this often, and revoked gateways are looked for (A55, SEC-2)."""
TOLD_AT_ONCE = 1_000
"""Studies that are told or settle at one look, and packs that are sealed; the others a second later."""
CHANGED_AT_MOST_EVERY = timedelta(seconds=1)
"""By PostgreSQL's clock."""


class Writer(Protocol):
    """Under whom packs are opened."""

    @property
    def writer_id(self) -> WriterId: ...
    @property
    def volume_id(self) -> VolumeId: ...


class Studies:
    """Received studies: each instance counts once, and whoever needs to know is told.

    Attributes:
        woken: set when a pack was released.
        is_behind: whether a change was not due yet when changes were told last.
    """

    def __init__(
        self, database: Database[IngestTransaction], writer: Writer, limits: Limits, new_id: NewId
    ) -> None:
        self._database = database
        self._writer = writer
        self._limits = limits
        self._new_id = new_id
        self._changed: set[StudyId] = set()
        self._changing = Lock()
        self._released: dict[PackId, StudyId | None] = {}
        self.is_behind = False
        self.woken = asyncio.Event()

    async def open_study(self, sender: Sender, study_instance_uid: UID) -> tuple[Sender, StudyId, PackId]:
        """The live StudyId at the facility, or the one the study will have if it becomes durable; and a new
        pack for it, whose row is there before its file. The sender is that of the study's transfer.

        Raises Refused for a study that was not announced, where its association named a transfer, and if the
        study was deleted after the transfer had begun, also where it is live again.
        """
        pack_id = PackId(self._new_id())
        async with self._database.statements() as statements:
            if sender.transfer_study_instance_uid != study_instance_uid:
                newest = await statements.newest_transfer(
                    sender.gateway_id, sender.calling_ae_title, study_instance_uid
                )
                sender = carrying(sender, study_instance_uid, newest)
            known, deleted = await statements.open_pack_for(
                sender, study_instance_uid, pack_id, self._writer.volume_id, self._writer.writer_id
            )
        if deleted:
            raise Refused(StoreStatus.DELETED)
        return sender, known or StudyId(self._new_id()), pack_id

    async def open_pack(self) -> PackId:
        """A new pack of no study, whose row is there before its file."""
        pack_id = PackId(self._new_id())
        async with self._database.statements() as statements:
            await statements.open_pack(pack_id, self._writer.volume_id, self._writer.writer_id)
        return pack_id

    async def receive(
        self,
        study_id: StudyId,
        sender: Sender,
        stored: StoredInstance,
        description: Description,
        *,
        described: bool = False,
    ) -> tuple[Verdict, StudyId]:
        """Indexes an instance whose bytes are durable: one statement, but for the first of a study.

        With `described` the association has described the series and the part already.

        Other bytes under a stored UID are kept where they are, in the pack, however large: once per digest,
        and while the gateway's share of the quarantine lasts (A27). An Unavailable leaves open what was
        committed.
        """
        async with self._database.statements() as statements:
            verdict, live_id = await statements.receive(
                study_id, sender, stored, description, create=False, described=described
            )
            if verdict is Verdict.UNDESCRIBED:
                verdict, live_id = await statements.receive(
                    study_id, sender, stored, description, create=False
                )
        if verdict is Verdict.ABSENT:
            async with self._database.transaction() as transaction:
                verdict, live_id = await transaction.receive(
                    study_id, sender, stored, description, create=True
                )
                if verdict is Verdict.FIRST:
                    await transaction.say(StudyReceived(live_id, 1))
        if verdict is Verdict.CONFLICT:
            async with self._database.statements() as statements:
                reason = ANSWERS[StoreStatus.CONFLICT].comment
                if await statements.quarantine(live_id, sender, stored, reason, self._limits):
                    verdict = Verdict.QUARANTINED
        if verdict is Verdict.NEW:
            self.changed(live_id)
        return verdict, live_id

    def changed(self, study_id: StudyId) -> None:
        """The study has a further instance, which will be told; from any thread."""
        with self._changing:
            self._changed.add(study_id)

    async def keep_unfiled(self, sender: Sender, stored: StoredInstance, reason: str) -> bool:
        """Whether durable bytes that cannot be filed are kept, alone in their pack, for a person."""
        async with self._database.statements() as statements:
            return await statements.quarantine(None, sender, stored, reason, self._limits)

    def release(self, pack_id: PackId, study_id: StudyId | None) -> None:
        """An association has ended with this pack: it is sealed, and the study is told, at once."""
        self._released[pack_id] = study_id
        self.woken.set()

    async def tell(self, *, everything: bool) -> None:
        """Tells changes, and seals the released packs; their files are to be trimmed.

        With `everything` false, only studies whose association has just ended are told. The others are told
        at most once a second, by all processes together (A55): of what is not due yet, this one keeps that
        it changed.
        """
        released = dict(islice(self._released.items(), TOLD_AT_ONCE))
        # Taken out first: what changes from here on is told the next time. Should this fail, then the next
        # change of the study tells it, or its settling.
        with self._changing:
            telling = self._changed if everything else self._changed & set(released.values())
            telling = set(islice(telling, TOLD_AT_ONCE))
            self._changed -= telling
        ended = telling & set(released.values())
        # Studies before packs: `receive` takes its locks in this order.
        async with self._database.transaction() as transaction:
            changes = await transaction.bump(ended)
            due = await transaction.bump_due(telling - ended, CHANGED_AT_MOST_EVERY)
            changes |= {study_id: version for study_id, version in due.items() if version is not None}
            await transaction.say(*(StudyChanged(study_id, v) for study_id, v in changes.items()))
            await transaction.seal_packs(released)
        for pack_id in released:
            del self._released[pack_id]
        later = {study_id for study_id, version in due.items() if version is None}
        with self._changing:
            self._changed |= later
        self.is_behind = bool(later)

    async def settle(self) -> None:
        """Settles what is quiet (A55)."""
        async with self._database.transaction() as transaction:
            changes = await transaction.settle(self._limits.settle_after, TOLD_AT_ONCE)
            await transaction.say(*(StudyChanged(study_id, v) for study_id, v in changes.items()))

    async def describe_study(self, study_id: StudyId) -> Study:
        """The snapshot for whoever heard a fact; raises NotFound if the study is gone."""
        async with self._database.transaction() as transaction:
            study = await transaction.study(study_id)
        if study is None:
            raise NotFound("`study_id` is not a received study", field="study_id")
        return study

    async def describe_study_in_parts(
        self, study_id: StudyId, mapping_tag: str, after_part: int
    ) -> StudyInParts:
        """A page of the snapshot in parts; raises NotFound if the study is gone."""
        tag = parse_mapping_tag(mapping_tag)
        async with self._database.statements() as statements:
            study = await statements.study_in_parts(study_id, tag, after_part)
        if study is None:
            raise NotFound("`study_id` is not a received study", field="study_id")
        return study

    async def list_versions(self, after: StudyId | None) -> Sequence[tuple[StudyId, int]]:
        """The next page of all studies and their versions."""
        async with self._database.statements() as statements:
            return await statements.versions(after, VERSIONS_PAGE)
