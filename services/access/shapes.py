# ruff: noqa: S608  statements are put together from constants, and from what the filter language compiles to
"""The statement of a window of a worklist: each path of sight is a branch of its own, served by an index.

Of each case that a branch offers it says whether it passes: what opens that path, taken from the `CaseQuery`,
and what is searched for. Where a branch is cut off, the case says that too.
"""

from collections.abc import Callable
from datetime import date, timedelta
from typing import NamedTuple

from kernel.reading import Side
from services.access.casequery import CaseQuery
from services.access.search import Listing, Order
from services.access.walking import By, Window

HIDDEN = """array(
    select d.case_id from cases d where d.deletion_id is not null
    union all select m.case_id from cases m where m.move_id is not null
)"""
"""Cases that are shown to nobody: few at a time, and looked up once in a statement."""


class Key(NamedTuple):
    """What a list is ordered by: a column of a case, and its type."""

    column: str
    type: str


KEYS = {
    Order.RECEIVED: Key("received_at", "timestamptz"),
    Order.STUDY_DATE: Key("study_order", "timestamp"),
    Order.PATIENT_NAME: Key("patient_name_order", "text"),
    Order.PRIORITY: Key("priority", "smallint"),
}


def day_after(day: date | None) -> date | None:
    """The next day; None: without end."""
    return day + timedelta(days=1) if day and day < date.max else None


# As the partial indexes say it: only then are they used.
_ALL = "c.priority >= 0"
_UNREAD = {
    Side.GROUP: "(c.status_group <> 'READ' or c.locked_by <> '')",
    Side.FACILITY: "(c.status_facility <> 'READ' or c.locked_by <> '')",
}


def window_of(cases: CaseQuery, asked: Listing, window: Window, found: str, likely: str = "") -> str:
    """The statement that answers a window of these cases, with its frontier, as `Listings` reads it.

    Args:
        found: whether the search finds a case `c`; empty without one.
        likely: what is asked of a case `c` before it is asked whether a privilege opens it, because it is
            soon answered; empty: nothing.
    """
    return _Window(cases, asked, window, found, likely).statement()


class _Window:
    def __init__(self, cases: CaseQuery, asked: Listing, window: Window, found: str, likely: str) -> None:
        self._cases, self._asked, self._window, self._found = cases, asked, window, found
        self._likely = likely
        self._key, place = KEYS[asked.order], window.place
        self._descending = asked.descending != (place is not None and place.backward)
        self._way, self._beyond = ("desc", "<") if self._descending else ("asc", ">")
        self._in_order = f"order by place {self._way}, case_id {self._way}"
        self._place = ""
        if place is not None:
            key, case_id = cases.value(place.key), cases.value(place.case_id)
            self._place = f"({key}::text::{self._key.type}, {case_id}::uuid)"
        self._most = f"{cases.value(window.most)}::integer"
        self._hidden = f"<> all({HIDDEN})"

    def statement(self) -> str:
        cases, window = self._cases, self._window
        branches = [self._by_privilege(), *self._shown()]
        reached = ">=" if self._descending else "<="
        told = f"array_agg(case_id {self._in_order}), array_agg(place::text {self._in_order}), count(*)"
        limit = "" if window.wanted is None else f"{self._in_order} limit {cases.value(window.wanted)}"
        if window.wanted is None:
            told = "null::uuid[], null::text[], count(*)"
        return f"""
            with offered as materialized ({" union all ".join(branches)}),
            frontier as (
                select place, case_id from offered where is_end {self._in_order} limit 1
            ),
            seen (case_ids, places, count) as (
                select {told} from (
                    select distinct place, case_id from offered o
                    where passes and not exists (
                        select from frontier f where not (o.place, o.case_id) {reached} (f.place, f.case_id)
                    )
                    {limit}
                ) passed
            )
            select u.version as user_version, revision.value as revision, seen.*,
                (select count(*) from offered) as looked_at,
                frontier.place::text as end_place, frontier.case_id as end_case_id
            from users u cross join revision cross join seen left join frontier on true
            where u.login = {cases.login}
        """

    def _numbered(self, columns: str, table: str, condition: str, most: str) -> str:
        """The cases of a table of an alias `c` that come next, with their numbers, at most so many."""
        key = f"c.{self._key.column}"
        beyond = f"and ({key}, c.case_id) {self._beyond} {self._place}" if self._place else ""
        within = self._within()
        return f"""(
            select numbered.*, row_number() over ({self._in_order}) as number
            from (
                select {columns}, {key} as place from {table} c
                where {condition} {beyond} {within}
                order by {key} {self._way}, c.case_id {self._way} limit {most}
            ) numbered
        )"""

    def _within(self) -> str:
        """What the search demands of what the list is ordered by, as the bounds of an index."""
        value, demand = self._cases.value, self._window.demand
        if self._asked.order is Order.STUDY_DATE and demand.studied is not None:
            studied, after = demand.studied, day_after(demand.studied.last)
            first = f"and c.study_order >= {value(studied.first)}::date" if studied.first else ""
            return f"{first} and c.study_order < {value(after)}::date" if after else first
        if self._asked.order is not Order.RECEIVED:
            return ""
        received = demand.received
        first = f"and c.received_at >= {value(received.first)}::timestamptz" if received.first else ""
        last = f"and c.received_at <= {value(received.last)}::timestamptz" if received.last else ""
        return f"{first} {last}"

    # What a privilege shows

    def _by_privilege(self) -> str:
        way, cases = self._window.way, self._cases
        opened = (
            f"({cases.by_privilege} or {cases.by_historical})" if cases.by_historical else cases.by_privilege
        )
        asks = (self._likely, opened, f"c.case_id {self._hidden}", self._found)
        passes = " and ".join(each for each in asks if each)
        scan: Callable[[str, str], str] = lambda condition, most: self._numbered(  # noqa: E731
            "c.*", "cases", condition, most
        )
        if way is None:  # no row of it is looked at, and the parameters of what it asks have their types
            return self._offered(scan("false", self._most), self._most, passes)
        if way.by is By.IDS:
            numbered = scan(f"c.case_id = any({cases.value(list(way.keys))}::uuid[])", self._most)
            return self._offered(numbered, self._most, passes)
        if way.by is By.ALL:
            most = f"{cases.value(way.most[0])}::integer"
            return self._offered(scan(_ALL, most), most, passes)
        column = {By.FACILITY: "facility_id", By.ASSIGNEE: "assignee_id"}[way.by]
        unread = f"and {_UNREAD[cases.side]}" if way.unread and cases.side in _UNREAD else ""
        offered = self._offered(scan(f"c.{column} = each.key {unread}", "each.most"), "each.most", passes)
        keys, most = cases.value(list(way.keys)), cases.value(list(way.most))
        return f"""
            select offered.* from unnest({keys}::uuid[], {most}::integer[]) as each (key, most)
            cross join lateral ({offered}) offered
        """

    def _offered(self, numbered: str, most: str, passes: str) -> str:
        return f"""
            select c.case_id, c.place, coalesce({passes}, false) as passes, c.number = {most} as is_end
            from {numbered} c
        """

    # What is shown to somebody beside it

    def _shown(self) -> list[str]:
        cases = self._cases
        of_folder = self._of_those("folder_cases", "c.folder_id = theirs.folder_id")
        of_bucket = self._of_those("bucket_cases", "c.bucket_id = b.bucket_id")
        branches = [
            self._of_those("case_grants", f"c.user_id = {cases.grantee}::uuid"),
            f"""
                select offered.* from buckets b cross join lateral ({of_bucket}) offered
                where b.user_id = {cases.grantee}::uuid and {cases.gives_sight}
            """,
        ]
        return [
            f"""
                select offered.* from unnest({cases.folders}::uuid[]) as theirs (folder_id)
                cross join lateral ({of_folder}) offered
            """,
            *branches,
        ]

    def _of_those(self, table: str, condition: str) -> str:
        """Of cases that a table shows, whatever facility they are at."""
        among = self._window.among
        if among is not None:
            condition += f" and c.case_id = any({self._cases.value(list(among))}::uuid[])"
        numbered = self._numbered("c.case_id", table, condition, self._most)
        passes = f"c.case_id {self._hidden}"
        if self._asked.facility_id is None and not self._found:
            return self._offered(numbered, self._most, passes)
        if self._asked.facility_id is not None:
            passes += f" and c.facility_id = {self._cases.value(self._asked.facility_id)}::uuid"
        if self._found:
            passes += f" and {self._found}"
        return f"""
            select s.case_id, s.place, coalesce({passes}, false) as passes, s.number = {self._most} as is_end
            from {numbered} s join cases c on c.case_id = s.case_id
        """
