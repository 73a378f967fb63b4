# ruff: noqa: S608  statements are put together from constants of this file
"""The worklist: a page of the cases that a user sees."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import asyncpg

from kernel.ids import CaseId, FacilityId
from kernel.reading import Side
from plumbing.db import Transaction
from services.access.caseindex import CaseSummary, ListedCase, Position, Priority
from services.access.casequery import CaseQuery, seen_by
from services.access.domain import Answer, CompiledUser, Sighting
from services.access.readingstore import PROJECTION, projection
from services.access.received import LISTED, StudyAttributes
from services.access.sightings import FOUND, answer_of, sighting_of

# Few at a time, and looked up once in a statement: a page is cut off before it looks at any case.
_HIDDEN = """array(
    select d.case_id from cases d where d.deletion_id is not null
    union all select m.case_id from cases m where m.move_id is not null
)"""
# What a case is derived to for filters is far longer than what is shown of it.
_LISTED = f"""
    {FOUND}, sighted.received_at, sighted.study_instance_uid, sighted.undistributed, sighted.settled,
    sighted.series_count, sighted.modalities_in_study, sighted.modalities_left_out,
    sighted.another_patient_held, sighted.written_differently, sighted.calling_ae_title,
    sighted.gateway_id, sighted.priority,
    {", ".join(f"sighted.{name}" for name in LISTED)}
"""
_NEWEST = Position(datetime.max.replace(tzinfo=UTC), CaseId(UUID(int=2**128 - 1)))


def page_of(cases: CaseQuery, after: Position | None, limit: int, facility_id: FacilityId | None) -> str:
    """The statement that answers a page of these cases, newest first.

    Each path is a branch of its own that an index serves in order, each cut off at the page; what they offer
    passes the same predicate as a check. A case in several folders or shares counts once before the cut. Of
    the reading the projection of one side is shown, on which nothing else depends (A59).
    """
    after = after or _NEWEST
    before = f"({cases.value(after.received_at)}, {cases.value(after.case_id)})"
    limit_ = f"limit {cases.value(limit)}"
    facility = cases.value(facility_id)

    def at_a_facility(condition: str) -> str:
        return f"""
            select offered.case_id, offered.received_at
            from unnest({cases.facilities}::uuid[]) as seen (facility_id)
            cross join lateral (
                select c.case_id, c.received_at from cases c
                where c.facility_id = seen.facility_id and (c.received_at, c.case_id) < {before}
                    and c.case_id <> all({_HIDDEN}) {condition}
                order by c.received_at desc, c.case_id desc {limit_}
            ) offered
            order by received_at desc, case_id desc {limit_}
        """

    def of_those(shown: str) -> str:
        """Of cases that a table shows, whatever facility they are at: those that the page may hold."""
        return f"""({shown}.received_at, {shown}.case_id) < {before}
            and {shown}.case_id <> all({_HIDDEN})
            and ({facility}::uuid is null or {facility} = (
                select c.facility_id from cases c where c.case_id = {shown}.case_id
            ))
        """

    by_filter = f"and {cases.by_privilege}" if cases.asks_filter else ""
    by_historical = f"union ({at_a_facility(f'and {cases.by_historical}')})" if cases.by_historical else ""
    return listed(
        cases,
        f"""
            ({at_a_facility(by_filter)})
            {by_historical}
            union (
                select g.case_id, g.received_at from case_grants g
                where g.user_id = {cases.grantee}::uuid and {of_those("g")}
                order by g.received_at desc, g.case_id desc {limit_}
            ) union (
                select distinct offered.case_id, offered.received_at
                from unnest({cases.folders}::uuid[]) as theirs (folder_id)
                cross join lateral (
                    select f.case_id, f.received_at from folder_cases f
                    where f.folder_id = theirs.folder_id and {of_those("f")}
                    order by f.received_at desc, f.case_id desc {limit_}
                ) offered
                order by received_at desc, case_id desc {limit_}
            ) union (
                select distinct offered.case_id, offered.received_at
                from buckets b
                cross join lateral (
                    select h.case_id, h.received_at from bucket_cases h
                    where h.bucket_id = b.bucket_id and {of_those("h")}
                    order by h.received_at desc, h.case_id desc {limit_}
                ) offered
                where b.user_id = {cases.grantee}::uuid and {cases.gives_sight}
                order by received_at desc, case_id desc {limit_}
            )
            order by received_at desc, case_id desc {limit_}
        """,
    )


def listed(cases: CaseQuery, page: str) -> str:
    """The statement that answers the cases of a page as the worklist shows them, newest first.

    Args:
        page: a statement of ids and times of cases that the user may see: only those that they do are told.
    """
    side = cases.value(cases.side)
    return f"""
        with page as ({page})
        select u.version as user_version, revision.value as revision, coalesce(f.name, '') as facility_name,
            {_LISTED}, a.login as assignee_login, {PROJECTION}, r.images_since
        from users u
        cross join revision
        left join (page join {cases.sighted} using (case_id)) on {cases.shown}
        left join facilities f on f.facility_id = sighted.facility_id
        left join readings r on r.case_id = sighted.case_id and r.side = {side}
        left join users a on a.user_id = sighted.assignee_id and {side} = '{Side.GROUP}'
        where u.login = {cases.login}
        order by sighted.received_at desc, sighted.case_id desc
    """


class Listings(Transaction):
    """Reads the worklist."""

    async def list_cases(
        self,
        user: CompiledUser,
        after: Position | None,
        limit: int,
        facility_id: FacilityId | None,
        *,
        session: str = "",
    ) -> Answer[list[tuple[ListedCase, Sighting]]] | None:
        """The cases that the user sees, newest first; None if the user is gone."""
        cases = seen_by(user, self.now, session, facility_id)
        statement = page_of(cases, after, limit, facility_id)
        rows = await self.connection.fetch(statement, *cases.parameters)
        if not rows:
            return None
        return answer_of(rows[0], rows_of(rows))


def rows_of(rows: Sequence[asyncpg.Record]) -> list[tuple[ListedCase, Sighting]]:
    """What `listed` answers, row by row."""
    return [(_listed_case(row), found) for row in rows if (found := sighting_of(row))]


def _listed_case(row: asyncpg.Record) -> ListedCase:
    return ListedCase(
        case_id=row["case_id"],
        facility_id=row["facility_id"],
        facility_name=row["facility_name"],
        received_at=row["received_at"],
        study_instance_uid=row["study_instance_uid"],
        undistributed=row["undistributed"],
        summary=CaseSummary(
            attributes=StudyAttributes(**{name: row[name] for name in LISTED}),
            modalities_in_study=tuple(row["modalities_in_study"]),
            series_count=row["series_count"],
            instance_count=row["instance_count"],
            settled=row["settled"],
            modalities_left_out=row["modalities_left_out"],
            another_patient_held=row["another_patient_held"],
            written_differently=tuple(row["written_differently"]),
            calling_ae_title=row["calling_ae_title"],
            gateway_id=row["gateway_id"],
        ),
        reading=projection(row),
        images_since=row["images_since"],
        assignee_login=row["assignee_login"],
        priority=Priority(row["priority"]),
    )
