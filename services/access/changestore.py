"""Which cases changed, and what a list shows of them.

A transaction has its number long before it is committed. So whoever reads keeps the snapshot of their last
reading: what was not visible in it, and is now, was committed since.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from kernel.ids import CaseId
from plumbing.db import Transaction
from services.access.casequery import seen_by
from services.access.caserows import rows_of
from services.access.domain import Answer, CompiledUser
from services.access.listings import among, finds
from services.access.live import Account, Change, Changes, Seen
from services.access.search import Listing, Search
from services.access.sightings import answer_of

PRUNED_AT_ONCE = 10_000


class ChangeStore(Transaction):
    """Reads what changed."""

    async def changes_since(
        self, snapshot: str | None, at_most: int, *, among: Collection[UUID] | None = None
    ) -> Changes:
        """What was committed since, of all or among some ids; nobody knows for the first time, for what was
        pruned, or of too many."""
        row = await self.connection.fetchrow(
            """
            select pg_current_snapshot()::text as snapshot,
                (
                    pg_snapshot_xmin(last.snapshot) > (select up_to from case_changes_gone)
                    and pg_snapshot_xmax(last.snapshot) <= pg_snapshot_xmax(pg_current_snapshot())
                ) as is_known,
                array(
                    select distinct c.id from case_changes c
                    where c.changed_in >= pg_snapshot_xmin(last.snapshot)
                        and not pg_visible_in_snapshot(c.changed_in, last.snapshot)
                        and ($3::uuid[] is null or c.id = any($3))
                    limit $2
                ) as ids
            from (select $1::text::pg_snapshot as snapshot) last
            """,
            snapshot,
            at_most + 1,
            among,
        )
        assert row is not None, "the statement answers one row"
        found = row["ids"]
        is_known = row["is_known"] and len(found) <= at_most
        return Changes(row["snapshot"], found if is_known else None)

    async def changed(self, case_ids: Sequence[CaseId]) -> dict[CaseId, Change]:
        """Who may be concerned by a change of these. It decides nothing: whoever may be concerned asks."""
        rows = await self.connection.fetch(
            """
            select asked.case_id, c.facility_id, c.locked_until,
                exists (select from case_grants g where g.case_id = asked.case_id)
                    or exists (select from folder_cases f where f.case_id = asked.case_id)
                    or exists (select from bucket_cases h where h.case_id = asked.case_id) as shown_singly
            from unnest($1::uuid[]) as asked (case_id) left join cases c using (case_id)
            """,
            case_ids,
        )
        return {
            row["case_id"]: Change(row["facility_id"], row["shown_singly"], row["locked_until"])
            for row in rows
        }

    async def of_same_persons(self, case_ids: Sequence[CaseId], at_most: int) -> list[CaseId]:
        """Cases of the same persons, which these may show, or show no more."""
        rows = await self.connection.fetch(
            """
            select distinct other.case_id from cases c join cases other using (person_id)
            where c.case_id = any($1::uuid[]) limit $2
            """,
            case_ids,
            at_most,
        )
        return [row["case_id"] for row in rows]

    async def in_list(
        self,
        user: CompiledUser,
        asked: Listing,
        case_ids: Collection[CaseId],
        search: Search | None,
        *,
        session: str = "",
    ) -> Answer[list[Seen]] | None:
        """Those of these cases that a list has, in its order; None if the user is gone."""
        cases = seen_by(user, self.now, session, asked.facility_id)
        found = finds(cases, search, self.now) if search else ""
        statement = among(cases, asked, case_ids, found)
        rows = await self.connection.fetch(statement, *cases.parameters)
        return answer_of(rows[0], rows_of(rows)) if rows else None

    async def accounts(self, logins: Collection[str]) -> Mapping[str, Account]:
        """How these users stand who exist, by login."""
        rows = await self.connection.fetch(
            """
            select u.login, u.version,
                exists (select from case_grants g where g.user_id = u.user_id)
                    or exists (select from buckets b where b.user_id = u.user_id and b.open) as shown_singly,
                (
                    select min(b.ends_at) from buckets b
                    where b.user_id = u.user_id and b.open and b.ends_at > $2 and b.ends_at < 'infinity'
                ) as next_end
            from users u where u.login = any($1::text[])
            """,
            list(logins),
            self.now,
        )
        return {row["login"]: Account(row["version"], row["shown_singly"], row["next_end"]) for row in rows}

    async def prune_changes(self, kept_for: timedelta, limit: int = PRUNED_AT_ONCE) -> int:
        """Forgets the oldest changes; answers how many. By the clock of the database, which wrote them.

        A database that was restored counts its transactions from lower numbers: what is numbered higher than
        any is of another life.
        """
        count: int = await self.connection.fetchval(
            """
            with now as (select pg_snapshot_xmax(pg_current_snapshot()) as xmax), gone as (
                delete from case_changes c using (
                    (select changed_in, id, changed_at from case_changes order by changed_in, id limit $2)
                    union all
                    (select changed_in, id, '-infinity' from case_changes
                     where changed_in >= (select xmax from now) limit $2)
                ) oldest
                where (c.changed_in, c.id) = (oldest.changed_in, oldest.id)
                    and oldest.changed_at < now() - $1::interval
                returning c.changed_in
            ), noted as (
                update case_changes_gone set up_to = greatest(
                    case when up_to < (select xmax from now) then up_to end,
                    (select max(changed_in) from gone where changed_in < (select xmax from now)),
                    '0'::xid8
                )
            )
            select count(*) from gone
            """,
            kept_for,
            limit,
        )
        return count
