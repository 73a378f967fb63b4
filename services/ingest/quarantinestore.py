"""What was refused and is kept."""

from datetime import datetime

import asyncpg

from kernel.errors import Unavailable
from kernel.ids import StudyId
from kernel.reach import Reach
from plumbing.db import Transaction
from services.ingest.domain import Limits, Sender, StoredInstance
from services.ingest.quarantine import Position, Quarantined

# The refused entry is the last of its pack, so the pack ends before it from now on.
_CUT = """
    , cut as (
        update packs p set committed_end = gone.entry_offset, sealed_at = coalesce(p.sealed_at, now()),
            to_trim = true
        from gone where p.pack_id = gone.pack_id)
    select count(*) from gone
"""


class QuarantineStore(Transaction):
    """Keeps the quarantine."""

    async def quarantine(
        self, study_id: StudyId | None, sender: Sender, stored: StoredInstance, reason: str, limits: Limits
    ) -> bool:
        """Whether refused bytes are kept now where they are; the function in 0014 decides (A27).

        Raises Unavailable if the pack was sealed, or its writer ended, meanwhile.
        """
        instance, place = stored.instance, stored.place
        try:
            return bool(
                await self.connection.fetchval(
                    """
                    select keep_refused_bytes(
                        $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
                    """,
                    study_id,
                    sender.receiving_facility_id,
                    instance.study_instance_uid or None,
                    sender.began(self.now),
                    sender.gateway_id,
                    instance.sop_instance_uid,
                    instance.sop_class_uid,
                    instance.transfer_syntax_uid,
                    stored.sha256,
                    place.pack_id,
                    place.offset,
                    place.prefix_length,
                    place.data_set_length,
                    place.end,
                    self.now,
                    reason,
                    limits.quarantine_instances,
                    limits.quarantine_bytes,
                )
            )
        except asyncpg.ObjectNotInPrerequisiteStateError as error:
            raise Unavailable("the pack is sealed") from error

    async def quarantined(self) -> set[bytes]:
        """The digests that are kept as a file of their own, as before packs kept them."""
        rows = await self.connection.fetch("select sha256 from quarantined where pack_id is null")
        return {row["sha256"] for row in rows}

    async def list_quarantined(self, reach: Reach, before: Position | None, limit: int) -> list[Quarantined]:
        """Newest first."""
        rows = await self.connection.fetch(
            """
            select q.*, coalesce(q.study_instance_uid, s.study_instance_uid) as of_study
            from quarantined q left join studies s using (study_id)
            where gateway_within_reach(q.gateway_id, $1, $2)
              and ($3::timestamptz is null or (q.quarantined_at, q.sha256) < ($3, decode($4, 'hex')))
            order by q.quarantined_at desc, q.sha256 desc limit $5
            """,
            reach.everywhere,
            list(reach.facilities),
            before and before.quarantined_at,
            before and before.sha256,
            limit,
        )
        return [
            Quarantined(
                row["sha256"],
                row["gateway_id"],
                row["study_id"],
                row["of_study"] or "",
                row["pack_id"],
                row["reason"] or "",
                row["sop_class_uid"],
                row["sop_instance_uid"],
                row["file_length"],
                row["quarantined_at"],
            )
            for row in rows
        ]

    async def discard_quarantined(self, reach: Reach, sha256: bytes) -> bool:
        """Whether there was such a data set within reach; the pack ends before it now, and is to be
        trimmed."""
        count = await self.connection.fetchval(
            f"""
            with gone as (
                delete from quarantined q
                where gateway_within_reach(q.gateway_id, $1, $2) and q.sha256 = $3 returning *)
            {_CUT}
            """,  # noqa: S608 constants only
            reach.everywhere,
            list(reach.facilities),
            sha256,
        )
        return bool(count)

    async def forget_unfiled(self, before: datetime, limit: int) -> None:
        """Lets go of the oldest that belong to no study; their packs are to be trimmed."""
        await self.connection.execute(
            f"""
            with gone as (
                delete from quarantined where sha256 = any(array(
                    select sha256 from quarantined where study_id is null and quarantined_at < $1
                    order by quarantined_at limit $2))
                returning *)
            {_CUT}
            """,  # noqa: S608 constants only
            before,
            limit,
        )
