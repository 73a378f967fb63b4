"""What an explanation tells beside Check's answer: the case whoever sees it, and what shows it to a user."""

from collections.abc import Collection

from kernel.ids import CaseId, FacilityId, UserId
from plumbing.db import Transaction
from services.access.domain import Facility
from services.access.explain import ExplainedCase, SharedBy, Showings, ShownIn


class ExplainStore(Transaction):
    """Reads what decides sight, for whoever administers the facility of the case."""

    async def in_one_snapshot(self) -> None:
        """All that follows in this transaction sees one state; it is the first that is asked."""
        await self.connection.execute("set transaction isolation level repeatable read, read only")

    async def explained_case(self, case_id: CaseId) -> ExplainedCase | None:
        row = await self.connection.fetchrow(
            """
            select c.facility_id, coalesce(f.name, '') as name, coalesce(f.time_zone, 'UTC') as time_zone,
                coalesce(f.version, 0) as version,
                c.deletion_id is not null as being_deleted, c.move_id is not null as being_moved
            from cases c left join facilities f using (facility_id) where c.case_id = $1
            """,
            case_id,
        )
        if row is None:
            return None
        facility = Facility(row["facility_id"], row["name"], row["time_zone"], row["version"])
        return ExplainedCase(case_id, facility, row["being_deleted"], row["being_moved"])

    async def showings(
        self, user_id: UserId, case_id: CaseId, homes: Collection[FacilityId] | None
    ) -> Showings:
        """What shows the case to the user; folders are named whose members all have one of these homes."""
        is_granted = await self.connection.fetchval(
            "select exists (select from case_grants where user_id = $1 and case_id = $2)", user_id, case_id
        )
        folders = await self.connection.fetch(
            """
            select case when $3::uuid[] is null or (
                select bool_and(coalesce(u.home_facility_id = any($3), false))
                from folder_members m join users u using (user_id) where m.folder_id = f.folder_id
            ) then f.name else '' end as name
            from folder_cases h join folders f using (folder_id)
            where h.case_id = $2
                and exists (
                    select from folder_members t where t.folder_id = f.folder_id and t.user_id = $1
                )
            order by f.name_folded
            """,
            user_id,
            case_id,
            None if homes is None else list(homes),
        )
        shares = await self.connection.fetch(
            """
            select b.open, nullif(b.ends_at, 'infinity') as ends_at, b.two_factor, b.write_report
            from bucket_cases h join buckets b using (bucket_id) where h.case_id = $2 and h.user_id = $1
            """,
            user_id,
            case_id,
        )
        return Showings(
            is_granted,
            [ShownIn(row["name"]) for row in folders],
            [SharedBy(row["open"], row["ends_at"], row["two_factor"], row["write_report"]) for row in shares],
        )
