"""Where somebody holds a permission, as access answers it."""

from dataclasses import dataclass

from kernel.ids import FacilityId


@dataclass(frozen=True, slots=True)
class Reach:
    """Everywhere, or single facilities."""

    everywhere: bool = False
    facilities: frozenset[FacilityId] = frozenset()

    def __bool__(self) -> bool:
        return self.everywhere or bool(self.facilities)

    def __contains__(self, facility_id: FacilityId) -> bool:
        return self.everywhere or facility_id in self.facilities

    def __or__(self, other: "Reach") -> "Reach":
        return Reach(self.everywhere or other.everywhere, self.facilities | other.facilities)
