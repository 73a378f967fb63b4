"""Which studies have settled, and how long those of a facility must be quiet for that."""

from datetime import timedelta

from kernel.ids import FacilityId, StudyId
from kernel.versions import Change
from plumbing.db import Transaction
from services.ingest.settling import SettleLength

# A study is quiet if all its packs were sealed for as long as its facility says, or $1, by PostgreSQL's
# clock (A55).
_QUIET = """
    settled_at is null and not exists (
        select from packs p where p.study_id = studies.study_id and (
            p.sealed_at is null or p.sealed_at > now() - coalesce(
                (select l.settle_after from settle_lengths l
                 where l.facility_id = studies.receiving_facility_id), $1)))
"""


class SettlingStore(Transaction):
    """Settles studies."""

    async def settle(self, settle_after: timedelta, limit: int) -> dict[StudyId, int]:
        """Settles what is quiet, at most so many; answers the new versions.

        `settle_after` is for facilities that have no length of their own. First the locks, then the decision:
        the first instance of a new pack takes the same lock. What another process looks at is left to it.
        """
        candidates = await self.connection.fetch(
            f"""
            select study_id from studies where {_QUIET} order by study_id limit $2
            for no key update skip locked
            """,  # noqa: S608 constants only
            settle_after,
            limit,
        )
        if not candidates:
            return {}
        rows = await self.connection.fetch(
            f"""
            update studies set settled_at = now(), version = version + 1, told_at = now()
            where study_id = any($2) and {_QUIET} returning study_id, version
            """,  # noqa: S608 constants only
            settle_after,
            [row["study_id"] for row in candidates],
        )
        return {row["study_id"]: row["version"] for row in rows}

    async def lock_settle_lengths(self) -> None:
        """Until this transaction ends nobody else saves one; readers are not kept waiting."""
        await self.connection.execute("lock table settle_lengths in share row exclusive mode")

    async def settle_length(self, facility_id: FacilityId) -> tuple[timedelta, Change] | None:
        """The length saved for a facility, and who saved it when; None if nobody has."""
        row = await self.connection.fetchrow(
            "select * from settle_lengths where facility_id = $1", facility_id
        )
        return (
            (row["settle_after"], Change(row["version"], row["saved_by"], row["saved_at"])) if row else None
        )

    async def save_settle_length(self, length: SettleLength, by: str) -> None:
        await self.connection.execute(
            """
            insert into settle_lengths (facility_id, settle_after, version, saved_by, saved_at)
            values ($1, $2, $3, $4, $5)
            on conflict (facility_id) do update set settle_after = excluded.settle_after,
                version = excluded.version, saved_by = excluded.saved_by, saved_at = excluded.saved_at
            """,
            length.facility_id,
            length.settle_after,
            length.version,
            by,
            self.now,
        )
