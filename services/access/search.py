"""What a user asks of their worklist: which of the cases that they see, and in which order.

A search restricts every path of sight; a user's access filter restricts the privilege path alone (A6).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from kernel.ids import CaseId, FacilityId, UserId
from kernel.reading import Side
from services.access.domain import ROLES, CompiledUser, User
from services.access.filter.faults import FilterError
from services.access.filter.form import both
from services.access.filter.grammar import parse
from services.access.filter.names import Directory, bind, named, names
from services.access.filter.reader import Reader
from services.access.filter.searching import searched
from services.access.filter.tree import Expression, predicates
from services.access.filter.writing import write


class Order(StrEnum):
    """What a list is ordered by. What is absent is the smallest; cases that are equal go by their ids."""

    RECEIVED = "received"
    STUDY_DATE = "study date"  # and time, as it was at the place where the study was made
    PATIENT_NAME = "patient name"  # its plain form: without case and accents
    PRIORITY = "priority"


@dataclass(frozen=True, slots=True)
class Listing:
    """Which of the cases that a user sees, and in which order.

    Attributes:
        facility_id: only of this facility; None: of all.
        where: only what satisfies this filter; empty: all.
        line: only what these words of the search box find; empty: all.
    """

    order: Order = Order.RECEIVED
    descending: bool = True
    facility_id: FacilityId | None = None
    where: str = ""
    line: str = ""


NEWEST_FIRST = Listing()


@dataclass(frozen=True, slots=True)
class Related:
    """The other cases of the patient of a case, the latest study first."""

    case_id: CaseId


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a list: next to this case.

    Attributes:
        key: what the list is ordered by, as the database writes it. It may name a patient.
        backward: whether what comes before it is asked for, and not what comes after it.
    """

    key: str
    case_id: CaseId
    backward: bool = False

    def before(self) -> "Place":
        """The same, for what comes before it."""
        return replace(self, backward=True)


@dataclass(frozen=True, slots=True)
class Search:
    """What is searched for, bound, and for whom it is asked."""

    expression: Expression
    reader: Reader


class Transaction(Protocol):
    """What access's store does within one transaction; `store.py` says more."""

    @property
    def now(self) -> datetime: ...
    async def users_called(self, user_ids: Sequence[UserId], logins: Sequence[str]) -> Sequence[User]: ...
    async def facility_names(self) -> Mapping[UUID, str]: ...


async def search_of(transaction: Transaction, user: CompiledUser, asked: Listing) -> Search | None:
    """What a user searches for, None if nothing; raises Invalid, which names the field.

    They may name the facilities that they may know of. Whoever is of the group may name its users, everybody
    themself: who does not exist for them is answered like who does not exist.
    """
    if not asked.where.strip() and not asked.line.strip():
        return None
    reader = user.searches_as
    known = {
        each: name
        for each, name in (await transaction.facility_names()).items()
        if user.knows(FacilityId(each))
    }
    today = transaction.now.astimezone(reader.zone).date()
    typed = searched(asked.line, today, known)
    written = await _bound(transaction, user, asked.where, known) if asked.where.strip() else None
    expression = both(written, typed)
    return Search(expression, reader) if expression else None


def fields_of(search: Search | None) -> list[str]:
    """The keywords of the fields that a search asks for; of what it asks of them nothing."""
    asked = predicates(search.expression) if search else ()
    return sorted({each.field.keyword for each in asked})


async def _bound(
    transaction: Transaction, user: CompiledUser, text: str, facilities: Mapping[UUID, str]
) -> Expression:
    try:
        written = parse(text, is_of_group=user.side is Side.GROUP)
        called = await transaction.users_called([], sorted(names(written).logins))
        users: dict[UUID, str] = {each.id: each.login for each in called if _may_name(user, each)}
        return bind(text, written, Directory(users, facilities))
    except FilterError as fault:
        fault.field = "where"
        raise


def _may_name(user: CompiledUser, other: User) -> bool:
    both_of_group = user.side is Side.GROUP and ROLES[other.role].side is Side.GROUP
    return other.id == user.id or both_of_group


async def as_filter(transaction: Transaction, user: CompiledUser, line: str) -> str:
    """What a line of the search box asks for, in the filter language; empty if nothing. Raises Invalid."""
    found = await search_of(transaction, user, Listing(line=line))
    if found is None:
        return ""
    return write(named(found.expression, Directory({}, await transaction.facility_names())))
