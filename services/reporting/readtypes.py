"""Which read types are active where (A36, REP-2, REP-5, REP-6)."""

from collections.abc import Iterable, Mapping, Sequence

from kernel.errors import Conflict
from kernel.reading import PUBLIC_READ_TYPES, ReadType, Side
from services.reporting.sight import SIDES

Switches = Mapping[ReadType, bool]
"""What was switched at a facility; what was not is on for final, and off else (A36)."""


def active_read_types(switches: Switches, *, pre_read_enabled: bool) -> frozenset[ReadType]:
    """The read types active at a facility; pre-read only while it is enabled for the group (REP-5, REP-6)."""
    switched_on = {each for each in ReadType if switches.get(each, each is ReadType.FINAL)}
    return frozenset(switched_on if pre_read_enabled else switched_on & PUBLIC_READ_TYPES)


def switch(switches: Switches, read_type: ReadType, active: bool, *, pre_read_enabled: bool) -> Switches:
    """The switches of a facility with one of them set; raises Conflict if that may not be."""
    if read_type is ReadType.PRE_READ and active and not pre_read_enabled:
        raise Conflict(
            "pre-read is not switched on for the group: somebody with the permission `operator` must "
            "switch it on first",
            field="read_type",
        )
    changed = {**switches, read_type: active}
    # Without a public type the facility would never receive a report (REP-2, REP-10).
    if not active_read_types(changed, pre_read_enabled=False):
        raise Conflict(
            "a facility needs at least one of preliminary, final and other: switch another one on first",
            field="active",
        )
    return changed


def listed(read_types: Iterable[ReadType], side: Side) -> Sequence[ReadType]:
    """Read types in their order, pre-read for the group side only."""
    shown = SIDES.get(side, PUBLIC_READ_TYPES)
    return [each for each in ReadType if each in shown and each in read_types]
