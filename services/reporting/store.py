"""Reporting's tables: readings with their locks, drafts, reports with their addenda, read types."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from kernel.ids import CaseId, FacilityId, ReportId
from kernel.reading import DraftState, ReadType
from plumbing.db import Transaction
from services.reporting.domain import Addendum, BrokenLock, Draft, Issued, Lock, Reading, Report, Stood
from services.reporting.projections import Signed
from services.reporting.sight import Person, no_case

_DRAFTS = {
    False: "case_id = $1 and author_login = $2",
    True: "case_id = $1 and (author_login = $2 or not author_only)",
}
"""Which drafts a user is shown, without those of others and with them: a condition that reads no others."""


class ReportingTransaction(Transaction):
    """A transaction over reporting's database."""

    # Readings and their locks

    async def reading(self, case_id: CaseId) -> Reading:
        """The reading as one statement sees it; of a case without one, the unread one."""
        return await self._reading(case_id)

    async def lock_reading(self, case_id: CaseId) -> Reading:
        """The reading; until this transaction ends nobody else changes anything that is written.

        Raises NotFound for a case that was purged.
        """
        await self._lock(case_id)
        if await self.connection.fetchval(
            "select exists (select from tombstones where case_id = $1)", case_id
        ):
            raise no_case()
        return await self._reading(case_id)

    async def purge_case(self, case_id: CaseId) -> None:
        """Removes everything that was written about a case, for good."""
        await self._lock(case_id)
        await self.connection.execute(
            "insert into tombstones (case_id) values ($1) on conflict do nothing", case_id
        )
        await self.connection.execute(
            "delete from addenda using reports where addenda.report_id = reports.report_id and case_id = $1",
            case_id,
        )
        for table in ("reports", "drafts", "kept_texts", "broken_locks", "readings"):
            await self.connection.execute(f"delete from {table} where case_id = $1", case_id)  # noqa: S608

    async def _lock(self, case_id: CaseId) -> None:
        await self.connection.execute(
            "insert into readings (case_id) values ($1) on conflict do nothing", case_id
        )
        await self.connection.execute("select from readings where case_id = $1 for update", case_id)

    async def _reading(self, case_id: CaseId) -> Reading:
        row = await self.connection.fetchrow(
            """
            select *, array(
                select (read_type, last.completed_at, (
                    select max(instance_count) from reports most
                    where most.case_id = readings.case_id and most.read_type = types.read_type
                )) from unnest($2::text[]) as types (read_type), lateral (
                    select completed_at from reports
                    where reports.case_id = readings.case_id and reports.read_type = types.read_type
                    order by completed_at desc limit 1
                ) as last order by completed_at
            ) as issued
            from readings where case_id = $1
            """,
            case_id,
            list(ReadType),
        )
        if row is None:
            return Reading(case_id)
        return Reading(
            case_id,
            row["version"],
            _lock(row),
            row["reopened"],
            tuple(Issued(ReadType(read_type), *more) for read_type, *more in row["issued"]),
            row["drafted"],
            DraftState(row["draft"]) if _is_whole(row) else None,
            row["reopened_at"],
        )

    async def save_reading(self, reading: Reading) -> None:
        """Saves all but the reports."""
        lock = reading.lock
        stood = lock and lock.at_start
        await self.connection.execute(
            """
            update readings set version = $2, reopened = $3,
                holder_login = $4, holder_name = $5, lock_ends_at = $6, drafted = $7,
                whole_version = case when $8::text is not null then $2::bigint end, draft = $8,
                at_lock_draft = $9, at_lock_reopened = $10, at_lock_read_types = $11, reopened_at = $12,
                locked_at = $13, locked_version = $2, lock_session = $14, session_version = $2
            where case_id = $1
            """,
            reading.case_id,
            reading.version,
            reading.reopened,
            lock and lock.holder.login,
            lock and lock.holder.name,
            lock and lock.ends_at,
            reading.drafted,
            reading.draft,
            stood and stood.draft,
            stood and stood.reopened,
            sorted(stood.read_types) if stood else None,
            reading.reopened_at,
            lock and lock.since,
            lock and lock.session,
        )

    async def reading_versions(self, after: UUID, limit: int) -> Sequence[tuple[UUID, int]]:
        rows = await self.connection.fetch(
            "select case_id, version from readings where case_id > $1 and version > 0 order by 1 limit $2",
            after,
            limit,
        )
        return [(row["case_id"], row["version"]) for row in rows]

    async def broken_lock(self, case_id: CaseId, login: str) -> BrokenLock | None:
        row = await self.connection.fetchrow(
            "select * from broken_locks where case_id = $1 and holder_login = $2", case_id, login
        )
        return BrokenLock(row["broken_by_name"], row["broken_at"]) if row else None

    async def save_broken_lock(self, case_id: CaseId, login: str, broken: BrokenLock) -> None:
        await self.connection.execute(
            """
            insert into broken_locks (case_id, holder_login, broken_by_name, broken_at)
            values ($1, $2, $3, $4)
            on conflict (case_id, holder_login) do update
                set broken_by_name = excluded.broken_by_name, broken_at = excluded.broken_at
            """,
            case_id,
            login,
            broken.by_name,
            broken.at,
        )

    async def forget_broken_lock(self, case_id: CaseId, login: str) -> None:
        await self.connection.execute(
            "delete from broken_locks where case_id = $1 and holder_login = $2", case_id, login
        )

    # Drafts

    async def drafts(self, case_id: CaseId, login: str, *, of_others: bool) -> Sequence[Draft]:
        """The user's texts, and if `of_others` the drafts of others that these share, oldest first."""
        rows = await self.connection.fetch(
            f"""
            select author_login, author_name, text, saved_at, author_only, transcribed, false as beside
            from drafts where {_DRAFTS[of_others]}
            union all
            select author_login, author_name, text, saved_at, true, false, true
            from kept_texts where case_id = $1 and author_login = $2
            order by saved_at, author_login
            """,  # noqa: S608
            case_id,
            login,
        )
        return [
            Draft(
                case_id,
                _author(row),
                row["text"],
                row["saved_at"],
                row["author_only"],
                row["transcribed"],
                row["beside"],
            )
            for row in rows
        ]

    async def save_draft(self, draft: Draft) -> None:
        """Inserts, or replaces the author's draft of this kind."""
        await self.connection.execute(
            """
            insert into drafts
                (case_id, author_login, author_only, author_name, text, saved_at, transcribed)
            values ($1, $2, $3, $4, $5, $6, $7)
            on conflict (case_id, author_login, author_only) do update
                set author_name = excluded.author_name, text = excluded.text, saved_at = excluded.saved_at,
                    transcribed = excluded.transcribed
            """,
            draft.case_id,
            draft.author.login,
            draft.author_only,
            draft.author.name,
            draft.text,
            draft.saved_at,
            draft.transcribed,
        )

    async def save_beside(self, draft: Draft, slot: str, most: int) -> None:
        """Keeps a refused text beside its author's draft, in place of that of its slot, the newest few."""
        await self.connection.execute(
            """
            insert into kept_texts (case_id, author_login, slot, author_name, text, saved_at)
            values ($1, $2, $3, $4, $5, $6)
            on conflict (case_id, author_login, slot) do update
                set author_name = excluded.author_name, text = excluded.text, saved_at = excluded.saved_at
            """,
            draft.case_id,
            draft.author.login,
            slot,
            draft.author.name,
            draft.text,
            draft.saved_at,
        )
        await self.connection.execute(
            """
            delete from kept_texts where case_id = $1 and author_login = $2 and slot in (
                select slot from kept_texts where case_id = $1 and author_login = $2
                order by saved_at desc, slot offset $3
            )
            """,
            draft.case_id,
            draft.author.login,
            most,
        )

    async def forget_beside(self, case_id: CaseId, login: str, text: str) -> None:
        """Drops what is kept beside the author's draft and says the same."""
        await self.connection.execute(
            "delete from kept_texts where case_id = $1 and author_login = $2 and text = $3",
            case_id,
            login,
            text,
        )

    async def delete_drafts(self, case_id: CaseId, login: str) -> None:
        """Drops all unsigned texts of the author."""
        for table in ("drafts", "kept_texts"):
            await self.connection.execute(
                f"delete from {table} where case_id = $1 and author_login = $2",  # noqa: S608
                case_id,
                login,
            )

    async def is_drafted(self, case_id: CaseId) -> bool:
        """Whether anybody keeps an unsigned text about the case."""
        return bool(
            await self.connection.fetchval(
                """
                select exists (select from drafts where case_id = $1)
                    or exists (select from kept_texts where case_id = $1)
                """,
                case_id,
            )
        )

    async def drafts_that_wait(self, case_id: CaseId, since: datetime | None) -> Sequence[bool]:
        """Of each draft that is newer and not for its author alone, whether a transcriptionist wrote it."""
        rows = await self.connection.fetch(
            """
            select transcribed from drafts
            where case_id = $1 and not author_only and ($2::timestamptz is null or saved_at > $2)
            """,
            case_id,
            since,
        )
        return [row["transcribed"] for row in rows]

    async def bytes_written(self, case_id: CaseId, *, without: str | None = None) -> int:
        """How long all texts about a case are in UTF-8, without the unsigned ones of a login."""
        return int(
            await self.connection.fetchval(
                """
                select coalesce(sum(octet_length(text)), 0) from (
                    select text from drafts where case_id = $1 and author_login is distinct from $2
                    union all
                    select text from kept_texts where case_id = $1 and author_login is distinct from $2
                    union all select text from reports where case_id = $1
                    union all
                    select addenda.text from addenda join reports using (report_id) where case_id = $1
                ) texts
                """,
                case_id,
                without,
            )
        )

    # Reports

    async def reports(self, case_id: CaseId, read_types: Collection[ReadType]) -> Sequence[Report]:
        """The reports of these types with their addenda, oldest first. No other is read."""
        return await self._with_addenda(
            await self.connection.fetch(
                """
                select * from reports where case_id = $1 and read_type = any($2)
                order by completed_at, report_id
                """,
                case_id,
                list(read_types),
            )
        )

    async def report(
        self, case_id: CaseId, report_id: ReportId, read_types: Collection[ReadType]
    ) -> Report | None:
        """One report of the case, if it is of one of these types."""
        rows = await self.connection.fetch(
            "select * from reports where case_id = $1 and report_id = $2 and read_type = any($3)",
            case_id,
            report_id,
            list(read_types),
        )
        return next(iter(await self._with_addenda(rows)), None)

    async def reports_written(self, case_id: CaseId) -> int:
        """How many reports of any type there are."""
        return int(await self.connection.fetchval("select count(*) from reports where case_id = $1", case_id))

    async def signed(self, case_id: CaseId) -> Sequence[Signed]:
        """Who signed which reports of the case, oldest first."""
        rows = await self.connection.fetch(
            """
            select read_type, author_login, author_id, completed_at from reports where case_id = $1
            order by completed_at, report_id
            """,
            case_id,
        )
        return [Signed(ReadType(read_type), *more) for read_type, *more in rows]

    async def _with_addenda(self, rows: Sequence[asyncpg.Record]) -> Sequence[Report]:
        addenda: dict[UUID, list[Addendum]] = defaultdict(list)
        for row in await self.connection.fetch(
            "select * from addenda where report_id = any($1) order by added_at, addendum_id",
            [row["report_id"] for row in rows],
        ):
            addenda[row["report_id"]].append(
                Addendum(_author(row), row["text"], row["added_at"], row["revision"])
            )
        return [
            Report(
                row["report_id"],
                row["case_id"],
                ReadType(row["read_type"]),
                _author(row),
                row["text"],
                row["completed_at"],
                row["revision"],
                tuple(addenda[row["report_id"]]),
                row["instance_count"],
                row["author_id"],
            )
            for row in rows
        ]

    async def insert_report(self, report: Report) -> None:
        await self.connection.execute(
            """
            insert into reports (report_id, case_id, read_type, author_login, author_name, text, completed_at,
                revision, instance_count, author_id)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
            """,
            report.id,
            report.case_id,
            report.read_type,
            report.author.login,
            report.author.name,
            report.text,
            report.completed_at,
            report.revision,
            report.instance_count,
            report.author_id,
        )

    async def insert_addendum(
        self, report_id: ReportId, addendum: Addendum, instance_count: int | None
    ) -> None:
        """Inserts it; `instance_count` is how many instances the case has now, None if nobody knows."""
        await self.connection.execute(
            "update reports set instance_count = greatest(instance_count, $2) where report_id = $1",
            report_id,
            instance_count,
        )
        await self.connection.execute(
            """
            insert into addenda (addendum_id, report_id, author_login, author_name, text, added_at, revision)
            values ($1, $2, $3, $4, $5, $6, $7)
            """,
            self.new_id(),
            report_id,
            addendum.author.login,
            addendum.author.name,
            addendum.text,
            addendum.added_at,
            addendum.revision,
        )

    # Read types

    async def pre_read_enabled(self) -> bool:
        """Whether pre-read is on for the group."""
        return bool(
            await self.connection.fetchval(
                "select active from read_type_switches where facility_id is null and read_type = $1",
                ReadType.PRE_READ,
            )
        )

    async def switches(self, facility_id: FacilityId) -> Mapping[ReadType, bool]:
        """What was switched at a facility."""
        rows = await self.connection.fetch(
            "select read_type, active from read_type_switches where facility_id = $1", facility_id
        )
        return {ReadType(row["read_type"]): row["active"] for row in rows}

    async def lock_switches(self) -> None:
        """Until this transaction ends nobody else switches anything; readers are not kept waiting."""
        await self.connection.execute("lock table read_type_switches in share row exclusive mode")

    async def save_switch(self, facility_id: FacilityId | None, read_type: ReadType, active: bool) -> None:
        await self.connection.execute(
            """
            insert into read_type_switches (facility_id, read_type, active) values ($1, $2, $3)
            on conflict (facility_id, read_type) do update set active = excluded.active
            """,
            facility_id,
            read_type,
            active,
        )


Row = asyncpg.Record | Mapping[str, Any]


def _author(row: Row) -> Person:
    return Person(row["author_login"], row["author_name"])


def _lock(row: Row) -> Lock | None:
    if row["holder_login"] is None:
        return None
    stood = None
    if _is_whole(row) and row["at_lock_draft"] is not None:
        read_types = frozenset(map(ReadType, row["at_lock_read_types"]))
        stood = Stood(read_types, row["at_lock_reopened"], DraftState(row["at_lock_draft"]))
    since = row["locked_at"] if row["locked_version"] == row["version"] else None
    session = row["lock_session"] if row["session_version"] == row["version"] else None
    return Lock(Person(row["holder_login"], row["holder_name"]), row["lock_ends_at"], stood, since, session)


def _is_whole(row: Row) -> bool:
    """Whether the version before has not written the row since this one did."""
    return bool(row["whole_version"] == row["version"])
