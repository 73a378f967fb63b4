# ruff: noqa: S608  statements are put together from constants, and from what the filter language compiles to
"""The worklist: a page of the cases that a user sees, in any order, and of those that a search finds."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from kernel.ids import CaseId
from plumbing.db import Transaction
from services.access.caseindex import ListedCase
from services.access.casequery import CaseQuery, seen_by
from services.access.caserows import listed, rows_of
from services.access.derived import DERIVED
from services.access.domain import Answer, CompiledUser, Sighting
from services.access.filter.prefilter import prefilter
from services.access.filter.sql import to_sql
from services.access.search import Listing, Order, Place, Search
from services.access.shown import ALL_COLUMNS, Columns
from services.access.sightings import answer_of

# Few at a time, and looked up once in a statement: a page is cut off before it looks at any case.
_HIDDEN = """array(
    select d.case_id from cases d where d.deletion_id is not null
    union all select m.case_id from cases m where m.move_id is not null
)"""

FEW = 2000
"""Cases that are looked at one by one; of more a page is found soon in the order of the list."""


class _Key(NamedTuple):
    """What a list is ordered by: a column of a case, and its type."""

    column: str
    type: str


_KEYS = {
    Order.RECEIVED: _Key("received_at", "timestamptz"),
    Order.STUDY_DATE: _Key("study_order", "timestamp"),
    Order.PATIENT_NAME: _Key("patient_name_order", "text"),
    Order.PRIORITY: _Key("priority", "smallint"),
}


def page_of(
    cases: CaseQuery,
    asked: Listing,
    place: Place | None,
    limit: int,
    found: str = "",
    few: Sequence[CaseId] | None = None,
    columns: Columns = ALL_COLUMNS,
) -> str:
    """The statement that answers a page of these cases.

    Each path is a branch of its own that an index serves in order, each cut off at the page; what they offer
    passes the same predicate as a check. A case in several folders or shares counts once before the cut. Of
    the reading the projection of one side is shown, on which nothing else depends (A59).

    Args:
        found: whether the search finds a case `c`; empty without one.
        few: the only cases that it may find, if they are few: then each is looked at, whatever shows it.
        columns: what is read of each.
    """
    key = _KEYS[asked.order]
    descending = asked.descending != (place is not None and place.backward)
    way, beyond = ("desc", "<") if descending else ("asc", ">")
    place_ = place and f"({cases.value(place.key)}::text::{key.type}, {cases.value(place.case_id)}::uuid)"
    limit_ = f"limit {cases.value(limit)}"
    facility = cases.value(asked.facility_id)
    in_order = f"order by place {way}, case_id {way} {limit_}"
    told = f"page.place {way}, sighted.case_id {way}"
    found_ = f"and {found}" if found else ""

    def lies_beyond(place: str, case_id: str) -> str:
        return f"and ({place}, {case_id}) {beyond} {place_}" if place_ else ""

    def at_a_facility(condition: str) -> str:
        return f"""
            select offered.case_id, offered.place
            from unnest({cases.facilities}::uuid[]) as seen (facility_id)
            cross join lateral (
                select c.case_id, c.{key.column} as place from cases c
                where c.facility_id = seen.facility_id {lies_beyond(f"c.{key.column}", "c.case_id")}
                    and c.case_id <> all({_HIDDEN}) {condition} {found_}
                order by c.{key.column} {way}, c.case_id {way} {limit_}
            ) offered
            {in_order}
        """

    def of_those(shown: str, alias: str, condition: str) -> str:
        """Of cases that a table shows, whatever facility they are at: those that the page may hold."""
        is_received = asked.order is Order.RECEIVED
        at = f"{alias}.received_at" if is_received else f"c.{key.column}"
        joined = "" if is_received and not found else f"join cases c on c.case_id = {alias}.case_id"
        return f"""
            select {alias}.case_id, {at} as place from {shown} {alias} {joined}
            where {condition} {lies_beyond(at, f"{alias}.case_id")}
                and {alias}.case_id <> all({_HIDDEN})
                and ({facility}::uuid is null or {facility} = (
                    select o.facility_id from cases o where o.case_id = {alias}.case_id
                ))
                {found_}
            order by {at} {way}, {alias}.case_id {way} {limit_}
        """

    if few is not None:
        page = f"""
            select c.case_id, c.{key.column} as place
            from (
                select * from {cases.sighted}
                where sighted.case_id = any({cases.value(few)}::uuid[]) and {cases.shown}
            ) c
            where ({facility}::uuid is null or c.facility_id = {facility})
                {lies_beyond(f"c.{key.column}", "c.case_id")} {found_}
            {in_order}
        """
        return listed(cases, page, columns, order=told, place="page.place::text")
    by_filter = f"and {cases.by_privilege}" if cases.asks_filter else ""
    by_historical = f"union ({at_a_facility(f'and {cases.by_historical}')})" if cases.by_historical else ""
    in_folder = of_those("folder_cases", "f", "f.folder_id = theirs.folder_id")
    in_bucket = of_those("bucket_cases", "h", "h.bucket_id = b.bucket_id")
    page = f"""
        ({at_a_facility(by_filter)})
        {by_historical}
        union ({of_those("case_grants", "g", f"g.user_id = {cases.grantee}::uuid")})
        union (
            select distinct offered.case_id, offered.place
            from unnest({cases.folders}::uuid[]) as theirs (folder_id)
            cross join lateral ({in_folder}) offered
            {in_order}
        ) union (
            select distinct offered.case_id, offered.place
            from buckets b
            cross join lateral ({in_bucket}) offered
            where b.user_id = {cases.grantee}::uuid and {cases.gives_sight}
            {in_order}
        )
        {in_order}
    """
    return listed(cases, page, columns, order=told, place="page.place::text")


class Listings(Transaction):
    """Reads the worklist."""

    async def list_cases(
        self,
        user: CompiledUser,
        asked: Listing,
        place: Place | None,
        limit: int,
        search: Search | None = None,
        columns: Columns = ALL_COLUMNS,
        *,
        session: str = "",
    ) -> Answer[list[tuple[ListedCase, Sighting]]] | None:
        """The cases that the user sees and the search finds, from a place on; None if the user is gone.

        Before a place they are told in the order of the list too, those next to it.
        """
        few = await self._few(search) if search else None
        cases = seen_by(user, self.now, session, asked.facility_id)
        found = finds(cases, search, self.now) if search else ""
        statement = page_of(cases, asked, place, limit, found, few, columns)
        rows = await self.connection.fetch(statement, *cases.parameters)
        if not rows:
            return None
        return answer_of(rows[0], rows_of(rows if not place or not place.backward else rows[::-1]))

    async def _few(self, search: Search) -> list[CaseId] | None:
        """All cases that a search may find, anybody's, if the index of texts says that they are few."""
        demanded = prefilter(search.expression, alias="c", first_parameter=1, derived=DERIVED)
        if demanded is None:
            return None
        statement = f"select c.case_id from cases c where {demanded.text} limit {FEW + 1}"
        rows = await self.connection.fetch(statement, *demanded.parameters)
        return [row["case_id"] for row in rows] if len(rows) <= FEW else None


def finds(cases: CaseQuery, search: Search, now: datetime) -> str:
    """Whether a search finds a case `c`: it restricts whatever shows the case."""
    parameters = cases.parameters
    condition = to_sql(search.expression, search.reader, now, alias="c", first_parameter=len(parameters) + 1)
    parameters.extend(condition.parameters)
    return f"({condition.text})"
