"""Volumes, their writers, and where packs end. Every time here is PostgreSQL's, which is the same for all."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from kernel.errors import Conflict
from kernel.ids import PackId, VolumeId, WriterId
from plumbing.db import Transaction
from services.ingest.domain import StoredInstance
from services.ingest.volumes import Volume
from services.ingest.writers import Ended

# A lease that ends too late is of a time before the clock was set back.
_RAN_OUT = "ended_at is null and ends_at not between clock_timestamp() and clock_timestamp() + {0}"


_VOLUMES = """
    select v.volume_id, v.made_at,
           (select w.address from writers w where w.writer_id = v.holder_id and writer_lives(w.writer_id))
               as holder_address,
           (select count(*) from writers w where w.volume_id = v.volume_id and writer_lives(w.writer_id))
               as writers,
           (select count(*) from doomed_files f where volume_of(f.volume_id) = v.volume_id) as
           files_to_remove, v.forgotten_at
    from volumes v
"""


class VolumeStore(Transaction):
    """Keeps volumes, writers and the ends of packs."""

    async def clock(self) -> datetime:
        """The time of PostgreSQL."""
        now: datetime = await self.connection.fetchval("select clock_timestamp()")
        return now

    # Volumes and writers

    async def keep_volume(self, volume_id: VolumeId, *, is_earlier: bool) -> bool:
        """Notes a volume; whether it was known. Raises Conflict if it was given up."""
        row = await self.connection.fetchrow(
            """
            insert into volumes (volume_id, is_earlier, made_at) values ($1, $2, now())
            on conflict (volume_id) do update set is_earlier = volumes.is_earlier
            returning forgotten_at, xmax <> 0 as known
            """,
            volume_id,
            is_earlier,
        )
        assert row is not None
        if row["forgotten_at"] is not None:
            raise Conflict(
                f"the volume `{volume_id}` was given up: start with an empty pack directory", field="volume"
            )
        return bool(row["known"])

    async def hold_volume(self, volume_id: VolumeId, writer_id: WriterId) -> None:
        """Takes the volume if nobody holds it who lives."""
        await self.connection.execute(
            """
            update volumes set holder_id = $2
            where volume_id = $1 and holder_id is distinct from $2 and not writer_lives(holder_id)
            """,
            volume_id,
            writer_id,
        )

    async def holder_address(self, volume_id: VolumeId) -> str | None:
        """Where the process is asked that holds the volume; None if nobody does now."""
        address: str | None = await self.connection.fetchval(
            """
            select w.address from volumes v join writers w on w.writer_id = v.holder_id
            where v.volume_id = $1 and v.forgotten_at is null and writer_lives(w.writer_id)
            """,
            volume_id,
        )
        return address

    async def unheld_volumes(self) -> int:
        """How many nobody holds now, of those that were not given up."""
        count: int = await self.connection.fetchval(
            "select count(*) from volumes where forgotten_at is null and not writer_lives(holder_id)"
        )
        return count

    async def volumes(self, limit: int) -> list[Volume]:
        """The oldest first."""
        rows = await self.connection.fetch(f"{_VOLUMES} order by v.made_at, v.volume_id limit $1", limit)
        return [Volume(**row) for row in rows]

    async def lock_volume(self, volume_id: VolumeId) -> Volume | None:
        """The volume, which nobody takes or gives up until this transaction ends."""
        await self.connection.execute("select from volumes where volume_id = $1 for update", volume_id)
        row = await self.connection.fetchrow(f"{_VOLUMES} where v.volume_id = $1", volume_id)
        return Volume(**row) if row else None

    async def forget_volume(self, volume_id: VolumeId, by: str) -> None:
        """Gives a locked volume up, with the files that were to be removed or trimmed there."""
        await self.connection.execute(
            """
            with forgotten as (
                update volumes set forgotten_at = now(), forgotten_by = $2, holder_id = null
                where volume_id = $1),
            trimmed as (update packs set to_trim = false where to_trim and volume_of(volume_id) = $1)
            delete from doomed_files where volume_of(volume_id) = $1
            """,
            volume_id,
            by,
        )

    async def mark_damaged(self, stored: StoredInstance) -> None:
        """Notes that the bytes at the place of an instance are missing or wrong: a resend replaces them."""
        await self.connection.execute(
            """
            update instances i set damaged_at = now() from packs p
            where p.pack_id = $1 and i.study_id = p.study_id and i.sop_instance_uid = $2
              and i.pack_id = $1 and i.entry_offset = $3 and i.damaged_at is null
            """,
            stored.place.pack_id,
            stored.instance.sop_instance_uid,
            stored.place.offset,
        )

    async def begin_writer(
        self, writer_id: WriterId, volume_id: VolumeId, address: str, lease: timedelta
    ) -> None:
        await self.connection.execute(
            """
            insert into writers (writer_id, volume_id, address, began_at, ends_at)
            values ($1, $2, $3, clock_timestamp(), clock_timestamp() + $4)
            """,
            writer_id,
            volume_id,
            address,
            lease,
        )

    async def others_live(self, writer_id: WriterId) -> bool:
        """Whether another writer lives, on whatever volume."""
        return bool(
            await self.connection.fetchval(
                "select exists (select from writers where writer_id <> $1 and writer_lives(writer_id))",
                writer_id,
            )
        )

    async def renew_writer(self, writer_id: WriterId, lease: timedelta) -> bool:
        """Whether the lease runs on; it is lost once somebody has ended it."""
        return bool(
            await self.connection.fetchval(
                """
                update writers set ends_at = clock_timestamp() + $2
                where writer_id = $1 and ended_at is null returning true
                """,
                writer_id,
                lease,
            )
        )

    async def end_writer(self, writer_id: WriterId) -> None:
        """Gives its lease back, and the volume that it held."""
        await self.connection.execute(
            """
            with ended as (
                update writers set ended_at = clock_timestamp() where writer_id = $1 and ended_at is null)
            update volumes set holder_id = null where holder_id = $1
            """,
            writer_id,
        )

    async def end_writers_of(self, volume_id: VolumeId, *, began_before: datetime) -> None:
        """Ends whoever began to write on the volume before then."""
        await self.connection.execute(
            """
            update writers set ended_at = clock_timestamp()
            where volume_id = $1 and began_at < $2 and ended_at is null
            """,
            volume_id,
            began_before,
        )

    async def seal_abandoned(self, lease: timedelta) -> None:
        """Ends the writers whose lease has run out, and seals every pack whose writer has ended.

        Two who do it at once leave it to one of them. A pack into which a commit is under way has its turn
        the next time; a commit that comes later finds the pack sealed, or that its writer has ended.
        """
        await self.connection.execute(
            f"""
            with late as (
                select writer_id from writers where {_RAN_OUT.format("$1::interval")}
                order by writer_id for no key update skip locked)
            update writers set ended_at = clock_timestamp() where writer_id in (select writer_id from late)
            """,  # noqa: S608 constants only
            lease,
        )
        await self._seal(
            "p.writer_id is not null and not exists "
            "(select from writers w where w.writer_id = p.writer_id and w.ended_at is null)"
        )
        await self.connection.execute(
            """
            delete from writers w where ended_at < now() - interval '7 days'
              and not exists (select from packs p where p.to_trim and p.writer_id = w.writer_id)
            """
        )

    # Packs

    async def seal_packs(self, pack_ids: Collection[PackId]) -> None:
        """Ends packs, also such as hold nothing: a commit still under way fails. Their files are to be
        trimmed."""
        if pack_ids:
            await self.connection.execute(
                """
                update packs set sealed_at = coalesce(sealed_at, now()), to_trim = true
                where pack_id = any(array(
                    select pack_id from packs where pack_id = any($1) order by pack_id for no key update))
                """,
                list(pack_ids),
            )

    async def seal_packs_of(self, writer_id: WriterId) -> None:
        """Ends every pack that it has open."""
        await self._seal("p.writer_id = $1", writer_id, skip="")

    async def seal_packs_of_the_version_before(self, volume_id: VolumeId) -> None:
        """Ends what the version before had open, where this is its volume."""
        await self._seal("p.writer_id is null and volume_of(p.volume_id) = $1", volume_id)

    async def _seal(self, condition: str, *values: object, skip: str = "skip locked") -> None:
        await self.connection.execute(
            f"""
            update packs set sealed_at = now(), to_trim = true where sealed_at is null and pack_id =
            any(array(
                select p.pack_id from packs p where p.sealed_at is null and {condition}
                order by p.pack_id for no key update {skip}))
            """,  # noqa: S608 constants only
            *values,
        )

    async def pack_ends(self, pack_ids: Collection[PackId]) -> dict[PackId, int]:
        """Where those of these packs end that have a row."""
        rows = await self.connection.fetch(
            "select pack_id, committed_end from packs where pack_id = any($1)", list(pack_ids)
        )
        return {row["pack_id"]: row["committed_end"] for row in rows}

    async def packs_to_trim(self, volume_id: VolumeId, writer_id: WriterId, limit: int) -> list[Ended]:
        """Sealed packs of this writer, and if it holds the volume those of writers that have ended.

        In any order, so that none whose file cannot be trimmed keeps the others.
        """
        rows = await self.connection.fetch(
            """
            select p.pack_id, p.committed_end from packs p
            where p.to_trim and p.sealed_at is not null and (
                p.writer_id = $2
                or (volume_of(p.volume_id) = $1
                    and exists (select from volumes v where v.volume_id = $1 and v.holder_id = $2)
                    and not exists (select from writers w
                                    where w.writer_id = p.writer_id and w.ended_at is null)))
            order by random() limit $3
            """,
            volume_id,
            writer_id,
            limit,
        )
        return [Ended(row["pack_id"], row["committed_end"]) for row in rows]

    async def packs_are_trimmed(self, trimmed: Sequence[Ended]) -> None:
        """Their files end where they ended; one that ends elsewhere by now is to be trimmed again."""
        await self.connection.execute(
            """
            update packs p set to_trim = false
            from unnest($1::uuid[], $2::bigint[]) as done (pack_id, committed_end)
            where p.pack_id = done.pack_id and p.committed_end = done.committed_end
            """,
            [each.pack_id for each in trimmed],
            [each.committed_end for each in trimmed],
        )

    async def pack_is_kept(self, pack_id: PackId) -> bool:
        """Whether it is the pack of a live study."""
        return bool(
            await self.connection.fetchval(
                "select exists (select from packs join studies using (study_id) where pack_id = $1)", pack_id
            )
        )

    async def prune_packs(self, older_than: datetime, limit: int) -> int:
        """Deletes the rows of packs in which nothing is, once their files are gone; at most so many; how
        many."""
        status = await self.connection.execute(
            """
            delete from packs where pack_id = any(array(
                select pack_id from packs
                where study_id is null and committed_end = 0 and sealed_at < $1 and not to_trim limit $2))
            """,
            older_than,
            limit,
        )
        return int(status.split()[-1])
