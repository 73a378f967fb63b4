"""Received studies: each instance counts once, whoever needs to know is told, and what is quiet settles."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from kernel.database import Database
from kernel.dicom import UID
from kernel.errors import NotFound
from kernel.events import StudyChanged, StudyReceived
from kernel.ids import NewId, PackId, StudyId
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

if TYPE_CHECKING:
    from services.ingest.store import IngestTransaction

VERSIONS_PAGE = 500
"""What a page of versions holds; a page with fewer is the last."""
CHANGES_S = 1.0
"""A changing study is told at most this often, and revoked gateways are looked for (A55, SEC-2)."""
TOLD_AT_ONCE = 1_000
"""Studies that are told or settle at one look, and packs that are sealed; the others a second later."""
RECOVERY_PAGE = 1_000
"""Packs asked about in one statement after a start."""


class Files(Protocol):
    """The bytes; each method waits for the disk."""

    def list(self) -> Sequence[PackId]: ...
    def seal(self, pack_id: PackId, committed_end: int) -> None: ...
    def read(self, stored: StoredInstance) -> Iterator[bytes]: ...
    def missing(self, pack_id: PackId) -> None: ...
    def quarantined(self) -> Collection[bytes]: ...
    def release(self, sha256: bytes) -> None: ...


class Studies:
    """Received studies: each instance counts once, and whoever needs to know is told.

    Attributes:
        woken: set when a pack was released.
    """

    def __init__(
        self, database: Database[IngestTransaction], files: Files, limits: Limits, new_id: NewId
    ) -> None:
        self._database = database
        self._files = files
        self._limits = limits
        self._new_id = new_id
        self._changed: set[StudyId] = set()
        self._changing = Lock()
        self._released: dict[PackId, StudyId | None] = {}
        self.woken = asyncio.Event()

    async def identify(self, sender: Sender, study_instance_uid: UID) -> StudyId:
        """The live StudyId at the facility, or the one the study will have if it becomes durable.

        Raises Refused if the study was deleted after the transfer had begun, also where it is live again.
        """
        async with self._database.statements() as statements:
            known, deleted = await statements.find_study(sender, study_instance_uid)
        if deleted:
            raise Refused(StoreStatus.DELETED)
        return known or StudyId(self._new_id())

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

    async def tell(self, *, everything: bool) -> Mapping[PackId, int]:
        """Tells changes; answers where the released packs end, which are to be sealed.

        With `everything` false, only studies whose association has just ended are told.
        """
        released = dict(islice(self._released.items(), TOLD_AT_ONCE))
        # Taken out first: what changes from here on is told the next time. Should this fail, then the next
        # change of the study tells it, or its settling.
        with self._changing:
            telling = self._changed if everything else self._changed & set(released.values())
            telling = set(islice(telling, TOLD_AT_ONCE))
            self._changed -= telling
        # Studies before packs: `receive` takes its locks in this order.
        async with self._database.transaction() as transaction:
            changes = await transaction.bump(telling)
            await transaction.say(*(StudyChanged(study_id, v) for study_id, v in changes.items()))
            return await transaction.seal_packs(released)

    async def seal(self, pack_id: PackId, end: int) -> None:
        """Seals a released pack where it ends."""
        await asyncio.to_thread(self._files.seal, pack_id, end)
        del self._released[pack_id]

    async def settle(self) -> None:
        """Settles what is quiet (A55)."""
        async with self._database.transaction() as transaction:
            changes = await transaction.settle(self._limits.settle_after, TOLD_AT_ONCE)
            await transaction.say(*(StudyChanged(study_id, v) for study_id, v in changes.items()))

    async def recover(self) -> None:
        """After a start: every pack ends where the index says, and what nobody committed is gone (R3, R5)."""
        async with self._database.transaction() as transaction:
            await transaction.seal_open_packs()
        pack_ids = await asyncio.to_thread(self._files.list)
        for begin in range(0, len(pack_ids), RECOVERY_PAGE):
            page = pack_ids[begin : begin + RECOVERY_PAGE]
            async with self._database.statements() as statements:
                sealed = await statements.sealed_packs(page)
            for pack_id in page:
                await asyncio.to_thread(self._files.seal, pack_id, sealed.get(pack_id, 0))
        async with self._database.statements() as statements:
            known = await statements.quarantined()
        for sha256 in set(await asyncio.to_thread(self._files.quarantined)) - set(known):
            await asyncio.to_thread(self._files.release, sha256)

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
        async with self._database.transaction() as transaction:
            study = await transaction.study_in_parts(study_id, tag, after_part)
        if study is None:
            raise NotFound("`study_id` is not a received study", field="study_id")
        return study

    async def list_versions(self, after: StudyId | None) -> Sequence[tuple[StudyId, int]]:
        """The next page of all studies and their versions."""
        async with self._database.statements() as statements:
            return await statements.versions(after, VERSIONS_PAGE)
