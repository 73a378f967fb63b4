"""What an explanation tells beside Check's answer: the case whoever sees it, and what shows it to a user."""

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from kernel.ids import CaseId, FacilityId, UserId
from plumbing.db import Transaction
from services.access.casequery import seen_by
from services.access.domain import CompiledUser, Facility
from services.access.explain import Counted, ExplainedCase, SharedBy, Showings, ShownIn


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

    async def case_values(self, case_id: CaseId, columns: Sequence[str]) -> Mapping[str, object]:
        """What a filter asks of a case, by column of the index; the columns are those of its fields."""
        row = await self.connection.fetchrow(
            f"select {', '.join(columns)} from cases where case_id = $1",  # noqa: S608
            case_id,
        )
        return dict(row) if row else {}

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

    async def administered(
        self, facility_ids: Collection[FacilityId] | None, after: tuple[str, UUID] | None, limit: int
    ) -> list[Facility]:
        """These facilities (None: all) by name and id, after this name and id."""
        name, facility_id = after or ("", UUID(int=0))
        rows = await self.connection.fetch(
            """
            select facility_id, name, time_zone, version from facilities
            where ($1::uuid[] is null or facility_id = any($1)) and (name, facility_id) > ($2, $3)
            order by name, facility_id limit $4
            """,
            None if facility_ids is None else list(facility_ids),
            name,
            facility_id,
            limit,
        )
        return [Facility(*row) for row in rows]

    async def count_shown(self, user: CompiledUser, facility_id: FacilityId, most: int) -> Counted:
        """At most so many cases of a facility, the newest, and how many the user sees in no session."""
        cases = seen_by(user, self.now, facility_id=facility_id)
        facility, most_, one_more = cases.value(facility_id), cases.value(most), cases.value(most + 1)
        row = await self.connection.fetchrow(
            f"""
            select count(*) filter (where number <= {most_}) as counted,
                count(*) filter (where number <= {most_} and is_shown) as shown,
                count(*) > {most_} as has_more
            from (
                select {cases.shown} as is_shown,
                    row_number() over (order by sighted.received_at desc, sighted.case_id desc) as number
                from users u
                cross join {cases.sighted}
                where u.login = {cases.login} and sighted.facility_id = {facility}
                    and sighted.deletion_id is null
                order by sighted.received_at desc, sighted.case_id desc limit {one_more}
            ) newest
            """,  # noqa: S608  of what a `CaseQuery` is made of
            *cases.parameters,
        )
        assert row is not None
        return Counted(row["counted"], row["shown"], row["has_more"])
