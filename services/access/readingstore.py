"""What reporting said of how far cases were read, once for each side, and what of a case follows it."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import asyncpg

from kernel.ids import CaseId, UserId
from kernel.reading import DraftState, ReadType, Side
from plumbing.db import Transaction
from services.access.caseindex import Priority
from services.access.reading import (
    NOT_READ,
    Assignment,
    AtLock,
    Followed,
    KeptReading,
    Lock,
    Projection,
    Reading,
)
from services.access.status import ReadingState

PROJECTION = """
    r.state, r.lock_holder_login, r.lock_holder_name, r.lock_ends_at, r.read_types, r.reported_at,
    r.instance_count as reported_count, r.draft,
    case when r.waits_version = r.version then r.waits_since end as waits_since,
    case when r.locked_version = r.version then r.locked_since end as locked_since
"""
"""What `projection` needs of the row `r` of a side."""

_FOLLOWED = [each.name for each in fields(Followed)]


class ReadingStore(Transaction):
    """Keeps readings; whoever writes one holds the lock of its case."""

    async def save_reading(self, reading: Reading) -> None:
        """Inserts or replaces what is kept of a reading, unless that is as new.

        A reporting of the version before tells no count: the known one stays. What access of the version
        before has written of the same version is written again.
        """
        await self.connection.executemany(
            """
            insert into readings (case_id, side, version, state, lock_holder_login, lock_holder_name,
                lock_ends_at, read_types, reported_at, drafted, instance_count,
                draft, state_at_lock, draft_at_lock, read_types_at_lock, waits_since, waits_version,
                locked_since, locked_version)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $3, $17, $3)
            on conflict (case_id, side) do update set version = excluded.version, state = excluded.state,
                lock_holder_login = excluded.lock_holder_login, lock_holder_name = excluded.lock_holder_name,
                lock_ends_at = excluded.lock_ends_at, read_types = excluded.read_types,
                reported_at = excluded.reported_at, drafted = excluded.drafted, draft = excluded.draft,
                state_at_lock = excluded.state_at_lock, draft_at_lock = excluded.draft_at_lock,
                read_types_at_lock = excluded.read_types_at_lock,
                waits_since = excluded.waits_since, waits_version = excluded.waits_version,
                locked_since = excluded.locked_since, locked_version = excluded.locked_version,
                instance_count = coalesce(excluded.instance_count, readings.instance_count),
                images_since = case when excluded.instance_count > readings.instance_count then null
                    else readings.images_since end
            where readings.version < excluded.version
                or readings.version = excluded.version
                    and readings.derived_version is distinct from readings.version
            """,
            [
                (
                    reading.case_id,
                    side,
                    reading.version,
                    projection.state,
                    lock.holder_login if (lock := projection.lock) else None,
                    lock.holder_name if lock else None,
                    lock.ends_at if lock else None,
                    sorted(projection.read_types),
                    projection.reported_at,
                    reading.drafted,
                    projection.instance_count,
                    projection.draft,
                    stood.state if stood else None,
                    stood.draft if stood else None,
                    sorted(stood.read_types) if stood else None,
                    projection.waits_since,
                    lock.since if lock else None,
                )
                for side, projection in sorted(reading.projections.items())
                for stood in [reading.at_lock if side is Side.GROUP else None]
            ],
        )

    async def mark_late_images(self, case_id: CaseId) -> int | None:
        """Keeps since when a locked case has more instances than at its report, for each side.

        Answers the version of the case if a side did not know it before; else None.
        """
        rows = await self.connection.fetch(
            """
            update readings set images_since = case when now.is_late then $2::timestamptz end
            from (
                select c.version, r.side, coalesce(c.instance_count > r.instance_count, false) as is_late
                from cases c join readings r using (case_id) where case_id = $1
            ) now
            where readings.case_id = $1 and readings.side = now.side
                and (readings.images_since is not null) <> now.is_late
            returning now.version, now.is_late
            """,
            case_id,
            self.now,
        )
        return next((row["version"] for row in rows if row["is_late"]), None)

    async def lock_of(self, case_id: CaseId, side: Side) -> Lock | None:
        """The lock that reporting last told of to a side, whether or not it has ended."""
        row = await self.connection.fetchrow(
            """
            select lock_holder_login, lock_holder_name, lock_ends_at from readings
            where case_id = $1 and side = $2 and lock_ends_at is not null
            """,
            case_id,
            side,
        )
        return Lock(*row) if row else None

    async def kept_reading(self, case_id: CaseId) -> KeptReading | None:
        """What the status of a locked case depends on; None if it is not known."""
        row = await self.connection.fetchrow(
            """
            select c.settled, c.assigned_at, a.login from cases c
            left join users a on a.user_id = c.assignee_id where c.case_id = $1
            """,
            case_id,
        )
        if row is None:
            return None
        rows = await self.connection.fetch(
            f"""
            select r.side, r.state_at_lock, r.draft_at_lock, r.read_types_at_lock, {PROJECTION}
            from readings r where case_id = $1
            """,  # noqa: S608  a constant of this file
            case_id,
        )
        readings = {Side(each["side"]): projection(each) for each in rows}
        stood = [_at_lock(each) for each in rows if each["state_at_lock"] is not None]
        assignment = None
        if row["login"] is not None:
            assignment = Assignment(row["login"], row["assigned_at"])
        return KeptReading(row["settled"], assignment, readings, next(iter(stood), None))

    async def save_followed(self, case_id: CaseId, followed: Followed, *, is_read: bool) -> None:
        """Keeps what follows from the reading of a locked case; its version stays.

        Without `is_read` nobody has told of a reading."""
        columns = {name: getattr(followed, name) for name in _FOLLOWED}
        numbered = ", ".join(f"${number}" for number in range(2, len(columns) + 2))
        await self.connection.execute(
            f"""
            update cases set ({", ".join(columns)}) = row({numbered})
            where case_id = $1 and ({", ".join(columns)}) is distinct from ({numbered})
            """,  # noqa: S608  columns of a dataclass
            case_id,
            *columns.values(),
        )
        if not is_read:
            return
        await self.connection.execute(
            """
            update readings set derived_version = version
            where case_id = $1 and derived_version is distinct from version
            """,
            case_id,
        )

    # Assignments

    async def assign(self, case_id: CaseId, user_id: UserId, *, by: str) -> None:
        await self.connection.execute(
            "update cases set assignee_id = $2, assigned_by = $3, assigned_at = $4 where case_id = $1",
            case_id,
            user_id,
            by,
            self.now,
        )

    async def unassign(self, case_id: CaseId) -> UserId | None:
        """Who was to read it."""
        user_id: UserId | None = await self.connection.fetchval(
            """
            update cases set assignee_id = null, assigned_by = '', assigned_at = null
            from (select assignee_id from cases where case_id = $1) before
            where case_id = $1 and cases.assignee_id is not null returning before.assignee_id
            """,
            case_id,
        )
        return user_id

    async def set_priority(self, case_id: CaseId, priority: Priority) -> bool:
        """Whether it was another."""
        status = await self.connection.execute(
            "update cases set priority = $2 where case_id = $1 and priority <> $2", case_id, priority
        )
        return status == "UPDATE 1"


Row = asyncpg.Record | Mapping[str, Any]


def projection(row: Row) -> Projection:
    """The reading as the side of a row sees it; without a row it has read nothing."""
    if row["state"] is None:
        return NOT_READ
    ends_at = row["lock_ends_at"]
    return Projection(
        state=ReadingState(row["state"]),
        lock=Lock(row["lock_holder_login"], row["lock_holder_name"], ends_at, row["locked_since"])
        if ends_at
        else None,
        read_types=frozenset(map(ReadType, row["read_types"])),
        reported_at=row["reported_at"],
        instance_count=row["reported_count"],
        draft=DraftState(row["draft"]),
        waits_since=row["waits_since"],
    )


def _at_lock(row: Row) -> AtLock:
    return AtLock(
        ReadingState(row["state_at_lock"]),
        DraftState(row["draft_at_lock"]),
        frozenset(map(ReadType, row["read_types_at_lock"])),
    )
