# ruff: noqa: S608  statements are put together from constants, and from what the filter language compiles to
"""The worklist: windows of the cases that a user sees, and its rows (`walking.py`, `shapes.py`)."""

from collections.abc import Collection, Sequence
from datetime import date, datetime
from uuid import UUID

import asyncpg

from kernel.ids import CaseId, FacilityId
from plumbing.db import Transaction
from services.access.accessfilter import Historical
from services.access.caseindex import ListedCase
from services.access.casequery import CaseQuery, seen_by
from services.access.caserows import listed, rows_of
from services.access.derived import DERIVED
from services.access.domain import Answer, CompiledUser, Sighting
from services.access.filter.demand import Demand, Range
from services.access.filter.prefilter import prefilter
from services.access.filter.sql import to_sql
from services.access.filter.tree import Expression
from services.access.search import Listing, Place, Search
from services.access.shapes import KEYS, day_after, window_of
from services.access.shown import ALL_COLUMNS, Columns
from services.access.sightings import answer_of
from services.access.walking import NOT_COUNTED, Seen, Shares, TooLong, Window

_SEARCH_MS = 150
"""For the index of texts to say that a search finds few cases; if it does not, the list is walked."""


def among(cases: CaseQuery, asked: Listing, case_ids: Collection[CaseId], found: str = "") -> str:
    """The statement that answers those of these cases that a list has, in its order.

    Args:
        found: whether the search finds a case `c`; empty without one.
    """
    key, way = KEYS[asked.order].column, "desc" if asked.descending else "asc"
    facility = cases.value(asked.facility_id)
    page = f"""
        select c.case_id, c.{key} as place
        from (
            select * from {cases.sighted}
            where sighted.case_id = any({cases.value(list(case_ids))}::uuid[]) and {cases.shown}
        ) c
        where ({facility}::uuid is null or c.facility_id = {facility}) {f"and {found}" if found else ""}
    """
    order = f"page.place {way}, sighted.case_id {way}"
    return listed(cases, page, order=order, place="page.place::text")


class Listings(Transaction):
    """Reads the worklist."""

    async def window(
        self, user: CompiledUser, asked: Listing, search: Search | None, window: Window, *, session: str
    ) -> Answer[Seen] | None:
        """What a window of the worklist shows the user; None if they are gone."""
        cases = seen_by(user, self.now, session, asked.facility_id)
        found = finds(cases, search, self.now) if search else ""
        likely = ""
        if user.filter is not None and user.filter.historical is Historical.OFF:
            likely = _likely(cases, user.filter.expression)
        statement = window_of(cases, asked, window, found, likely)
        try:
            row = await self.connection.fetchrow(statement, *cases.parameters)
        except asyncpg.QueryCanceledError as error:
            raise TooLong from error
        if row is None:
            return None
        backward = window.place is not None and window.place.backward
        pairs = zip(row["places"] or (), row["case_ids"] or (), strict=True)
        frontier = row["end_case_id"] and Place(row["end_place"], row["end_case_id"], backward)
        places = [Place(key, case_id, backward) for key, case_id in pairs]
        return answer_of(row, Seen(places, row["count"], row["looked_at"], frontier))

    async def told(
        self,
        user: CompiledUser,
        places: Sequence[Place],
        columns: Columns = ALL_COLUMNS,
        *,
        session: str = "",
    ) -> Answer[list[tuple[ListedCase, Sighting]]] | None:
        """These cases as the worklist shows them, those that the user sees; None if they are gone."""
        cases = seen_by(user, self.now, session)
        case_ids, keys = ([each.case_id for each in places], [each.key for each in places])
        page = f"""
            select * from unnest({cases.value(case_ids)}::uuid[], {cases.value(keys)}::text[])
            with ordinality as told (case_id, place, position)
        """
        statement = listed(cases, page, columns, order="page.position", place="page.place")
        rows = await self.connection.fetch(statement, *cases.parameters)
        return answer_of(rows[0], rows_of(rows)) if rows else None

    async def found_by_text(self, expression: Expression, demand: Demand, limit: int) -> list[CaseId] | None:
        """Cases that a filter may find, anybody's, as the index of texts says; None: it says nothing soon."""
        demanded = prefilter(expression, alias="c", first_parameter=1, derived=DERIVED)
        if demanded is None:
            return None
        studied, received = demand.studied or Range(), demand.received
        first = len(demanded.parameters) + 1
        statement = f"""
            select c.case_id from cases c
            where {demanded.text} and c.study_order >= coalesce(${first}::date, '-infinity')
                and c.study_order < coalesce(${first + 1}::date, 'infinity')
                and c.received_at >= coalesce(${first + 2}::timestamptz, '-infinity')
                and c.received_at <= coalesce(${first + 3}::timestamptz, 'infinity')
            limit {limit}
        """
        bounds = (studied.first, day_after(studied.last), received.first, received.last)
        await self.connection.execute(f"set statement_timeout = {_SEARCH_MS}")
        try:
            rows = await self.connection.fetch(statement, *demanded.parameters, *bounds)
        except asyncpg.QueryCanceledError:  # of common letters, such as the zeros of numbers
            return None
        finally:
            await self.connection.execute("reset statement_timeout")
        return [row["case_id"] for row in rows]

    async def assigned_to(self, users: Collection[UUID], limit: int) -> list[CaseId]:
        """Cases that these users are to read."""
        rows = await self.connection.fetch(
            "select case_id from cases where assignee_id = any($1) limit $2", list(users), limit
        )
        return [row["case_id"] for row in rows]

    async def studied(
        self, facilities: Collection[FacilityId], studied: Range[date], limit: int
    ) -> list[CaseId]:
        """Cases of these facilities whose studies were made within these days."""
        rows = await self.connection.fetch(
            """
            select c.case_id from unnest($1::uuid[]) as seen (facility_id)
            cross join lateral (
                select case_id from cases
                where cases.facility_id = seen.facility_id
                    and study_order >= coalesce($2::date, '-infinity')
                    and study_order < coalesce($3::date, 'infinity')
                limit $4
            ) c
            limit $4
            """,
            list(facilities),
            studied.first,
            day_after(studied.last),
            limit,
        )
        return [row["case_id"] for row in rows]

    async def with_persons(self, case_ids: Collection[CaseId], limit: int) -> list[CaseId]:
        """All cases of the patients of these."""
        rows = await self.connection.fetch(
            """
            select o.case_id
            from (select distinct person_id from cases where case_id = any($1) and person_id is not null) p
            join cases o using (person_id) limit $2
            """,
            list(case_ids),
            limit,
        )
        return [row["case_id"] for row in rows]

    async def shares(self) -> Shares:
        """Which share of all cases each facility has, as PostgreSQL last counted them."""
        row = await self.connection.fetchrow(
            """
            select s.most_common_vals::text::uuid[] as ids, s.most_common_freqs as freqs,
                case when s.n_distinct < 0 then -s.n_distinct * t.reltuples else s.n_distinct end as all_ids
            from pg_stats s join pg_class t on t.oid = 'cases'::regclass
            where s.schemaname = current_schema and s.tablename = 'cases' and s.attname = 'facility_id'
            """
        )
        if row is None:
            return NOT_COUNTED
        known = dict(zip(row["ids"] or (), row["freqs"] or (), strict=True))
        others = max(0.0, 1 - sum(known.values())) / max(1.0, row["all_ids"] - len(known))
        return Shares(known, others)


def finds(cases: CaseQuery, search: Search, now: datetime) -> str:
    """Whether a search finds a case `c`: it restricts whatever shows the case."""
    likely, parameters = _likely(cases, search.expression), cases.parameters
    condition = to_sql(search.expression, search.reader, now, alias="c", first_parameter=len(parameters) + 1)
    parameters.extend(condition.parameters)
    return f"({likely} and {condition.text})" if likely else f"({condition.text})"


def _likely(cases: CaseQuery, expression: Expression) -> str:
    """What is soon asked of the texts of a case `c`, and true of whatever a filter finds; empty: nothing."""
    parameters = cases.parameters
    demanded = prefilter(expression, alias="c", first_parameter=len(parameters) + 1, derived=DERIVED)
    if demanded is None:
        return ""
    parameters.extend(demanded.parameters)
    return demanded.text
