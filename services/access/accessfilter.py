"""The filter of a user, bound to them: it narrows what their privileges show (ACC-15, A6)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Historical(StrEnum):
    """Which other studies of a patient are shown beside one that the filter shows (ACC-30, A71)."""

    OFF = "off"
    EARLIER = "earlier"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class AccessFilter:
    """A filter as it is asked for its user.

    Attributes:
        columns: of a case, which `holds` takes in this order.
        holds: whether a case with these values passes at an instant; None is unknown, and hides.
        sql: the same at an instant as a condition on the case of an alias, and the values of its parameters,
            of which the first has this number.
    """

    historical: Historical
    columns: tuple[str, ...]
    holds: Callable[[Sequence[object], datetime], bool | None]
    sql: Callable[[datetime, str, int], tuple[str, Sequence[object]]]
