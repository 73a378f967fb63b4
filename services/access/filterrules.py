"""Who saves which filter for whom (ACC-16, A68, A72, A73).

Whoever holds `access.admin` everywhere saves any user's filter, their own too. A delegated manager saves
those of users whom they manage and all of whose privileges lie at their facilities; never their own; and
none while they have a filter themselves, for what it hides from them another might show. A first filter only
hides; any other may show more, so they save it only where they have what the user has (A13). A user whom
they create begins with theirs, and they give more only to who has the same. Whoever is of the facility side
saves and reads those of users of that side only.

A name that does not exist for who asks is answered as one that does not exist.
"""

from datetime import datetime

from kernel.errors import Conflict, Denied, Invalid, lacks
from kernel.reading import Side
from services.access.accessfilter import SavedFilter
from services.access.account import Account
from services.access.domain import ROLES, CompiledUser, Permission, Role, User
from services.access.manager import Manager


def fault_of(saved: SavedFilter, role: Role) -> str:
    """Why a filter is none for a user of the role; empty if it is one."""
    try:
        saved.parsed(is_of_group=is_of_group(role))
    except Invalid as fault:
        return fault.sentence
    return ""


def is_of_group(role: Role) -> bool:
    """Whether a filter of theirs asks the group's projection of a reading (A32, A59)."""
    return ROLES[role].side is Side.GROUP


def roles_known_to(asker: CompiledUser) -> frozenset[Role]:
    """The roles of the users whose filters somebody may know (A73)."""
    return frozenset(role for role in Role if asker.reading_side is Side.GROUP or not is_of_group(role))


def must_know_filter(asker: CompiledUser, user: User) -> None:
    """Raises Denied unless somebody may know the filter of a user whom they manage."""
    if user.role not in roles_known_to(asker):
        raise Denied(
            f"`{user.login}` belongs to the radiology group: only people of the group may see their filter"
        )


def must_save_filter(manager: Manager, account: Account, old: SavedFilter, now: datetime) -> None:
    """Raises Denied unless a manager may save the filter of a user whom they manage (A13, A72)."""
    user = account.user
    must_know_filter(manager.user, user)
    if manager.everywhere:
        return
    if user.id == manager.user.id:
        raise lacks(Permission.ADMINISTER_ACCESS, at="every facility", to="change your own filter")
    if manager.user.filter is not None:
        raise Denied(
            "you have a filter yourself: only somebody without a filter may change filters of others"
        )
    if not all(map(manager.administers, account.extents)):
        raise lacks(
            Permission.ADMINISTER_ACCESS,
            at="every facility",
            to="change the filter of a user with privileges at a facility that you do not administer",
        )
    if old.asks_something:
        manager.must_hold_levels(account, now)


def must_give_through(own: SavedFilter, theirs: SavedFilter, user: User) -> None:
    """Raises Denied unless a user has the filter of the delegated manager who gives them more (A13)."""
    if own.asks_something and own != theirs:
        raise Denied(
            f"you have a filter that `{user.login}` does not have: ask somebody who has no filter, "
            "or who has `access.admin` at every facility, to give them more"
        )


def must_suit_role(saved: SavedFilter, user: User, before: Role | None = None) -> None:
    """Raises Conflict if a filter is none for the role of a user, and was one for the role before (A72)."""
    if fault_of(saved, user.role) and not (before and fault_of(saved, before)):
        raise Conflict(
            f"the filter of `{user.login}` asks what a user of role `{user.role.word}` is not shown: "
            "change the filter first",
            field="role",
        )
