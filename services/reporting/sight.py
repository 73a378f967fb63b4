"""What a user sees of a case and may do with it, as access says it: decisions about reading, pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from kernel.errors import Denied, NotFound
from kernel.ids import FacilityId, UserId
from kernel.reading import PUBLIC_READ_TYPES, PrivilegeLevel, ReadType, Side, completable

SIDES: Mapping[Side, frozenset[ReadType]] = {
    Side.GROUP: frozenset(ReadType),
    Side.FACILITY: PUBLIC_READ_TYPES,
}
"""The read types shown to each side; a facility gets to see what is public (REP-3, REP-4)."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who acts or signs: their login, and the name under what they sign."""

    login: str
    name: str


@dataclass(frozen=True, slots=True)
class LateImages:
    """How many images came after the report, and since when access knows of them; None if it does not."""

    count: int
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Sight:
    """What access decided on the acting user and a case.

    Attributes:
        read_types: what they may complete at the owning facility, as far as that is for access to say.
        own_level: what they may do without any share; NONE if they see the case by shares alone.
        own_read_types: what they may complete without any share.
        revision: of sight, on which it was decided.
        name: their display name; empty if access did not tell.
        instance_count: how many instances the case has; None if access did not tell.
        late: which of them came after the report that their side sees; None if none did.
        user_id: who they are; None if access did not tell.
        transcribes: whether they are a transcriptionist: what they draft, somebody else has dictated.
        only_drafts: whether nobody of their role completes a report.
    """

    allowed: bool = False
    level: PrivilegeLevel = PrivilegeLevel.NONE
    reports: bool = False
    side: Side = Side.NONE
    read_types: frozenset[ReadType] = frozenset()
    own_level: PrivilegeLevel = PrivilegeLevel.NONE
    own_read_types: frozenset[ReadType] = frozenset()
    facility_id: FacilityId | None = None
    being_deleted: bool = False
    revision: str = ""
    name: str = ""
    instance_count: int | None = None
    late: LateImages | None = None
    user_id: UserId | None = None
    transcribes: bool = False
    only_drafts: bool = False

    @property
    def shown(self) -> frozenset[ReadType]:
        """The types of which they read reports: a pre-read on the group side only (REP-4)."""
        return SIDES.get(self.side, PUBLIC_READ_TYPES) if self.allowed and self.reports else frozenset()

    @property
    def shows_drafts(self) -> bool:
        """Whether they see the drafts of others: on the group side with a level of DRAFT (A5)."""
        return self.allowed and self.side is Side.GROUP and self.level >= PrivilegeLevel.DRAFT

    def completes(self, read_type: ReadType, active: frozenset[ReadType]) -> bool:
        """Whether they may complete a report of the type: it is theirs, and active at the facility (A36)."""
        return read_type in completable(self.level, self.read_types, self.side) & active

    def need(self, level: PrivilegeLevel) -> None:
        if self.level < level:
            raise Denied(
                f"you need the level `{level.name.lower()}` at the facility of the case; an administrator "
                "of that facility can give it"
            )

    def need_completing(
        self, read_type: ReadType, active: frozenset[ReadType], *, of_their_own: bool = False
    ) -> None:
        """Raises Denied unless they complete the type; a share counts for what is of their own (A45)."""
        if self.may_complete(read_type, active, of_their_own=of_their_own):
            return
        if self.completes(read_type, active):
            raise Denied(
                "a share lets you draft and complete a report of your own: to reopen a case, or to add to a "
                "report of somebody else, you need a privilege at its facility"
            )
        self.need(PrivilegeLevel.REPORT)
        raise Denied(
            f"you may not complete a report of type `{read_type.replace('_', '-')}`: it is not among your "
            "read types at the "
            "facility of the case, or not switched on there"
        )

    def may_complete(
        self, read_type: ReadType, active: frozenset[ReadType], *, of_their_own: bool = False
    ) -> bool:
        """Whether they complete the type; a share counts for what is of their own (A45)."""
        without_shares = replace(self, level=self.own_level, read_types=self.own_read_types)
        return (self if of_their_own else without_shares).completes(read_type, active)

    def need_breaking(self) -> None:
        """Raises Denied for who sees the case by shares alone: they break nobody's lock."""
        if self.own_level < PrivilegeLevel.VIEW:
            raise Denied(
                "a share does not let you break a lock: you need a privilege at the facility of the case"
            )


NO_SIGHT = Sight()


@dataclass(frozen=True, slots=True)
class Permit:
    """Whether the acting user holds a permission, and their side."""

    allowed: bool
    side: Side


def no_case() -> NotFound:
    """The answer for a case that does not exist or that the caller does not see."""
    return NotFound("there is no such case, or you do not see it", field="case_id")
