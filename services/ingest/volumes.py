"""What operators do with volumes: see who holds them, and give up one that is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from kernel.database import Database
from kernel.errors import Conflict, NotFound, lacks
from kernel.ids import VolumeId
from kernel.reach import Reach

if TYPE_CHECKING:
    from services.ingest.store import IngestTransaction

OPERATOR = "operator"
VOLUMES_LISTED = 1_000
"""A volume is a disk of a pod, or a file system: there are as many as there were pods."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A directory of packs.

    Attributes:
        holder_address: where the process is reached that holds it; none: nobody does now.
        writers: processes that write there now.
        files_to_remove: of deleted studies, which wait for its holder.
        forgotten_at: when it was given up.
    """

    volume_id: VolumeId
    made_at: datetime
    holder_address: str | None
    writers: int
    files_to_remove: int
    forgotten_at: datetime | None = None

    def must_be_lost(self) -> None:
        """Raises Conflict where it cannot be given up."""
        if self.forgotten_at is not None:
            raise Conflict("somebody has forgotten this volume already", field="volume_id")
        if self.writers:
            raise Conflict(
                "a process of ingest still writes to the volume: stop it, wait for 30 seconds, then try "
                "again",
                field="volume_id",
            )


class Access(Protocol):
    """The service access, asked on behalf of the acting user."""

    async def reach(self, permission: str) -> Reach: ...


class Volumes:
    """Lists volumes, and gives up what is lost."""

    def __init__(self, database: Database[IngestTransaction], access: Access) -> None:
        self._database = database
        self._access = access

    async def list_volumes(self) -> Sequence[Volume]:
        """The oldest first; raises Denied for who is no operator everywhere."""
        await self._require_operator()
        async with self._database.statements() as statements:
            return await statements.volumes(VOLUMES_LISTED)

    async def forget_volume(self, actor: str, volume_id: VolumeId) -> Volume:
        """Gives up a volume for good: no deletion waits for its files, and a resend replaces what was on it.

        Raises Denied for who is no operator everywhere; NotFound; Conflict while a process writes there.
        """
        async with self._database.audited(actor, "volume.forgotten", f"volume:{volume_id}", reason=True):
            await self._require_operator()
            async with self._database.transaction() as transaction:
                volume = await transaction.lock_volume(volume_id)
                if volume is None:
                    raise NotFound("there is no such volume", field="volume_id")
                volume.must_be_lost()
                await transaction.forget_volume(volume_id, by=actor)
                await transaction.record(
                    actor,
                    "volume.forgotten",
                    f"volume:{volume_id}",
                    "done",
                    files_given_up=volume.files_to_remove,
                )
                forgotten = await transaction.lock_volume(volume_id)
        assert forgotten is not None
        return forgotten

    async def _require_operator(self) -> None:
        if not (await self._access.reach(OPERATOR)).everywhere:
            raise lacks(OPERATOR, at="every facility")
