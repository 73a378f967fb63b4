"""What a user may do with a case that they see, by their rights.

    open     fetch its images                  images (A4)
    draft    lock it, save a draft             the level DRAFT
    report   complete a report                 the level REPORT, and a read type of theirs
    share    show it to others                 their privilege with `share.create`, or a share that allows it
    assign   say who reads it, and how soon    of the group, `case.assign`, sight that is not by shares alone;
                                               not if their own filter hides it
    delete   hide and purge it                 their privilege, with `study.delete` (A29)

Here stand the conditions that access asks when it serves an act, and `rights`, which asks them before.
Drafts and reports are served by reporting, from the same decision. A lock, a final report or missing images
hinder an act for a moment and are no rights: nothing here knows of them.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial

from kernel.errors import Denied, lacks
from kernel.ids import FacilityId
from kernel.reading import PrivilegeLevel, Side, completable
from services.access.domain import CompiledUser, Decision, Path, Permission, Sighting, decide


class CaseAct(StrEnum):
    """Something that somebody does with a case."""

    OPEN = "open"
    DRAFT = "draft"
    REPORT = "report"
    SHARE = "share"
    ASSIGN = "assign"
    DELETE = "delete"


def must_assign(actor: CompiledUser, facility_id: FacilityId, paths: Collection[Path]) -> None:
    """Raises Denied unless a user may say who reads a case that they see by these paths, and how soon.

    A filter may ask for assignee and priority: then who sets these chooses what it shows. So they set neither
    of a case that their own filter hides, and that a grant, a folder or an anchor shows them (ACC-15).
    """
    if actor.side is not Side.GROUP:
        raise Denied("only people of the radiology group may assign cases")
    if set(paths) == {Path.SHARE}:
        raise Denied("a share does not let you assign the case: you need a privilege at its facility")
    if not actor.holds(Permission.ASSIGN_CASE, facility_id):
        raise lacks(Permission.ASSIGN_CASE, at="the facility of the case")
    is_hidden = Path.PRIVILEGE not in paths and facility_id in actor.facilities
    if actor.filter is not None and is_hidden:
        raise Denied(
            "your filter hides the case, and you may not change what your own filter shows you: "
            "ask somebody whose filter shows it, or who has no filter"
        )


def must_delete(actor: CompiledUser, facility_id: FacilityId, paths: Collection[Path]) -> None:
    """Raises Denied unless a user may delete a case that they see by these paths (A29)."""
    if Path.PRIVILEGE not in paths:
        raise Denied("to delete a case you must see it by your privilege at its facility")
    if not actor.holds(Permission.DELETE_STUDY, facility_id):
        raise lacks(Permission.DELETE_STUDY, at="the facility of the case")


def must_create_share(sender: CompiledUser, facility_id: FacilityId, now: datetime, *, seen: bool) -> None:
    """Raises Denied unless a user may share cases of a facility by their privilege.

    Args:
        seen: whether their privilege shows them all of the cases.
    """
    if not sender.holds(Permission.CREATE_SHARE, facility_id):
        raise lacks(Permission.CREATE_SHARE, at="the facility of the cases")
    # Without what a share of the same case carries beside: that was shown to them, not to be shown on.
    own = decide(sender, facility_id, (Path.PRIVILEGE,), now)
    if not (seen and own.images and own.reports):
        raise Denied(
            "to share a case you must see its images and reports by your own privilege", field="case_ids"
        )


@dataclass(frozen=True, slots=True)
class Sight:
    """How a user sees a case: what else their rights depend on is the instant.

    Attributes:
        may_write: whether one of the shares gives write access to the report.
        may_share_on: whether one of them allows to share on.
    """

    facility_id: FacilityId
    paths: tuple[Path, ...]
    may_write: bool
    may_share_on: bool

    @classmethod
    def of(cls, sighting: Sighting) -> "Sight":
        """That of a case; cases seen alike have the same."""
        return cls(sighting.facility_id, sighting.paths, sighting.may_write, sighting.may_share_on)


@dataclass(frozen=True, slots=True)
class Rights:
    """What a user may do with a case: the level of it, and act by act."""

    level: PrivilegeLevel
    may: frozenset[CaseAct]


@dataclass(frozen=True, slots=True)
class _Asked:
    user: CompiledUser
    sight: Sight
    decision: Decision
    now: datetime


def _may_share(asked: _Asked) -> bool:
    """Whether they share by their privilege; who cannot begin so shares on what was shared with them."""
    user, sight = asked.user, asked.sight
    seen = Path.PRIVILEGE in sight.paths
    if not (seen and user.holds(Permission.CREATE_SHARE, sight.facility_id)):
        return sight.may_share_on
    return _allows(partial(must_create_share, user, sight.facility_id, asked.now, seen=seen))


def _may_report(asked: _Asked) -> bool:
    decision = asked.decision
    return bool(completable(decision.level, decision.read_types, decision.side))


def _allows(must: Callable[[], None]) -> bool:
    try:
        must()
    except Denied:
        return False
    return True


def _on_case(must: Callable[[CompiledUser, FacilityId, Collection[Path]], None]) -> Callable[[_Asked], bool]:
    return lambda asked: _allows(partial(must, asked.user, asked.sight.facility_id, asked.sight.paths))


_CONDITIONS: Mapping[CaseAct, Callable[[_Asked], bool]] = {
    CaseAct.OPEN: lambda asked: asked.decision.images,
    CaseAct.DRAFT: lambda asked: asked.decision.level >= PrivilegeLevel.DRAFT,
    CaseAct.REPORT: _may_report,
    CaseAct.SHARE: _may_share,
    CaseAct.ASSIGN: _on_case(must_assign),
    CaseAct.DELETE: _on_case(must_delete),
}
"""The table above."""


def rights(user: CompiledUser, sight: Sight, now: datetime) -> Rights:
    """What a user may do with a case that they see so."""
    decision = decide(user, sight.facility_id, sight.paths, now, may_write=sight.may_write)
    asked = _Asked(user, sight, decision, now)
    return Rights(decision.level, frozenset(act for act, holds in _CONDITIONS.items() if holds(asked)))
