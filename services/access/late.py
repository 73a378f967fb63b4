"""Images that came after the report."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class LateImages:
    """What a case has beyond what it had when the last report was signed that a side counts.

    Attributes:
        count: how many instances, at least one.
        since: when access first knew of more, by its own clock; None if only the version before heard of
            them.
    """

    count: int
    since: datetime | None


def late_images(now: int, at_the_report: int | None, since: datetime | None) -> LateImages | None:
    """Return the late images of a case of so many instances; None if there are none, or nobody knows."""
    if at_the_report is None or now <= at_the_report:
        return None
    return LateImages(now - at_the_report, since)
