"""Where somebody holds a permission."""

from uuid import uuid4

from kernel.ids import FacilityId
from kernel.reach import Reach

NORTH, SOUTH = FacilityId(uuid4()), FacilityId(uuid4())
EVERYWHERE, AT_NORTH = Reach(everywhere=True), Reach(facilities=frozenset({NORTH}))


def test_everywhere_is_at_each_facility_and_nowhere_at_none() -> None:
    assert NORTH in EVERYWHERE
    assert NORTH in AT_NORTH
    assert SOUTH not in AT_NORTH
    assert NORTH not in Reach()
    assert (True, True, False) == (bool(EVERYWHERE), bool(AT_NORTH), bool(Reach()))


def test_of_two_permissions_each_counts_where_it_is_held() -> None:
    both = AT_NORTH | Reach(facilities=frozenset({SOUTH}))

    assert NORTH in both
    assert SOUTH in both
    assert not both.everywhere
    assert (AT_NORTH | EVERYWHERE).everywhere
