"""Notify's tables: notices, and the privileges that will expire."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from kernel.delivery import State
from kernel.ids import BucketId, FacilityId, NoticeId, UserId
from plumbing import db
from plumbing.delivering import Queue
from services.notify.domain import (
    AboutBucket,
    AboutPrivilege,
    Expiring,
    Message,
    Notice,
    Person,
)
from services.notify.usecases import Seen

_QUEUE = Queue("notices", "notice_id")


class NotifyTransaction(db.Transaction):
    """A transaction over notify's database."""

    # Notices

    async def ask(self, message: Message, about: AboutBucket | AboutPrivilege) -> None:
        """One notice for one intent; one that was cancelled waits again, any other stays as it is."""
        bucket = about if isinstance(about, AboutBucket) else None
        privilege = about if isinstance(about, AboutPrivilege) else None
        self.asked = True
        await self.connection.execute(
            """
            insert into notices (
                notice_id, message, intent, bucket_id, user_id, facility_id, expires_at, days, state,
                asked_at, next_attempt_at
            )
            values ($1, $2, $3, $4, $5, $6, $7, $8, 'waiting', $9, $9)
            on conflict (message, intent) do update
                set state = 'waiting', trying_since = null, next_attempt_at = $9, last_error = ''
                where notices.state = 'cancelled'
            """,
            self.new_id(),
            message,
            about.intent,
            bucket and bucket.bucket_id,
            privilege and privilege.user_id,
            about.facility_id,
            privilege and privilege.expires_at,
            privilege and privilege.days,
            self.now,
        )

    async def claim(self, held_until: datetime) -> Notice | None:
        row = await _QUEUE.claim(self, held_until)
        return _notice(row) if row else None

    async def advance(self, notice: Notice, was: Collection[State]) -> bool:
        self.asked |= notice.state is State.WAITING
        return await _QUEUE.advance(self, notice, was)

    async def wake(self) -> None:
        self.asked = True
        await _QUEUE.wake(self)

    async def lock_notice(self, notice_id: NoticeId) -> Notice | None:
        """The notice; until this transaction ends nobody else changes it."""
        row = await self.connection.fetchrow(
            "select * from notices where notice_id = $1 for update", notice_id
        )
        return _notice(row) if row else None

    async def list_notices(self, after: NoticeId | None, limit: int, seen: Seen) -> Sequence[Notice]:
        """Newest first."""
        rows = await self.connection.fetch(
            """
            select * from notices
            where ($1::uuid is null or notice_id < $1)
                and (bucket_id is not null or $3)
                and ($4::uuid[] is null or bucket_id is null or facility_id = any($4))
            order by notice_id desc limit $2
            """,
            after,
            limit,
            seen.reminders,
            None if seen.shares_of is None else list(seen.shares_of),
        )
        return [_notice(row) for row in rows]

    async def cancel_bucket(self, bucket_id: BucketId, why: str) -> None:
        """Cancels what still waits; an attempt that holds it finds that when it is about to begin."""
        await self.connection.execute(
            "update notices set state = 'cancelled', last_error = $2 "
            "where bucket_id = $1 and state = 'waiting'",
            bucket_id,
            why,
        )

    async def count_open(self) -> Mapping[State, int]:
        rows = await self.connection.fetch(
            "select state, count(*) from notices where state in ('waiting', 'unknown', 'dead') group by state"
        )
        found = {State(row["state"]): row["count"] for row in rows}
        return {state: found.get(state, 0) for state in (State.WAITING, State.UNKNOWN, State.DEAD)}

    async def forget(self, asked_before: datetime, limit: int) -> int:
        """Removes what was sent or cancelled, but not before the privilege has expired that it is about.

        At most so many; answers how many.
        """
        status = await self.connection.execute(
            """
            delete from notices where notice_id = any(array(
                select notice_id from notices
                where state in ('sent', 'cancelled') and asked_at < $1 and coalesce(expires_at, asked_at) < $2
                limit $3))
            """,
            asked_before,
            self.now,
            limit,
        )
        return int(status.split()[-1])

    # Privileges that expire

    async def known_versions(self, user_ids: Collection[UUID]) -> Mapping[UUID, int]:
        rows = await self.connection.fetch(
            "select user_id, version from users where user_id = any($1)", list(user_ids)
        )
        return {row["user_id"]: row["version"] for row in rows}

    async def save_user(self, person: Person, privileges: Collection[Expiring]) -> bool:
        """Keeps the privileges that end of a user who is newer than known; what was reminded of stays."""
        newer = await self.connection.fetchval(
            """
            insert into users (user_id, version) values ($1, $2)
            on conflict (user_id) do update set version = excluded.version
                where users.version < excluded.version
            returning true
            """,
            person.id,
            person.version,
        )
        if not newer:
            return False
        await self.connection.execute(
            "delete from expiring where user_id = $1 and facility_id <> all($2)",
            person.id,
            [each.facility_id for each in privileges],
        )
        await self.connection.execute(
            """
            insert into expiring (user_id, facility_id, expires_at)
            select $1, facility_id, expires_at
            from unnest($2::uuid[], $3::timestamptz[]) as privilege (facility_id, expires_at)
            on conflict (user_id, facility_id) do update
                set expires_at = excluded.expires_at, last_days = null
                where expiring.expires_at <> excluded.expires_at
            """,
            person.id,
            [each.facility_id for each in privileges],
            [each.expires_at for each in privileges],
        )
        return True

    async def cancel_reminders(self, user_id: UserId, standing: Collection[Expiring], why: str) -> None:
        """Cancels what waits about privileges other than those that stand."""
        await self.connection.execute(
            """
            update notices set state = 'cancelled', last_error = $4
            where user_id = $1 and state = 'waiting' and not exists (
                select from unnest($2::uuid[], $3::timestamptz[]) as privilege (facility_id, expires_at)
                where privilege.facility_id = notices.facility_id
                    and privilege.expires_at = notices.expires_at
            )
            """,
            user_id,
            [each.facility_id for each in standing],
            [each.expires_at for each in standing],
            why,
        )

    async def reminded(self, user_id: UserId) -> Sequence[Expiring]:
        """The privileges of a user that still stand and were reminded of."""
        rows = await self.connection.fetch(
            "select * from expiring where user_id = $1 and last_days is not null and expires_at > $2",
            user_id,
            self.now,
        )
        return list(map(_expiring, rows))

    async def lock_due(self, steps: Collection[int]) -> Sequence[Expiring]:
        """The privileges of which a step has come that is nearer than the last reminder; they are ours."""
        rows = await self.connection.fetch(
            """
            select * from expiring
            where expires_at > $1 and expires_at <= $1 + make_interval(hours => 24 * $3) and exists (
                select from unnest($2::integer[]) as step (days)
                where expires_at <= $1 + make_interval(hours => 24 * days)
                    and (last_days is null or days < last_days)
            )
            for update skip locked
            """,
            self.now,
            list(steps),
            max(steps),
        )
        return list(map(_expiring, rows))

    async def save_step(self, expiring: Expiring) -> None:
        await self.connection.execute(
            "update expiring set last_days = $3 where user_id = $1 and facility_id = $2",
            expiring.user_id,
            expiring.facility_id,
            expiring.last_days,
        )


def _expiring(row: asyncpg.Record) -> Expiring:
    return Expiring(
        UserId(row["user_id"]), FacilityId(row["facility_id"]), row["expires_at"], row["last_days"]
    )


def _notice(row: asyncpg.Record | Mapping[str, Any]) -> Notice:
    facility_id = FacilityId(row["facility_id"])
    about: AboutBucket | AboutPrivilege
    if row["bucket_id"]:
        about = AboutBucket(BucketId(row["bucket_id"]), facility_id)
    else:
        about = AboutPrivilege(UserId(row["user_id"]), facility_id, row["expires_at"], row["days"])
    return Notice(
        id=NoticeId(row["notice_id"]),
        message=Message(row["message"]),
        about=about,
        state=State(row["state"]),
        attempts=row["attempts"],
        asked_at=row["asked_at"],
        held_until=row["next_attempt_at"],
        trying_since=row["trying_since"],
        sent_at=row["sent_at"],
        last_error=row["last_error"],
    )
