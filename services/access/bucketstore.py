"""The tables of buckets, and what their mails need of cases."""

from collections.abc import Collection, Sequence
from datetime import datetime

import asyncpg

from kernel.ids import BucketId, CaseId, UserId
from plumbing import locks
from plumbing.locks import LockClass
from services.access.buckets import Bucket, Standing, Terms
from services.access.describedcases import DescribedCase
from services.access.movestore import MoveStore
from services.access.received import StudyAttributes

# PostgreSQL has room for some thousands of locks, and one ChangeBuckets names up to a thousand buckets.
_LOCKS_OF_BUCKETS = 256


class BucketStore(MoveStore):
    """Keeps the buckets. A bucket without end has its end at infinity."""

    async def hold_buckets(self, bucket_ids: Collection[BucketId]) -> None:
        """Until the end of the transaction nobody else says anything of these buckets, also if absent."""
        abouts = [(bucket_id.int % _LOCKS_OF_BUCKETS, None) for bucket_id in bucket_ids]
        await locks.hold_all(self.connection, LockClass.BUCKET, abouts)

    async def buckets(self, bucket_ids: Collection[BucketId]) -> dict[BucketId, Bucket]:
        """Those that are known, in the order asked."""
        rows = await self.connection.fetch(
            """
            select b.*, nullif(b.ends_at, 'infinity') as end_or_null,
                array(select h.case_id from bucket_cases h where h.bucket_id = b.bucket_id) as case_ids
            from buckets b where b.bucket_id = any($1)
            """,
            list(bucket_ids),
        )
        found = {row["bucket_id"]: _bucket(row) for row in rows}
        return {bucket_id: found[bucket_id] for bucket_id in bucket_ids if bucket_id in found}

    async def save_buckets(self, buckets: Sequence[Bucket]) -> None:
        """Inserts buckets that were granted."""
        granted = [(bucket.standing, terms) for bucket in buckets if (terms := bucket.terms)]
        await self.connection.executemany(
            """
            insert into buckets (bucket_id, version, open, ends_at, sender_id, user_id, facility_id,
                two_factor, write_report, allow_further_sharing, parent_bucket_id)
            values ($1, $2, $3, coalesce($4, 'infinity'::timestamptz), $5, $6, $7, $8, $9, $10, $11)
            """,
            [
                (
                    standing.bucket_id,
                    standing.version,
                    standing.is_open,
                    standing.ends_at,
                    terms.sender_id,
                    terms.recipient_id,
                    terms.facility_id,
                    terms.two_factor,
                    terms.write_report,
                    terms.allow_further_sharing,
                    terms.parent_id,
                )
                for standing, terms in granted
            ],
        )
        await self.connection.executemany(
            """
            insert into bucket_cases (bucket_id, user_id, case_id, received_at)
            select $1, $2, case_id, received_at from cases where case_id = any($3)
            """,
            [(standing.bucket_id, terms.recipient_id, list(terms.case_ids)) for standing, terms in granted],
        )
        await self.touch_cases({case_id for _, terms in granted for case_id in terms.case_ids})

    async def save_standings(self, standings: Sequence[Standing]) -> None:
        """Sets how buckets stand, also of those that are not known; what has ended forgets its sessions."""
        ended = [each.bucket_id for each in standings if each.has_ended]
        await self.connection.execute("delete from bucket_sessions where bucket_id = any($1)", ended)
        await self.connection.executemany(
            """
            insert into buckets (bucket_id, version, open, ends_at)
            values ($1, $2, $3, coalesce($4, 'infinity'::timestamptz))
            on conflict (bucket_id) do update set version = excluded.version, open = excluded.open,
                ends_at = excluded.ends_at
            """,
            [(each.bucket_id, each.version, each.is_open, each.ends_at) for each in standings],
        )

    async def end_shares(self, case_id: CaseId) -> list[BucketId]:
        """Takes a case out of every bucket; answers out of which."""
        rows = await self.connection.fetch(
            "delete from bucket_cases where case_id = $1 returning bucket_id", case_id
        )
        return sorted(row["bucket_id"] for row in rows)

    async def register_session(self, bucket_id: BucketId, session: str) -> bool:
        """Whether it was not registered before."""
        status = await self.connection.execute(
            "insert into bucket_sessions (bucket_id, session) values ($1, $2) on conflict do nothing",
            bucket_id,
            session,
        )
        return status == "INSERT 0 1"

    async def end_sessions(self, user_id: UserId) -> None:
        """Forgets every session that a code registered for the user: they need another code."""
        await self.connection.execute(
            "delete from bucket_sessions s using buckets b where s.bucket_id = b.bucket_id and user_id = $1",
            user_id,
        )

    async def describe_cases(self, case_ids: Collection[CaseId]) -> dict[CaseId, DescribedCase]:
        """What a share and its mail need of cases with their facility, except of those being deleted."""
        rows = await self.connection.fetch(
            """
            select c.case_id, c.patient_name, c.study_description, c.study_date, f.*
            from cases c join facilities f using (facility_id)
            where c.case_id = any($1) and c.deletion_id is null
            """,
            list(case_ids),
        )
        return {
            row["case_id"]: DescribedCase.of(
                case_id=row["case_id"],
                facility_id=row["facility_id"],
                facility_name=row["name"],
                time_zone=row["time_zone"],
                patient_name=row["patient_name"],
                study_description=shown.study_description,
                study_date=shown.study_date,
            )
            for row in rows
            for shown in [
                StudyAttributes(study_description=row["study_description"], study_date=row["study_date"])
            ]
        }


def _bucket(row: asyncpg.Record) -> Bucket:
    ends_at: datetime | None = row["end_or_null"]
    standing = Standing(row["bucket_id"], row["version"], row["open"], ends_at)
    if row["user_id"] is None:
        return Bucket(standing, None)
    terms = Terms(
        sender_id=row["sender_id"],
        recipient_id=row["user_id"],
        facility_id=row["facility_id"],
        case_ids=frozenset(row["case_ids"]),
        two_factor=row["two_factor"],
        write_report=row["write_report"],
        allow_further_sharing=row["allow_further_sharing"],
        parent_id=row["parent_bucket_id"],
    )
    return Bucket(standing, terms)
