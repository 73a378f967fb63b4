"""Whom a case may be assigned to, judged as if it were already (A38, BEY-19). Pure.

`Assign` writes an assignment and then asks what the assignee sees. A list cannot write one for each user, so
it asks their filter of the case as it would stand: with them as assignee, and the status that follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime

from kernel.reading import PrivilegeLevel
from services.access.accessfilter import AccessFilter, Historical
from services.access.domain import CompiledUser, Path, Sighting, decide
from services.access.filter.trace import holds
from services.access.filter.tree import And, predicates
from services.access.reading import Assignment, KeptReading

Values = Mapping[str, object]
"""Of one case, by column."""


@dataclass(frozen=True, slots=True)
class Assignable:
    """A user who may report at the facility of a case.

    Attributes:
        level_now: what they may do with it as it is; NONE: they do not see it.
        level: the same once it is assigned to them; below REPORT their filter hides it all the same.
        hidden_by: the keywords of the fields because of which it does, in the order of its text; none of a
            filter that asks nothing of a case or no longer parses.
    """

    user: CompiledUser
    is_assignee: bool
    level_now: PrivilegeLevel
    level: PrivilegeLevel
    hidden_by: Sequence[str] = ()


def as_if_assigned(values: Values, kept: KeptReading, user: CompiledUser, now: datetime) -> Values:
    """The values of a case as a filter would read them, were the case assigned to the user now."""
    followed = replace(kept, assignment=Assignment(user.login, now)).followed()
    return {
        **values,
        "assignee_id": user.id,
        **{field.name: getattr(followed, field.name) for field in fields(followed)},
    }


def needs_anchor(user: CompiledUser, sighting: Sighting | None, values: Values, now: datetime) -> bool:
    """Whether only another study of the patient will show the user a case that they see by privilege now.

    What their filter hides now was asked for anchors when it was looked at.
    """
    if user.filter is None or user.filter.historical is Historical.OFF or sighting is None:
        return False
    return sighting.paths == (Path.PRIVILEGE,) and not _shows(user.filter, values, now)


def judged(
    user: CompiledUser,
    sighting: Sighting | None,
    values: Values,
    now: datetime,
    *,
    is_assignee: bool,
    is_anchored: bool = False,
) -> Assignable:
    """What the user may do with a case of a facility where they may report.

    Args:
        sighting: the case as they see it now; None if they do not.
        values: of the columns that their filter reads, as they will be once it is assigned to them.
        is_anchored: what `needs_anchor` asks for.
    """
    level_now = _level(user, sighting, sighting.paths if sighting else (), now)
    if user.filter is None or _shows(user.filter, values, now):
        level = PrivilegeLevel.REPORT
        return Assignable(user, is_assignee, level_now, level)
    paths = tuple(path for path in sighting.paths if path is not Path.PRIVILEGE) if sighting else ()
    if not paths and is_anchored:
        paths = (Path.HISTORICAL,)
    level = _level(user, sighting, paths, now)
    return Assignable(user, is_assignee, level_now, level, tuple(_hiding(user.filter, values, now)))


def _shows(access_filter: AccessFilter, values: Values, now: datetime) -> bool:
    return access_filter.holds([values[column] for column in access_filter.columns], now) is True


def _level(
    user: CompiledUser, sighting: Sighting | None, paths: tuple[Path, ...], now: datetime
) -> PrivilegeLevel:
    if sighting is None or not paths:
        return PrivilegeLevel.NONE
    return decide(user, sighting.facility_id, paths, now, may_write=sighting.may_write).level


def _hiding(access_filter: AccessFilter, values: Values, now: datetime) -> Iterator[str]:
    """The fields of the clauses that are not true, each once; of a filter that is no `and`, of all of it."""
    whole, reader = access_filter.expression, access_filter.reader
    terms = whole.terms if isinstance(whole, And) else (whole,)
    hiding = (term for term in terms if holds(term, reader, values, now) is not True)
    return iter(dict.fromkeys(each.field.keyword for term in hiding for each in predicates(term)))
