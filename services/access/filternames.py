"""Whom and what a filter may name: the users and facilities that exist for who writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from kernel.ids import FacilityId, UserId
from services.access.filter.names import Directory, Names
from services.access.manager import Manager

if TYPE_CHECKING:
    from services.access.store import AccessTransaction


_MAX_SUGGESTED = 500
"""Logins among which the nearest to an unknown one is looked for."""


async def directory_of(transaction: AccessTransaction, manager: Manager, asked: Names) -> Directory:
    """Those whom the manager may know of: the users whom they manage and themself, the facilities they know.

    Of what does not exist and what they may not know of, the directory holds as little.
    """
    called = await transaction.users_called(list(map(UserId, asked.user_ids)), sorted(asked.logins))
    users: dict[UUID, str] = {
        user.id: user.login
        for user in called
        if user.id == manager.user.id or manager.administers(user.home_facility_id)
    }
    if not asked.logins <= set(users.values()):
        users |= {user.id: user.login for user in await transaction.users(manager.homes, "", _MAX_SUGGESTED)}
    facilities = await transaction.facility_names()
    known = {each: name for each, name in facilities.items() if _knows(manager, FacilityId(each))}
    return Directory(users, known)


def _knows(manager: Manager, facility_id: FacilityId) -> bool:
    return manager.everywhere or manager.user.knows(facility_id)
