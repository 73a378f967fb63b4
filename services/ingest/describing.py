"""What was received when ingest kept fewer attributes is described again, from the objects in the packs.

Of each part one instance is read, up to what is indexed and never its pixels. What is known stays, and what
is absent is filled in. Nothing but the parts says how far this has come: so it goes on after a stop, and
whoever does it twice changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol

from kernel.database import Database
from kernel.errors import ReadroomError, Unavailable
from kernel.events import StudyChanged
from kernel.filing import CannotBeFiled, Examination, Fault
from kernel.ids import StudyId
from services.ingest.domain import StoredInstance
from services.ingest.parts import Description

if TYPE_CHECKING:
    from services.ingest.store import IngestTransaction

PARTS_AT_ONCE = 200
"""Of one study, in one transaction."""
COUNTED = 100_000
"""How many of what waits are counted: more than that is many."""


class Files(Protocol):
    """The files of this process; waits for the disk."""

    def damaged(self, stored: StoredInstance) -> None: ...


class Bytes(Protocol):
    """The bytes of instances, wherever they are."""

    def beginning(self, stored: StoredInstance) -> AsyncGenerator[bytes, None]: ...


class Describing:
    """Studies of which ingest keeps less than it would keep today.

    Args:
        describe: what raw values by tag tell of an instance.
    """

    def __init__(
        self,
        database: Database[IngestTransaction],
        files: Files,
        reading: Bytes,
        describe: Callable[[Mapping[int, bytes]], Description],
    ) -> None:
        self._database = database
        self._files = files
        self._bytes = reading
        self._describe = describe

    async def undescribed(self, after: StudyId | None, limit: int) -> Sequence[StudyId]:
        """The next of them behind `after`, by id."""
        async with self._database.statements() as statements:
            return await statements.undescribed(after, limit)

    async def count(self) -> int:
        """How many parts wait, about: up to COUNTED."""
        async with self._database.statements() as statements:
            return await statements.count_undescribed(COUNTED)

    async def describe_again(self, study_id: StudyId) -> None:
        """Describes the parts of a study again, and tells if it says more now.

        Raises what kept a part from being read, after it has described the others: that part waits on.
        """
        async with self._database.statements() as statements:
            await statements.keep_as_parts(study_id)
        failures: list[ReadroomError] = []
        after = 0
        while True:
            async with self._database.statements() as statements:
                waiting = await statements.first_instances(study_id, after, PARTS_AT_ONCE)
            await self._describe_parts(study_id, waiting, failures)
            if len(waiting) < PARTS_AT_ONCE:
                break
            after, _ = waiting[-1]
        if failures:
            raise failures[0]

    async def _describe_parts(
        self,
        study_id: StudyId,
        waiting: Sequence[tuple[int, StoredInstance | None]],
        failures: list[ReadroomError],
    ) -> None:
        """Notes in `failures` what kept parts from being read."""
        told: dict[int, Mapping[str, str]] = {}
        for number, first in waiting:
            try:
                told[number] = await self._read(first) if first else {}
            except ReadroomError as error:
                failures.append(error)
        if not told:
            return
        async with self._database.transaction() as transaction:
            if await transaction.describe_again(study_id, told):
                versions = await transaction.bump([study_id])
                await transaction.say(*(StudyChanged(study, version) for study, version in versions.items()))

    async def _read(self, stored: StoredInstance) -> Mapping[str, str]:
        """What the instance tells of its study; raises Unavailable for bytes that are not the instance's."""
        instance = stored.instance
        examination = Examination(
            instance.sop_class_uid, instance.sop_instance_uid, instance.transfer_syntax_uid
        )
        async with aclosing(self._bytes.beginning(stored)) as chunks:
            async for chunk in chunks:
                try:
                    await asyncio.to_thread(examination.feed, chunk)
                except CannotBeFiled:  # by the rules of today; what came before that stands
                    break
                if examination.has_all_that_is_indexed:
                    break
        try:
            examination.identify()
        except CannotBeFiled as error:
            if error.fault is Fault.DATA_SET_MISMATCH:
                self._files.damaged(stored)
                raise Unavailable("the pack holds other bytes") from error
        return self._describe(examination.values).study
