"""What whoever acts is told of themself: who they are, what they may do, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from kernel.database import Database
from kernel.reading import PrivilegeLevel
from services.access.administration import compiled
from services.access.domain import (
    ROLES,
    CompiledUser,
    Facility,
    Permission,
    User,
    no_user,
)

if TYPE_CHECKING:
    from services.access.store import AccessTransaction

MAX_NAMED_FACILITIES = 20
"""Of each permission, in one answer."""


@dataclass(frozen=True, slots=True)
class Held:
    """Where somebody holds a permission.

    Attributes:
        facilities: where they were given it singly, by name, the first of them.
        left_out: how many are beyond these.
    """

    permission: Permission
    everywhere: bool
    facilities: tuple[Facility, ...]
    left_out: int


@dataclass(frozen=True, slots=True)
class Me:
    """Who acts.

    Attributes:
        home: the facility that they belong to, if access knows it.
        highest_level: that they have at any facility now.
    """

    user: User
    compiled: CompiledUser
    home: Facility | None
    held: tuple[Held, ...]
    highest_level: PrivilegeLevel

    @property
    def may_see_cases(self) -> bool:
        return ROLES[self.user.role].ceiling is not PrivilegeLevel.NONE


class Myself:
    """What whoever acts asks of themself."""

    def __init__(self, database: Database[AccessTransaction]) -> None:
        self._database = database

    async def describe_me(self, login: str) -> Me:
        """Who they are, and what they may do."""
        async with self._database.transaction() as transaction:
            await transaction.in_one_snapshot()
            me = await compiled(transaction, login)
            user = await transaction.user(me.id)
            if user is None:
                raise no_user(me.id)
            home = user.home_facility_id
            return Me(
                user,
                me,
                await transaction.facility(home) if home else None,
                tuple([await _held(transaction, me, each) for each in Permission if me.holds_anywhere(each)]),
                max([PrivilegeLevel.NONE, *(me.level_at(each, transaction.now) for each in me.effective)]),
            )

    async def list_my_facilities(
        self, login: str, permission: Permission | None, after: tuple[str, UUID] | None, limit: int
    ) -> list[Facility]:
        """The facilities that they know, or those of them where they hold a permission, by name and id."""
        async with self._database.transaction() as transaction:
            me = await compiled(transaction, login)
            return await transaction.administered(me.known_facilities(permission), after, limit)


async def _held(transaction: AccessTransaction, me: CompiledUser, permission: Permission) -> Held:
    singly = me.holds_singly(permission)
    named = await transaction.administered(singly, None, MAX_NAMED_FACILITIES) if singly else []
    return Held(permission, me.holds(permission), tuple(named), len(singly) - len(named))
