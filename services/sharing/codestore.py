"""The tables of one-time codes; whoever writes about a bucket here has locked its row."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from kernel.ids import BucketId
from plumbing import locks
from plumbing.db import Transaction
from plumbing.locks import LockClass
from services.sharing.otp import Code, Redeemed, Tries


class CodeStore(Transaction):
    """Keeps codes, tries, the texts that count, and the login sessions in which a code was redeemed."""

    async def is_recipient(self, bucket_id: BucketId, login: str) -> bool:
        """Locks nothing: who waits for a lock learns that there is something to wait for."""
        return bool(
            await self.connection.fetchval(
                "select exists (select from buckets where bucket_id = $1 and recipient_login = $2)",
                bucket_id,
                login,
            )
        )

    # Tries

    async def tries(self, bucket_id: BucketId) -> Tries:
        row = await self.connection.fetchrow(
            "select tries, wrong_codes, tried_at from buckets where bucket_id = $1", bucket_id
        )
        return Tries(row["tries"], row["wrong_codes"], row["tried_at"]) if row else Tries()

    async def save_tries(self, bucket_id: BucketId, tries: Tries) -> None:
        await self.connection.execute(
            "update buckets set tries = $2, wrong_codes = $3, tried_at = $4 where bucket_id = $1",
            bucket_id,
            tries.counted,
            tries.wrong,
            tries.last_at,
        )

    async def out_of_tries(self, tried_before: datetime, limit: int) -> Sequence[BucketId]:
        """Active buckets whose last possible try was counted by then."""
        rows = await self.connection.fetch(
            """
            select bucket_id from buckets where state = 'active' and tries >= 5 and tried_at <= $1
            order by bucket_id limit $2
            """,
            tried_before,
            limit,
        )
        return [row["bucket_id"] for row in rows]

    # Codes

    async def code(self, bucket_id: BucketId, session: str) -> Code | None:
        row = await self.connection.fetchrow(
            "select * from codes where bucket_id = $1 and session = $2", bucket_id, session
        )
        if row is None:
            return None
        return Code(
            bucket_id,
            session,
            row["otp_digest"],
            row["created_at"],
            row["contact_version"],
            row["lapsed"],
        )

    async def save_code(self, code: Code) -> None:
        """Inserts, or replaces the one before of this login session."""
        await self.connection.execute(
            """
            insert into codes (bucket_id, session, otp_digest, created_at, contact_version, lapsed)
            values ($1, $2, $3, $4, $5, $6)
            on conflict (bucket_id, session) do update set otp_digest = excluded.otp_digest,
                created_at = excluded.created_at, contact_version = excluded.contact_version,
                lapsed = excluded.lapsed
            """,
            code.bucket_id,
            code.session,
            code.otp_digest,
            code.created_at,
            code.contact_version,
            code.lapsed,
        )

    async def delete_code(self, bucket_id: BucketId, session: str) -> None:
        await self.connection.execute(
            "delete from codes where bucket_id = $1 and session = $2", bucket_id, session
        )

    async def delete_codes(self, bucket_id: BucketId) -> None:
        await self.connection.execute("delete from codes where bucket_id = $1", bucket_id)

    async def lapse_codes(self, created_before: datetime) -> None:
        """Records the end of those that were made by then."""
        await self.connection.execute(
            "update codes set lapsed = true where created_at <= $1 and not lapsed",
            created_before,
        )

    # Texts

    async def lock_number(self, number_digest: bytes) -> None:
        """Until this transaction ends nobody else counts texts to this number."""
        key = int.from_bytes(number_digest[:8], "big", signed=True)
        await locks.hold(self.connection, LockClass.TEXTS, key, earlier=key)

    async def texts_sent(
        self, bucket_id: BucketId, number_digest: bytes, after: datetime
    ) -> tuple[Sequence[datetime], Sequence[datetime]]:
        """When texts were sent later than `after`: for the bucket, and to the number."""
        row = await self.connection.fetchrow(
            """
            select array(select sent_at from texts_sent where bucket_id = $1 and sent_at > $3) as bucket,
                array(select sent_at from texts_sent where number_digest = $2 and sent_at > $3) as number
            """,
            bucket_id,
            number_digest,
            after,
        )
        assert row is not None
        return row["bucket"], row["number"]

    async def insert_text(
        self, text_id: UUID, bucket_id: BucketId, number_digest: bytes, sent_at: datetime
    ) -> None:
        await self.connection.execute(
            "insert into texts_sent (text_id, bucket_id, number_digest, sent_at) values ($1, $2, $3, $4)",
            text_id,
            bucket_id,
            number_digest,
            sent_at,
        )

    async def delete_text(self, text_id: UUID) -> None:
        await self.connection.execute("delete from texts_sent where text_id = $1", text_id)

    async def forget_texts(self, sent_before: datetime, limit: int) -> None:
        """At most so many at a time; the others the next time."""
        await self.connection.execute(
            """
            delete from texts_sent
            where text_id = any(array(select text_id from texts_sent where sent_at <= $1 limit $2))
            """,
            sent_before,
            limit,
        )

    # Login sessions

    async def insert_session(self, redeemed: Redeemed) -> None:
        """Inserts, or replaces one whose code was sent to an earlier contact."""
        await self.connection.execute(
            """
            insert into sessions (bucket_id, session, contact_version, redeemed_at, accepted)
            values ($1, $2, $3, $4, false)
            on conflict (bucket_id, session) do update set contact_version = excluded.contact_version,
                redeemed_at = excluded.redeemed_at, accepted = false
            """,
            redeemed.bucket_id,
            redeemed.session,
            redeemed.contact_version,
            self.now,
        )

    async def session_accepted(self, redeemed: Redeemed) -> bool | None:
        """Whether access has accepted it; None: no code was redeemed like this."""
        accepted: bool | None = await self.connection.fetchval(
            "select accepted from sessions where bucket_id = $1 and session = $2 and contact_version = $3",
            *_key(redeemed),
        )
        return accepted

    async def accept_session(self, redeemed: Redeemed) -> None:
        await self.connection.execute(
            """
            update sessions set accepted = true
            where bucket_id = $1 and session = $2 and contact_version = $3
            """,
            *_key(redeemed),
        )

    async def forget_session(self, redeemed: Redeemed) -> None:
        await self.connection.execute(
            "delete from sessions where bucket_id = $1 and session = $2 and contact_version = $3",
            *_key(redeemed),
        )

    async def sessions_to_tell(self, limit: int) -> Sequence[Redeemed]:
        """Login sessions that access has not accepted yet."""
        rows = await self.connection.fetch(
            """
            select bucket_id, session, contact_version from sessions where not accepted
            order by bucket_id limit $1
            """,
            limit,
        )
        return [Redeemed(*row) for row in rows]


def _key(redeemed: Redeemed) -> tuple[BucketId, str, int]:
    return redeemed.bucket_id, redeemed.session, redeemed.contact_version
