"""What was refused and is kept: bytes that differ from those of a stored UID, and bytes that nobody can file.

They wait for a person, who looks at the pack and discards them. What belongs to no study goes by itself when
it is old; the rest goes with its study.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from kernel.database import Database
from kernel.errors import Invalid, NotFound, lacks
from kernel.ids import GatewayId, PackId, StudyId
from kernel.reach import Reach

if TYPE_CHECKING:
    from services.ingest.store import IngestTransaction

GATEWAY_ADMIN = "gateway.admin"
KEPT_FOR = timedelta(days=90)
"""As long as a gateway keeps what was not acknowledged (A26): what is older, nobody asks for."""
FORGOTTEN_AT_ONCE = 100
FORGET_S = 600.0

_DIGEST = re.compile("[0-9a-fA-F]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Position:
    """Where a data set stands in the list."""

    quarantined_at: datetime
    sha256: str


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A refused data set that is kept.

    Attributes:
        study_id: none where it cannot be filed.
        study_instance_uid: as far as it can be read.
        pack_id: the pack that ends with it; none: a file of its own, as before packs kept them.
        reason: what the sender was told.
        length: of the Part 10 file.
    """

    sha256: bytes
    gateway_id: GatewayId
    study_id: StudyId | None
    study_instance_uid: str
    pack_id: PackId | None
    reason: str
    sop_class_uid: str
    sop_instance_uid: str
    length: int
    quarantined_at: datetime

    @property
    def position(self) -> Position:
        """Its place in the list."""
        return Position(self.quarantined_at, self.sha256.hex())


def parse_digest(text: str) -> bytes:
    """The digest of a data set; raises Invalid."""
    if not _DIGEST.fullmatch(text):
        raise Invalid("`sha256` is not a digest: expected 64 hexadecimal digits", field="sha256")
    return bytes.fromhex(text)


class Access(Protocol):
    """The service access, asked on behalf of the acting user."""

    async def reach(self, permission: str) -> Reach: ...


class Files(Protocol):
    """The bytes; waits for the disk."""

    def release(self, sha256: bytes) -> None: ...


class Quarantine:
    """Lists what is kept, and lets go of it."""

    def __init__(self, database: Database[IngestTransaction], access: Access, files: Files) -> None:
        self._database = database
        self._access = access
        self._files = files

    async def list_quarantined(self, before: Position | None, limit: int) -> Sequence[Quarantined]:
        """What came from gateways of which the actor administers every facility, newest first."""
        reach = await self._access.reach(GATEWAY_ADMIN)
        if not reach:
            raise lacks(GATEWAY_ADMIN, at="a facility")
        async with self._database.statements() as statements:
            return await statements.list_quarantined(reach, before, limit)

    async def discard_quarantined(self, actor: str, sha256: bytes) -> None:
        """Removes a refused data set for good; what the actor could not list is NotFound."""
        object_ = f"quarantined:{sha256.hex()}"
        async with self._database.audited(actor, "quarantined.discarded", object_):
            reach = await self._access.reach(GATEWAY_ADMIN)
            async with self._database.transaction() as transaction:
                if not await transaction.discard_quarantined(reach, sha256):
                    raise NotFound("there is no such data set in the quarantine", field="sha256")
                await transaction.record(actor, "quarantined.discarded", object_, "done")
        # The pack is trimmed by who may. The version before kept a file of its own: of another volume a
        # start of the process there removes it.
        await asyncio.to_thread(self._files.release, sha256)

    async def forget(self) -> None:
        """Removes what belongs to no study and is too old; more of it the next time."""
        async with self._database.transaction() as transaction:
            await transaction.forget_unfiled(transaction.now - KEPT_FOR, FORGOTTEN_AT_ONCE)
