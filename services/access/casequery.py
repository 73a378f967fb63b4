# ruff: noqa: S608  statements are put together from constants, and from what the filter language compiles to
"""Cases as a user sees them: the SQL that says who sees what (A6), for every statement over cases.

    visible = (privilege and (filter or historical)) or grant or folder or active bucket

A statement over cases is written around a `CaseQuery`, and only this module makes one: whoever asks for cases
asks as a user, through their filter, and as the side that they are of.

What is said of a case here has three values. Only what is true opens it: a filter that knows nothing hides.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from kernel.ids import FacilityId
from kernel.reading import Side
from services.access.accessfilter import AccessFilter, Historical
from services.access.active import gives_sight
from services.access.domain import CompiledUser

_VISIBLE = "sighted.by_privilege or sighted.by_grant or sighted.by_folder or sighted.by_share is not null"
# Before these the parameters of a filter begin; whatever a statement asks itself comes after them.
_FIRST_OF_FILTER = 7


class CaseTexts(NamedTuple):
    """The relation `sighted`, and what is demanded of its rows."""

    sighted: str
    visible: str
    shown: str


class CaseQuery(ABC):
    """What a statement needs to ask for cases as one user sees them at one instant, in one session.

    Attributes:
        side: as which the user is shown a reading (A32); of the other side nothing is read for them.
        sighted: the relation `sighted`: each case that is not being moved, and by which paths the user sees
            it. `by_share` is null without a share, else whether they may write.
        visible: whether one of the paths opens it.
        shown: the same of a case that is not being deleted (A60).
        texts: these three.
        by_privilege: of a case `c`: whether the privilege path opens it.
        by_historical: of a case `c` that no privilege opens: whether another study of its patient does
            (ACC-30); empty where that opens nothing.
        asks_filter: whether a filter is asked in `by_privilege`.
        columns: the columns that the filter reads, where it is not asked here.
        gives_sight: of a bucket `b`: whether it gives the user sight.
        login, grantee, folders, facilities, now: placeholders of the parameters that these are made of.
    """

    login, facilities, grantee, folders, now = "$1", "$2", "$3", "$4", "$5"

    side: Side
    sighted: str
    visible: str
    shown: str
    texts: CaseTexts
    by_privilege: str
    by_historical: str
    asks_filter: bool
    columns: tuple[str, ...]
    gives_sight: str
    parameters: list[object]

    @abstractmethod
    def value(self, value: object) -> str:
        """The placeholder of another parameter."""

    @abstractmethod
    def sighted_among(self, some: str) -> str:
        """The relation `sighted` of some rows of `cases` only, which a statement in brackets selects."""


class _CaseQuery(CaseQuery):
    def __init__(
        self,
        user: CompiledUser,
        now: datetime,
        session: str,
        facilities: Collection[FacilityId],
        *,
        asks_filter: bool,
    ) -> None:
        self.side = user.reading_side
        self.parameters = [user.login, facilities, user.grantee, user.folders, now, session]
        self.by_privilege, self.by_historical = _BY_PRIVILEGE, ""
        self.columns = ()
        self.asks_filter = asks_filter and user.filter is not None
        if user.filter and asks_filter:
            self._ask(user.filter, now, user.facilities)
        elif user.filter:
            self.columns = user.filter.columns
        self.gives_sight = _GIVES_SIGHT
        self.texts = _texts(self.by_privilege, self.by_historical)
        self.sighted, self.visible, self.shown = self.texts

    def value(self, value: object) -> str:
        self.parameters.append(value)
        return f"${len(self.parameters)}"

    def sighted_among(self, some: str) -> str:
        return _texts(self.by_privilege, self.by_historical, some).sighted

    def _ask(self, access_filter: AccessFilter, now: datetime, everywhere: Collection[FacilityId]) -> None:
        of_case, values = access_filter.sql(now, "c", _FIRST_OF_FILTER)
        of_anchor, _ = access_filter.sql(now, "a", _FIRST_OF_FILTER)
        self.parameters += values
        privileged = self.by_privilege
        self.by_privilege = f"({privileged} and coalesce({of_case}, false))"
        if access_filter.historical is Historical.OFF:
            return
        # `offset 0` has each patient looked up: else the planner may read every anchor that there is.
        # An anchor may lie anywhere, whatever facility is asked about. Undated studies count as earlier, and
        # an undated anchor opens nothing else (A71).
        anchored = self.value(everywhere)
        is_earlier = {
            Historical.EARLIER: "and (c.study_day is null or c.study_day <= a.study_day)",
            Historical.ALL: "",
        }[access_filter.historical]
        self.by_historical = f"""({privileged} and not coalesce({of_case}, false) and exists (
            select from cases a
            where a.person_id = c.person_id and a.facility_id = any({anchored}::uuid[])
                and a.move_id is null and a.deletion_id is null and coalesce({of_anchor}, false) {is_earlier}
            offset 0
        ))"""


_GIVES_SIGHT = gives_sight(CaseQuery.now, "$6")
_BY_PRIVILEGE = f"c.facility_id = any({CaseQuery.facilities}::uuid[])"


@lru_cache(maxsize=1000)
def _texts(by_privilege: str, by_historical: str, relation: str = "cases") -> CaseTexts:
    """For whoever has no filter they are always the same."""
    historical = f", {by_historical} as by_historical" if by_historical else ""
    sighted = f"""(
        select c.*,
            {by_privilege} as by_privilege,
            exists (
                select from case_grants g
                where g.case_id = c.case_id and g.user_id = {CaseQuery.grantee}::uuid
            ) as by_grant,
            exists (
                select from folder_cases f
                where f.case_id = c.case_id and f.folder_id = any({CaseQuery.folders}::uuid[])
            ) as by_folder,
            (
                select bool_or(b.write_report) from bucket_cases h join buckets b using (bucket_id)
                where h.case_id = c.case_id and h.user_id = {CaseQuery.grantee}::uuid and {_GIVES_SIGHT}
            ) as by_share{historical}
        from {relation} c where c.move_id is null
    ) sighted"""
    visible = f"({_VISIBLE}{' or sighted.by_historical' if by_historical else ''})"
    return CaseTexts(sighted, visible, f"{visible} and sighted.deletion_id is null")


def seen_by(
    user: CompiledUser, now: datetime, session: str = "", facility_id: FacilityId | None = None
) -> CaseQuery:
    """Cases as the user sees them now; without a session no share that asks for codes counts.

    With a facility the privilege path is looked at there alone.
    """
    facilities = user.facilities
    if facility_id is not None:
        facilities = tuple(f for f in facilities if f == facility_id)
    return _CaseQuery(user, now, session, facilities, asks_filter=True)


def glimpsed_by(user: CompiledUser, now: datetime, session: str = "") -> CaseQuery:
    """The same before the filter is asked: whoever looks further reads its columns (`Found`)."""
    return _CaseQuery(user, now, session, user.facilities, asks_filter=False)
