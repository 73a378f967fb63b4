# ruff: noqa: S608  statements are put together from constants
"""What moves need of the case index; `moves.py` asks before who administers the facility of the case."""

from collections.abc import Collection, Sequence
from datetime import datetime

from kernel.ids import CaseId, MoveId
from kernel.reading import Side
from plumbing.db import Transaction
from services.access.active import is_active
from services.access.moves import MAX_NAMED, Ending, Movable, Move
from services.access.reading import Lock


class MoveStore(Transaction):
    """Keeps which cases are being moved, and which were ever touched."""

    async def movable(self, case_id: CaseId, now: datetime) -> Movable | None:
        """What it depends on whether a case may move; it stays as it is until the transaction ends."""
        row = await self.connection.fetchrow(
            f"""
            select c.facility_id, c.deletion_id, c.move_id, c.untouched,
                r.case_id as read_case_id, r.drafted, r.read_types,
                r.lock_holder_login, r.lock_holder_name, r.lock_ends_at,
                exists (
                    select from bucket_cases h join buckets b using (bucket_id)
                    where h.case_id = c.case_id and {is_active("$3")}
                ) as shared
            from cases c left join readings r on r.case_id = c.case_id and r.side = $2
            where c.case_id = $1 for no key update of c
            """,
            case_id,
            Side.GROUP,
            now,
        )
        if row is None:
            return None
        ends_at = row["lock_ends_at"]
        return Movable(
            facility_id=row["facility_id"],
            being_deleted=row["deletion_id"] is not None,
            move_id=row["move_id"],
            untouched=row["untouched"],
            lock=Lock(row["lock_holder_login"], row["lock_holder_name"], ends_at) if ends_at else None,
            was_read=row["read_case_id"] is not None,
            drafted=bool(row["drafted"]),
            reported=bool(row["read_types"]),
            shared=row["shared"],
        )

    async def ending(self, case_id: CaseId) -> Ending:
        """The grants of a case and the folders that hold it, by login and name."""
        row = await self.connection.fetchrow(
            """
            select
                (select count(*) from case_grants where case_id = $1) as grant_count,
                (select count(*) from folder_cases where case_id = $1) as folder_count,
                array(
                    select login from case_grants join users using (user_id)
                    where case_id = $1 order by login limit $2
                ) as logins,
                array(
                    select name from folder_cases join folders using (folder_id)
                    where case_id = $1 order by name_folded limit $2
                ) as names
            """,
            case_id,
            MAX_NAMED,
        )
        assert row is not None
        return Ending(row["grant_count"], row["folder_count"], tuple(row["logins"]), tuple(row["names"]))

    async def begin_move(self, move: Move) -> None:
        """Hides a case from everybody; a person who moves it has touched it for good."""
        await self.connection.execute(
            """
            update cases set move_id = $2, move_begun_at = $3, untouched = untouched and not $4
            where case_id = $1
            """,
            move.case_id,
            move.id,
            self.now,
            move.by_hand,
        )

    async def end_move(self, case_id: CaseId, move_id: MoveId) -> bool:
        """Shows the case again; whether it was being moved by this move."""
        status = await self.connection.execute(
            "update cases set move_id = null, move_begun_at = null where case_id = $1 and move_id = $2",
            case_id,
            move_id,
        )
        return status == "UPDATE 1"

    async def moves_begun_before(self, before: datetime, limit: int) -> Sequence[tuple[CaseId, MoveId]]:
        """Cases that are being moved since then or longer, with their moves."""
        rows = await self.connection.fetch(
            """
            select case_id, move_id from cases where move_id is not null and move_begun_at <= $1
            order by move_begun_at limit $2
            """,
            before,
            limit,
        )
        return [(row["case_id"], row["move_id"]) for row in rows]

    async def touch_cases(self, case_ids: Collection[CaseId]) -> None:
        """Notes that cases were shown to others: none of them moves without a hand any more."""
        await self.connection.execute(
            "update cases set untouched = false where case_id = any($1) and untouched", list(case_ids)
        )

    async def note_images(self, case_id: CaseId) -> bool:
        """Notes that images of a case are about to be shown; False if it is being moved, or gone."""
        status = await self.connection.execute(
            "update cases set untouched = false where case_id = $1 and move_id is null", case_id
        )
        return status == "UPDATE 1"
