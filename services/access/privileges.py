"""What may be stored of a privilege, and what a side is shown of it: pre-reads are the group's (REP-4)."""

from dataclasses import replace
from datetime import date

from kernel.errors import Invalid
from kernel.reading import PrivilegeLevel, ReadType, Side
from services.access.domain import ROLES, Privilege, Role

# Any date in the past expires at once; much earlier ones have no instant in every time zone.
_FIRST_EXPIRY = date(1970, 1, 1)


def checked_privilege(
    level: PrivilegeLevel, expires_on: date | None, read_types: frozenset[ReadType], version: int = 0
) -> Privilege:
    """The privilege as it is stored, made from this version; REPORT without read types means FINAL (A36)."""
    if level is not PrivilegeLevel.REPORT and expires_on is not None:
        raise Invalid("only a privilege of level report may expire: leave the date out", field="expires_on")
    if expires_on is not None and expires_on < _FIRST_EXPIRY:
        raise Invalid(f"`expires_on` is before {_FIRST_EXPIRY}", field="expires_on")
    if level is not PrivilegeLevel.REPORT and read_types:
        raise Invalid("only a privilege of level report has read types: leave them out", field="read_types")
    if level is PrivilegeLevel.REPORT and not read_types:
        read_types = frozenset({ReadType.FINAL})
    return Privilege(level, expires_on, read_types, version)


def must_suit(privilege: Privilege, role: Role) -> None:
    """Raises Invalid for a privilege that no user of the role may have (REP-4, REP-7)."""
    if ReadType.PRE_READ in privilege.read_types and ROLES[role].side is not Side.GROUP:
        raise Invalid(
            f"a user of role `{role.word}` completes no pre-reads: leave pre-read out",
            field="read_types",
        )


def shown_privilege(privilege: Privilege, side: Side) -> Privilege:
    """What a privilege amounts to for a side: pre-reads are the group's own (REP-4).

    For the facility side a level of REPORT for pre-reads alone is DRAFT, which never expires: nobody there
    obtains a report of it.
    """
    if side is Side.GROUP or ReadType.PRE_READ not in privilege.read_types:
        return privilege
    if read_types := privilege.read_types - {ReadType.PRE_READ}:
        return replace(privilege, read_types=read_types)
    return replace(privilege, level=PrivilegeLevel.DRAFT, expires_on=None, read_types=frozenset())


def with_what_is_hidden(privilege: Privilege, stored: Privilege, side: Side) -> Privilege:
    """What a side wants to be stored, with the pre-reads that it was not shown.

    Else a save of what the facility side was shown would take pre-reads away, and its version would tell of
    them.
    """
    if side is Side.GROUP or ReadType.PRE_READ not in stored.read_types:
        return privilege
    if privilege == shown_privilege(stored, side):
        return replace(stored, version=privilege.version)
    if privilege.level is PrivilegeLevel.REPORT:
        return replace(privilege, read_types=privilege.read_types | {ReadType.PRE_READ})
    return privilege
