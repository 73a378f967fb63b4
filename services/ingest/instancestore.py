"""The statement that indexes an instance, in a transaction."""

import asyncpg

from kernel.errors import Unavailable
from kernel.ids import StudyId
from plumbing.db import Transaction
from services.ingest.domain import Sender, StoredInstance, Verdict
from services.ingest.instanceindex import INDEX, parameters, told_to_the_index
from services.ingest.parts import Description


class InstanceStore(Transaction):
    """Indexes instances."""

    async def receive(
        self,
        study_id: StudyId,
        sender: Sender,
        stored: StoredInstance,
        description: Description,
        *,
        create: bool,
        described: bool = False,
    ) -> tuple[Verdict, StudyId]:
        """Indexes an instance whose bytes are durable.

        With `described` the index has heard the description from this association, and hears only the digest.

        Raises Unavailable if the pack was sealed, its writer ended, or the study purged, meanwhile.
        """
        told = None if described else told_to_the_index(description)
        values = parameters(study_id, sender, stored, description.digest, told, self.now, create=create)
        try:
            row = await self.connection.fetchrow(INDEX, *values)
        except asyncpg.ObjectNotInPrerequisiteStateError as error:
            raise Unavailable("the pack is sealed, or the study was purged") from error
        assert row is not None
        return Verdict(row["verdict"]), row["live_study_id"] or study_id
