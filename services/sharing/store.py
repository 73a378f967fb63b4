"""Sharing's tables: shares with their cases and buckets, and tombstones."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from kernel.ids import BucketId, CaseId, ShareId
from kernel.language import Language
from kernel.reach import Reach
from services.sharing.codestore import CodeStore
from services.sharing.domain import ActiveUser, Bucket, Change, Received, Rights, Share, State
from services.sharing.policystore import PolicyStore

LATER = UUID(int=(1 << 128) - 1)
"""After every id: lists go from the newest down."""

# A bucket as its recipient may be shown it: $1 is their login, $2 now, $3 their login session, $4 the version
# of their contact: a code that was sent to an earlier one counts no more.
_RECEIVED = """
    select buckets.*, two_factor and not exists (
            select from sessions
            where sessions.bucket_id = buckets.bucket_id and session = $3 and contact_version = $4
        ) as code_needed
    from buckets
    where recipient_login = $1 and state in ('active', 'blocked') and (ends_at is null or ends_at > $2)
    """


class SharingTransaction(CodeStore, PolicyStore):
    """A transaction over sharing's database."""

    # Deleted cases

    async def keep_from_deletion(self, case_ids: Collection[CaseId]) -> bool:
        """Whether none of the cases is deleted; until this transaction ends none will be (A60)."""
        await self.connection.execute("lock table tombstones in share mode")
        return not await self.connection.fetchval(
            "select exists (select from tombstones where case_id = any($1))", case_ids
        )

    async def purge_case(self, case_id: CaseId) -> None:
        """Keeps nothing of a case but its tombstone; a share without any other goes with it."""
        await self.connection.execute(
            "insert into tombstones (case_id, deleted_at) values ($1, $2) on conflict do nothing",
            case_id,
            self.now,
        )
        rows = await self.connection.fetch(
            "delete from share_cases where case_id = $1 returning share_id", case_id
        )
        await self.connection.execute(
            """
            delete from shares
            where share_id = any($1) and not exists (
                select from share_cases where share_cases.share_id = shares.share_id
            )
            """,
            [row["share_id"] for row in rows],
        )

    # Shares

    async def insert_share(self, share: Share, link_digests: Mapping[BucketId, bytes]) -> None:
        await self.connection.execute(
            """
            insert into shares (share_id, sender_login, sender_user_id, sender_name, facility_id, time_zone,
                reason, message, language, urgent, rights, allow_further_sharing, parent_bucket_id, shared_at)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
            """,
            share.id,
            share.sender_login,
            share.sender_user_id,
            share.sender_name,
            share.facility_id,
            share.time_zone,
            share.reason,
            share.message,
            share.language,
            share.urgent,
            share.rights,
            share.allow_further_sharing,
            share.parent_bucket_id,
            share.shared_at,
        )
        await self.connection.execute(
            """
            insert into share_cases (share_id, case_id, position)
            select $1, case_id, position from unnest($2::uuid[]) with ordinality as named (case_id, position)
            """,
            share.id,
            share.case_ids,
        )
        await self.connection.executemany(
            """
            insert into buckets (bucket_id, share_id, position, recipient_login, recipient_user_id,
                two_factor, send_mail, link_digest, state, version, accepted_version, ends_at)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
            """,
            [
                (
                    bucket.id,
                    share.id,
                    position,
                    bucket.recipient_login,
                    bucket.recipient_user_id,
                    bucket.two_factor,
                    bucket.send_mail,
                    link_digests[bucket.id],
                    bucket.state,
                    bucket.version,
                    bucket.accepted_version,
                    bucket.ends_at,
                )
                for position, bucket in enumerate(share.buckets)
            ],
        )

    async def delete_share(self, share_id: ShareId) -> None:
        await self.connection.execute("delete from shares where share_id = $1", share_id)

    async def share(self, share_id: ShareId) -> Share | None:
        shares = await self._whole("select * from shares where share_id = $1", share_id)
        return shares[0] if shares else None

    async def share_of(self, bucket_id: BucketId) -> Share | None:
        shares = await self._whole(
            "select shares.* from shares join buckets using (share_id) where bucket_id = $1", bucket_id
        )
        return shares[0] if shares else None

    async def shares(
        self,
        sender_login: str,
        reach: Reach,
        *,
        blocked_only: bool,
        case_id: CaseId | None,
        before: UUID | None,
        limit: int,
    ) -> Sequence[Share]:
        """The sender's, and those of the facilities that are reached, newest first; of one case, if named."""
        return await self._whole(
            """
            select * from shares
            where share_id < $1 and (sender_login = $2 or $3 or facility_id = any($4))
                and (not $5 or exists (
                    select from buckets
                    where buckets.share_id = shares.share_id and state = 'blocked'
                        and (ends_at is null or ends_at > $6)
                ))
                and ($8::uuid is null or share_id = any(array(
                    select share_id from share_cases where case_id = $8
                )))
            order by share_id desc limit $7
            """,
            before or LATER,
            sender_login,
            reach.everywhere,
            list(reach.facilities),
            blocked_only,
            self.now,
            limit,
            case_id,
        )

    async def _whole(self, sql: str, *values: object) -> Sequence[Share]:
        """The shares that a statement selects, in its order, with cases and buckets."""
        rows = await self.connection.fetch(sql, *values)
        ids = [row["share_id"] for row in rows]
        cases: dict[UUID, list[CaseId]] = defaultdict(list)
        for row in await self.connection.fetch(
            "select share_id, case_id from share_cases where share_id = any($1) order by position", ids
        ):
            cases[row["share_id"]].append(row["case_id"])
        buckets: dict[UUID, list[Bucket]] = defaultdict(list)
        for row in await self.connection.fetch(
            "select * from buckets where share_id = any($1) order by position", ids
        ):
            buckets[row["share_id"]].append(_bucket(row))
        return [  # one that was deleted meanwhile has no buckets
            _share(row, tuple(cases[row["share_id"]]), tuple(buckets[row["share_id"]]))
            for row in rows
            if row["share_id"] in buckets
        ]

    # Buckets

    async def lock_buckets(self, bucket_ids: Collection[BucketId]) -> Sequence[Bucket]:
        """These buckets, by id; until this transaction ends nobody else changes them."""
        return await self._buckets(
            "select * from buckets where bucket_id = any($1) order by bucket_id for update", bucket_ids
        )

    async def lock_children(self, bucket_ids: Collection[BucketId]) -> Sequence[Bucket]:
        """What was shared on from these buckets, locked like them."""
        return await self._buckets(
            """
            select * from buckets
            where share_id = any(array(select share_id from shares where parent_bucket_id = any($1)))
            order by bucket_id for update
            """,
            bucket_ids,
        )

    async def save_buckets(self, buckets: Collection[Bucket]) -> None:
        """Saves how buckets stand that this transaction has locked; one that has ended forgets its login
        sessions, as in access: after a renewal it needs another code (A57)."""
        ended = [each.id for each in buckets if each.change.ended]
        await self.connection.execute("delete from sessions where bucket_id = any($1)", ended)
        await self.connection.executemany(
            """
            update buckets set state = $2, version = $3, accepted_version = $4, ends_at = $5,
                wrong_codes = $6, lengthening_since = $7
            where bucket_id = $1
            """,
            [
                (
                    each.id,
                    each.state,
                    each.version,
                    each.accepted_version,
                    each.ends_at,
                    each.wrong_codes,
                    each.lengthening_since,
                )
                for each in buckets
            ],
        )

    async def accept(self, changes: Collection[Change]) -> None:
        """Notes that access has accepted these versions; of what others are changing, later."""
        await self.connection.execute(
            """
            update buckets set accepted_version = told.version
            from unnest($1::uuid[], $2::bigint[]) as told (bucket_id, version)
            where buckets.bucket_id = told.bucket_id and accepted_version < told.version
                and buckets.bucket_id = any(array(
                    select bucket_id from buckets where bucket_id = any($1) for update skip locked
                ))
            """,
            [change.bucket_id for change in changes],
            [change.version for change in changes],
        )

    async def note_opening(self, bucket_id: BucketId) -> bool:
        """Notes that the recipient was shown it; True the first time."""
        return bool(
            await self.connection.fetchval(
                """
                update buckets set opened_at = $2 where bucket_id = $1 and opened_at is null
                returning true
                """,
                bucket_id,
                self.now,
            )
        )

    async def claim_ended(self, limit: int) -> Sequence[Bucket]:
        """What has ended and is not recorded as such, locked; what others have locked comes later."""
        return await self._buckets(
            """
            select * from buckets where state in ('active', 'blocked') and ends_at <= $1
            order by ends_at limit $2 for update skip locked
            """,
            self.now,
            limit,
        )

    async def claim_lengthening(self, since: datetime, limit: int) -> Sequence[Bucket]:
        """What a later end was begun for then or earlier, locked."""
        return await self._buckets(
            """
            select * from buckets where lengthening_since <= $1
            order by bucket_id limit $2 for update skip locked
            """,
            since,
            limit,
        )

    async def claim_pending(self, since: datetime, limit: int) -> Sequence[Bucket]:
        """What has been pending since then or longer, locked."""
        return await self._buckets(
            """
            select buckets.* from buckets join shares using (share_id)
            where state = 'pending' and shared_at <= $1
            order by bucket_id limit $2 for update of buckets skip locked
            """,
            since,
            limit,
        )

    async def untold(self, limit: int) -> Sequence[Bucket]:
        """Buckets that access has not accepted as they stand; not while it is asked for a later end."""
        return await self._buckets(
            """
            select * from buckets
            where accepted_version < version and state <> 'pending' and lengthening_since is null
            order by bucket_id limit $1
            """,
            limit,
        )

    async def count_untold(self) -> int:
        return int(
            await self.connection.fetchval(
                """
                select count(*) from buckets
                where accepted_version < version and state <> 'pending' and lengthening_since is null
                """
            )
        )

    async def _buckets(self, sql: str, *values: object) -> Sequence[Bucket]:
        return [_bucket(row) for row in await self.connection.fetch(sql, *values)]

    # Recipients

    async def to_share_on(
        self, login: str, case_ids: Collection[CaseId], limit: int
    ) -> Sequence[tuple[Bucket, Rights]]:
        """Their buckets that hold all these cases and may be shared on, with the rights; newest first."""
        rows = await self.connection.fetch(
            """
            select buckets.*, rights from buckets join shares using (share_id)
            where recipient_login = $1 and state = 'active' and (ends_at is null or ends_at > $2)
                and allow_further_sharing and cardinality($3::uuid[]) = (
                    select count(*) from share_cases
                    where share_cases.share_id = shares.share_id and case_id = any($3)
                )
            order by bucket_id desc limit $4
            """,
            login,
            self.now,
            case_ids,
            limit,
        )
        return [(_bucket(row), Rights(row["rights"])) for row in rows]

    async def received(
        self, user: ActiveUser, session: str, before: UUID | None, limit: int
    ) -> Sequence[Received]:
        """What a recipient has received and has not ended, newest first."""
        return await self._received(
            f"{_RECEIVED} and bucket_id < $5 order by bucket_id desc limit $6",
            user,
            session,
            before or LATER,
            limit,
        )

    async def received_by_link(self, digest: bytes, user: ActiveUser, session: str) -> Received | None:
        """The same of the one that a link names."""
        received = await self._received(f"{_RECEIVED} and link_digest = $5", user, session, digest)
        return received[0] if received else None

    async def received_bucket(self, bucket_id: BucketId, user: ActiveUser, session: str) -> Received | None:
        """The same of one bucket."""
        received = await self._received(f"{_RECEIVED} and bucket_id = $5", user, session, bucket_id)
        return received[0] if received else None

    async def _received(
        self, sql: str, user: ActiveUser, session: str, *values: object
    ) -> Sequence[Received]:
        rows = await self.connection.fetch(sql, user.login, self.now, session, user.contact_version, *values)
        shares = {
            share.id: share
            for share in await self._whole(
                "select * from shares where share_id = any($1)", [row["share_id"] for row in rows]
            )
        }
        return [
            Received(shares[row["share_id"]], _bucket(row), row["code_needed"])
            for row in rows
            if row["share_id"] in shares
        ]


def _share(row: asyncpg.Record, cases: tuple[CaseId, ...], buckets: tuple[Bucket, ...]) -> Share:
    return Share(
        id=row["share_id"],
        sender_login=row["sender_login"],
        sender_user_id=row["sender_user_id"],
        sender_name=row["sender_name"],
        facility_id=row["facility_id"],
        time_zone=row["time_zone"],
        reason=row["reason"],
        message=row["message"],
        language=Language(row["language"]),
        urgent=row["urgent"],
        rights=Rights(row["rights"]),
        allow_further_sharing=row["allow_further_sharing"],
        parent_bucket_id=row["parent_bucket_id"],
        shared_at=row["shared_at"],
        case_ids=cases,
        buckets=buckets,
    )


def _bucket(row: asyncpg.Record) -> Bucket:
    return Bucket(
        id=row["bucket_id"],
        share_id=row["share_id"],
        recipient_login=row["recipient_login"],
        recipient_user_id=row["recipient_user_id"],
        two_factor=row["two_factor"],
        send_mail=row["send_mail"],
        ends_at=row["ends_at"],
        state=State(row["state"]),
        version=row["version"],
        accepted_version=row["accepted_version"],
        wrong_codes=row["wrong_codes"],
        opened_at=row["opened_at"],
        lengthening_since=row["lengthening_since"],
    )
