"""The filter of a user: as an administrator saved it, and bound to them.

It narrows what their privileges show, and nothing else (ACC-15, A6). One that no longer parses hides
everything (A15).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from kernel.errors import Invalid
from services.access.filter import evaluate, sql
from services.access.filter.form import both, expression_of, filled
from services.access.filter.grammar import parse
from services.access.filter.names import Directory, bind, names
from services.access.filter.reader import Reader
from services.access.filter.tree import Constant, Expression

HIDES_EVERYTHING = Constant(False)


class Historical(StrEnum):
    """Which other studies of a patient are shown beside one that the filter shows (ACC-30, A71)."""

    OFF = "off"
    EARLIER = "earlier"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class AccessFilter:
    """A filter as it is asked for its user.

    Attributes:
        expression: bound to ids.
        columns: of a case, which `holds` takes in this order.
        holds: whether a case with these values passes at an instant; None is unknown, and hides.
        is_broken: whether what was saved no longer parses.
    """

    expression: Expression
    reader: Reader
    historical: Historical
    columns: tuple[str, ...]
    holds: Callable[[Sequence[object], datetime], bool | None]
    is_broken: bool = False

    @classmethod
    def of(
        cls, expression: Expression, reader: Reader, historical: Historical, *, is_broken: bool = False
    ) -> "AccessFilter":
        """Raises ValueError for an expression that is not bound."""
        compiled = evaluate.compile(expression, reader)
        return cls(expression, reader, historical, compiled.columns, compiled.holds, is_broken)

    def sql(self, now: datetime, alias: str, first_parameter: int) -> tuple[str, Sequence[object]]:
        """The same as a condition on the case of this alias, and the values of its parameters."""
        return sql.to_sql(self.expression, self.reader, now, alias=alias, first_parameter=first_parameter)


@dataclass(frozen=True, slots=True)
class SavedFilter:
    """A filter as it is stored, so that form and expression open again as they were (A14).

    Attributes:
        form: what is kept of the form.
        expression: with users and facilities by their ids; empty for none.
    """

    form: Mapping[str, object] = field(default_factory=dict)
    expression: str = ""
    historical: Historical = Historical.OFF

    @property
    def asks_something(self) -> bool:
        return bool(self.expression or self.form)

    def parsed(self, *, is_of_group: bool) -> Expression | None:
        """What it asks on a side, form and expression AND-ed; None if nothing.

        Raises Invalid (`FilterError`) for what does not parse, or may not be asked on this side (A59).
        """
        text = self.expression
        written = parse(text, is_of_group=is_of_group, stored=True) if text else None
        return both(expression_of(filled(self.form)), written)

    def user_ids(self, *, is_of_group: bool) -> frozenset[UUID]:
        """The users whom it names; none if it does not parse."""
        try:
            expression = self.parsed(is_of_group=is_of_group)
        except Invalid:
            return frozenset()
        return names(expression).user_ids if expression else frozenset()

    def bound(self, reader: Reader, logins: Mapping[UUID, str]) -> AccessFilter | None:
        """The filter as it is asked for its user; None if it asks nothing.

        Args:
            logins: of the users whom it names.
        """
        try:
            expression = self.parsed(is_of_group=reader.is_of_group)
            if expression is None:
                return None
            expression = bind(self.expression, expression, Directory(logins, {}))
            return AccessFilter.of(expression, reader, self.historical)
        except (Invalid, ValueError):
            return AccessFilter.of(HIDES_EVERYTHING, reader, Historical.OFF, is_broken=True)


NO_FILTER = SavedFilter()
