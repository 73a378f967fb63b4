# ruff: noqa: S608  statements are put together from constants of this file
"""Purge records, tombstones, and the purge of a study."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from kernel.ids import CaseId, DeletionId, StudyId, VolumeId, WriterId
from kernel.reach import Reach
from plumbing.db import Transaction
from services.ingest.purgerecord import Deletion, DoomedFile

_DELETIONS = """
    select d.deletion_id, d.case_id, d.facility_id, d.deleted_by, d.asked_at, d.begun_at, d.closed_at,
           d.revision, d.version, d.told_at,
           array(select by from confirmations c where c.deletion_id = d.deletion_id) as confirmed,
           exists (select from doomed_studies s where s.deletion_id = d.deletion_id)
               or exists (select from doomed_files f where f.deletion_id = d.deletion_id) as something_left
    from deletions d
"""

# Whether one of these services ($1) has not confirmed a deletion.
_UNCONFIRMED = """exists (
    select from unnest($1::text[]) as other
    where not exists (
        select from confirmations c where c.deletion_id = deletions.deletion_id and c.by = other))
"""

# What a purge removes of a study ($1), at most so many rows ($2), for a deletion ($3), now ($4). Files are
# unlinked later, and so are the bytes of the quarantine: in packs, or in files as they were kept before.
_PURGE_ROWS = """
    with gone as (
        delete from {0} where ctid = any(array(select ctid from {0} where study_id = $1 limit $2))
        returning true)
    select count(*) from gone where $3::uuid is not null and $4::timestamptz is not null
"""
_PURGE_QUARANTINED = """
    with gone as (
        delete from quarantined
        where sha256 = any(array(select sha256 from quarantined where study_id = $1 limit $2))
        returning sha256, pack_id),
    doomed as (
        insert into doomed_files (deletion_id, sha256) select $3::uuid, sha256 from gone where pack_id is
        null)
    select count(*) from gone where $4::timestamptz is not null
"""
# The row stays for an hour as a fence. Packs are locked as by `seal_packs`.
_PURGE_PACKS = """
    with batch as (select pack_id from packs where study_id = $1 order by pack_id limit $2 for update),
    fences as (
        update packs set study_id = null, committed_end = 0, sealed_at = $4
        where pack_id in (select pack_id from batch) returning pack_id, volume_id),
    doomed as (
        insert into doomed_files (deletion_id, pack_id, volume_id) select $3::uuid, pack_id, volume_id from
        fences)
    select count(*) from fences
"""
# Whether a file is on a volume ($1) that a writer ($2) holds.
_HELD = """
    volume_of(doomed_files.volume_id) = $1
    and exists (select from volumes v where v.volume_id = $1 and v.holder_id = $2 and writer_lives($2))
"""
TABLES = ("instances", "mapping_values", "series", "parts", "part_series", "identities", "attribute_sets")
_PURGE = (
    *(_PURGE_ROWS.format(table) for table in TABLES),
    _PURGE_QUARANTINED,
    _PURGE_PACKS,
)


class DeletionStore(Transaction):
    """Keeps the purge records, and purges."""

    async def ask_deletion(self, deletion: Deletion) -> Deletion:
        """Saves a wish, or answers the deletion that has begun, or the wish that its user has had."""
        await self.connection.execute(
            """
            insert into deletions (deletion_id, case_id, deleted_by, asked_at)
                select $1, $2, $3, $4
                where not exists (select from deletions where case_id = $2 and begun_at is not null)
            on conflict (case_id, deleted_by) do nothing
            """,
            deletion.deletion_id,
            deletion.case_id,
            deletion.deleted_by,
            deletion.asked_at,
        )
        row = await self.connection.fetchrow(
            f"""
            {_DELETIONS} where d.case_id = $1 and (d.begun_at is not null or d.deleted_by = $2)
            order by d.begun_at is null limit 1
            """,
            deletion.case_id,
            deletion.deleted_by,
        )
        assert row is not None
        return _deletion(row)

    async def keep_deletion(self, deletion: Deletion) -> None:
        """Saves a wish unless it is there: it may have lapsed."""
        await self.connection.execute(
            """
            insert into deletions (deletion_id, case_id, deleted_by, asked_at) values ($1, $2, $3, $4)
            on conflict (deletion_id) do nothing
            """,
            deletion.deletion_id,
            deletion.case_id,
            deletion.deleted_by,
            deletion.asked_at,
        )

    async def save_deletion(self, deletion: Deletion) -> None:
        """Saves a record that this transaction has locked, and who has confirmed."""
        await self.connection.execute(
            """
            with saved as (
                update deletions set facility_id = $2, begun_at = $3, closed_at = $4, revision = $5,
                    version = $6, told_at = $7
                where deletion_id = $1),
            gone as (delete from confirmations where deletion_id = $1 and by <> all($8::text[]))
            insert into confirmations select $1, by, $9 from unnest($8::text[]) as by on conflict do nothing
            """,
            deletion.deletion_id,
            deletion.facility_id,
            deletion.begun_at,
            deletion.closed_at,
            deletion.revision,
            deletion.version,
            deletion.told_at,
            list(deletion.confirmed),
            self.now,
        )

    async def forget_deletion(self, deletion_id: DeletionId) -> None:
        await self.connection.execute("delete from deletions where deletion_id = $1", deletion_id)

    async def lock_deletion(self, deletion_id: DeletionId) -> Deletion | None:
        """The record; whoever else changes it waits."""
        return next(iter(await self._locked("deletion_id = $1 for no key update", deletion_id)), None)

    async def lock_deletion_of(self, case_id: CaseId) -> Deletion | None:
        """The deletion of the case, if it has begun; whoever else changes it waits."""
        found = await self._locked("case_id = $1 and begun_at is not null for no key update", case_id)
        return next(iter(found), None)

    async def lock_confirmed(self, confirmed_by: Sequence[str], limit: int) -> list[Deletion]:
        """What all these have confirmed and of which nothing is left here; what others change comes later."""
        return await self._locked(
            f"""
            closed_at is null and begun_at is not null and not {_UNCONFIRMED}
              and not exists (select from doomed_studies s where s.deletion_id = deletions.deletion_id)
              and not exists (select from doomed_files f where f.deletion_id = deletions.deletion_id)
            order by deletion_id limit $2 for no key update skip locked
            """,
            list(confirmed_by),
            limit,
        )

    async def lock_untold(self, before: datetime, confirmed_by: Sequence[str], limit: int) -> list[Deletion]:
        """What one of these has not confirmed, and was told before then for the last time; longest first.

        What others change comes later.
        """
        return await self._locked(
            f"""
            closed_at is null and (told_at <= $2 or told_at > $4) and {_UNCONFIRMED}
            order by told_at, deletion_id limit $3 for no key update skip locked
            """,
            list(confirmed_by),
            before,
            limit,
            self.now,
        )

    async def _locked(self, condition: str, *values: object) -> list[Deletion]:
        """The records that a condition finds, locked, and read only then."""
        rows = await self.connection.fetch(f"select deletion_id from deletions where {condition}", *values)
        if not rows:
            return []
        rows = await self.connection.fetch(
            f"{_DELETIONS} where d.deletion_id = any($1)", [row["deletion_id"] for row in rows]
        )
        return [_deletion(row) for row in rows]

    async def deletion_of(self, case_id: CaseId) -> Deletion | None:
        """The deletion of the case, if it has begun."""
        row = await self.connection.fetchrow(
            f"{_DELETIONS} where d.case_id = $1 and d.begun_at is not null", case_id
        )
        return _deletion(row) if row else None

    async def deletions(self, reach: Reach, before: UUID | None, limit: int) -> list[Deletion]:
        """Newest first."""
        rows = await self.connection.fetch(
            f"""
            {_DELETIONS}
            where ($1 or d.facility_id = any($2)) and ($3::uuid is null or d.deletion_id < $3)
            order by d.deletion_id desc limit $4
            """,
            reach.everywhere,
            list(reach.facilities),
            before,
            limit,
        )
        return [_deletion(row) for row in rows]

    async def asked_deletions(self, before: datetime, limit: int) -> list[Deletion]:
        """What was asked before then, and has not begun; in any order, so that none keeps the others.

        What was asked later than now was asked before the clock was set back.
        """
        rows = await self.connection.fetch(
            f"""
            {_DELETIONS} where d.closed_at is null and d.begun_at is null
              and (d.asked_at <= $1 or d.asked_at > $3)
            order by random() limit $2
            """,
            before,
            limit,
            self.now,
        )
        return [_deletion(row) for row in rows]

    async def overdue_deletions(self, before: datetime) -> int:
        """How many are open since before then."""
        count: int = await self.connection.fetchval(
            "select count(*) from deletions where closed_at is null and asked_at < $1", before
        )
        return count

    # The purge

    async def lock_studies(self, study_ids: Collection[StudyId]) -> None:
        """Nothing is indexed any more in those of them that are live, until this transaction ends.

        The study's row first, then its open packs: `receive_instance` either has committed before, or finds
        the study gone or the pack sealed, and leaves nothing.
        """
        await self.connection.execute(
            "select from studies where study_id = any($1) order by study_id for update", list(study_ids)
        )
        # In the order of `seal_packs`, which has these locks too.
        await self.connection.execute(
            "select from packs where study_id = any($1) and sealed_at is null order by pack_id for update",
            list(study_ids),
        )

    async def purge_studies(
        self, deletion_id: DeletionId, study_ids: Collection[StudyId], now: datetime
    ) -> list[str]:
        """Ends locked studies for good; answers the UIDs of those that were live.

        From now on nobody finds them, and nothing comes in: no transfer that was announced has begun after
        the deletion, also where the clock was set back since. What could not be filed and says that it is of
        one of them goes too. What is left of them `purge_some` removes, however much it is.
        """
        rows = await self.connection.fetch(
            """
            with gone as (delete from studies where study_id = any($1) returning *),
            doomed as (insert into doomed_studies select study_id, $3::uuid from gone),
            begun as (
                select gone.study_id, max(t.begun_at) as last
                from gone
                join gateway_titles title on title.facility_id = gone.receiving_facility_id
                join transfers t on t.gateway_id = title.gateway_id
                    and t.calling_ae_title = title.ae_title
                    and t.study_instance_uid = gone.study_instance_uid and t.superseded_by is null
                group by gone.study_id),
            unfiled as (
                select q.sha256, q.pack_id, gone.study_id from gone join quarantined q
                    on q.study_id is null and q.receiving_facility_id = gone.receiving_facility_id
                    and q.study_instance_uid = gone.study_instance_uid),
            theirs as (
                update quarantined q set study_id = unfiled.study_id from unfiled
                where q.sha256 = unfiled.sha256),
            their_packs as (
                update packs p set study_id = unfiled.study_id, sealed_at = coalesce(p.sealed_at, $2)
                from unfiled where p.pack_id = unfiled.pack_id),
            tombs as (
                insert into tombstones
                select study_id, receiving_facility_id, study_instance_uid,
                       greatest($2, begun.last), $3::uuid
                from gone left join begun using (study_id)),
            fences as (
                update packs set sealed_at = $2
                where study_id in (select study_id from gone) and sealed_at is null)
            select study_instance_uid from gone order by study_id
            """,
            list(study_ids),
            now,
            deletion_id,
        )
        return [row["study_instance_uid"] for row in rows]

    async def purge_some(self, limit: int) -> int | None:
        """Removes at most so many rows of a purged study; how many. None: nothing is left of any."""
        study = await self.connection.fetchrow(
            "select * from doomed_studies order by study_id limit 1 for update skip locked"
        )
        if study is None:
            return None
        left = limit
        for statement in _PURGE:
            if left:
                left -= await self.connection.fetchval(
                    statement, study["study_id"], left, study["deletion_id"], self.now
                )
        if left:
            await self.connection.execute("delete from doomed_studies where study_id = $1", study["study_id"])
        return limit - left

    async def copies(self, deletion_id: DeletionId, study_ids: Collection[StudyId]) -> list[StudyId]:
        """Those of them that are the same study as one that this deletion has purged."""
        rows = await self.connection.fetch(
            """
            select study_id from studies where study_id = any($2) and study_instance_uid in (
                select study_instance_uid from tombstones where deletion_id = $1
            )
            """,
            deletion_id,
            list(study_ids),
        )
        return [row["study_id"] for row in rows]

    async def doomed_files(self, volume_id: VolumeId, holder_id: WriterId, limit: int) -> list[DoomedFile]:
        """Files of purged studies that are still to be unlinked on a volume; none for who does not hold it.

        In any order, so that none that stays keeps the others.
        """
        rows = await self.connection.fetch(
            f"select pack_id, sha256 from doomed_files where {_HELD} order by random() limit $3",
            volume_id,
            holder_id,
            limit,
        )
        return [DoomedFile(row["pack_id"], row["sha256"]) for row in rows]

    async def forget_files(
        self, volume_id: VolumeId, holder_id: WriterId, files: Collection[DoomedFile]
    ) -> None:
        """They are gone; who does not hold the volume any more confirms nothing."""
        await self.connection.execute(
            f"delete from doomed_files where {_HELD} and (pack_id = any($3) or sha256 = any($4))",
            volume_id,
            holder_id,
            [file.pack_id for file in files if file.pack_id],
            [file.sha256 for file in files if file.sha256],
        )

    async def prune_tombstones(self, older_than: datetime, limit: int) -> int:
        """Forgets UIDs of what was deleted so long ago, the StudyIds stay; of how many."""
        status = await self.connection.execute(
            """
            update tombstones set study_instance_uid = null
            where study_id = any(array(
                select study_id from tombstones
                where deleted_at < $1 and study_instance_uid is not null order by deleted_at limit $2))
            """,
            older_than,
            limit,
        )
        return int(status.split()[-1])


def _deletion(row: "asyncpg.Record") -> Deletion:
    return Deletion(
        row["deletion_id"],
        row["case_id"],
        row["facility_id"],
        row["deleted_by"],
        row["asked_at"],
        row["begun_at"],
        row["closed_at"],
        row["revision"],
        row["version"],
        row["told_at"],
        frozenset(row["confirmed"]),
        row["something_left"],
    )
