# ruff: noqa: S608  texts are put together from constants of this file and columns of `fields.py`
"""A filter as SQL over the case index: parameterised always, its text a function of the filter's shape alone.

Logic is three-valued. The same filter as nested functions is in `evaluate.py`; both must agree on every
filter and every case. No collation of a database decides anything: texts are compared under COLLATE "C", by
code point, and the forms of texts that are not of ASCII alone are stored.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from services.access.filter.bounds import AGE_COLUMN, chosen, comparables, require_bound, since
from services.access.filter.fields import DESCRIBED, Field, Function, Kind, Operator
from services.access.filter.reader import Reader
from services.access.filter.texts import (
    DOTLESS_I,
    Form,
    asks_whole_name,
    form_of,
    literal_texts,
    pattern,
)
from services.access.filter.tree import (
    Age,
    And,
    Constant,
    Expression,
    Not,
    Or,
    Pattern,
    Predicate,
    Wildcard,
)


class Condition(NamedTuple):
    """A condition of a statement.

    Attributes:
        text: SQL of type boolean; null for unknown.
        parameters: what its `$n` stand for.
    """

    text: str
    parameters: tuple[Any, ...]


def to_sql(
    expression: Expression, reader: Reader, now: datetime, *, alias: str, first_parameter: int
) -> Condition:
    """What a row of `cases` must satisfy, for one reader at a time; raises ValueError unless it is bound.

    Args:
        alias: what the statement calls the row.
        first_parameter: the number of its first parameter in the statement.
    """
    statement = _Statement(reader, now, alias, first_parameter)
    return Condition(statement.expression(expression), tuple(statement.parameters))


_TYPES: Mapping[Kind, str] = {
    Kind.NUMBER: "integer",
    Kind.DATE: "date",
    Kind.TIME: "time",
    Kind.LOCAL: "timestamp",
    Kind.INSTANT: "timestamptz",
    Kind.FACILITY: "uuid",
}

_OF_ASCII: Mapping[Form, str] = {
    Form.UPPER: "upper",
    Form.LOWER: "lower",
    Form.FOLDED: "lower",
    Form.PLAIN: "lower",
    Form.FOLDED_UPPER: "lower",
}

# Where among the stored forms of a text.
_STORED_AT: Mapping[Form, int] = {
    Form.UPPER: 0,
    Form.LOWER: 1,
    Form.FOLDED: 2,
    Form.PLAIN: 3,
    Form.FOLDED_UPPER: 2,
}

_COMPARISONS: Mapping[Operator, str] = {
    Operator.EQ: "{value} = {}",
    Operator.LT: "{value} < {}",
    Operator.LE: "{value} <= {}",
    Operator.GT: "{value} > {}",
    Operator.GE: "{value} >= {}",
    Operator.BETWEEN: "{value} between {} and {}",
    Operator.IN: "{value} = any({})",
    Operator.LIKE: "{value} like {}",
    Operator.CONTAINS: "strpos({value}, {}) > 0",
    Operator.STARTSWITH: "starts_with({value}, {})",
}


class _Statement:
    """The parameters of a statement, and the conditions that use them."""

    def __init__(self, reader: Reader, now: datetime, alias: str, first_parameter: int) -> None:
        self.parameters: list[Any] = []
        self._reader = reader
        self._now = now
        self._alias = alias
        self._first = first_parameter

    def expression(self, expression: Expression) -> str:
        match expression:
            case Predicate():
                text = self._predicate(expression)
                return f"not ({text})" if expression.negated else text
            case Constant(value):
                return "true" if value else "false"
            case Not(term):
                return f"not ({self.expression(term)})"
            case And(terms):
                return joined(" and ", map(self.expression, terms))
            case Or(terms):
                return joined(" or ", map(self.expression, terms))

    def _predicate(self, asked: Predicate) -> str:
        require_bound(asked)
        if asked.field.of_group and not self._reader.is_of_group:
            return "null::boolean"
        if asked.operator is Operator.IS_NULL:
            return self._is_null(asked.field)
        if asked.function is Function.AGE:
            return self._time_since(asked)
        return _PREDICATES[asked.field.kind](self, asked)

    def _parameter(self, value: Any, type_of_value: str) -> str:
        self.parameters.append(value)
        return f"${self._first + len(self.parameters) - 1}::{type_of_value}"

    def _column(self, name: str) -> str:
        return f"{self._alias}.{name}"

    def _compared(self, how: Operator, value: str, literals: list[Any], type_of_value: str) -> str:
        if how is Operator.IN:
            literals, type_of_value = [literals], f"{type_of_value}[]"
        written = [self._parameter(each, type_of_value) for each in literals]
        return _COMPARISONS[how].format(*written, value=value)

    # Texts

    def text(self, asked: Predicate) -> str:
        """Of a text; of a name or of a set whether any of its texts does."""
        field = asked.field
        literals: list[Any] = (
            [like_pattern(pattern(asked))] if asked.operator is Operator.LIKE else list(literal_texts(asked))
        )
        holds = self._compared(asked.operator, "{text}", literals, "text")
        any_of_all = _ANY_OF.format(
            holds=holds.format(text=self._formed("v", form_of(asked))),
            members=self._members(field, whole_names=asks_whole_name(asked)),
        )
        if field.is_set or asks_whole_name(asked):
            return any_of_all
        (name,) = field.columns
        one = holds.format(text=self._formed(_stripped(self._column(name), field), form_of(asked)))
        if field.kind is not Kind.NAME:
            return one
        return f"case when strpos({self._column(name)}, '=') = 0 then {one} else {any_of_all} end"

    def _members(self, field: Field, *, whole_names: bool) -> str:
        """A table of the texts `v` that say anything."""
        columns = [self._column(each) for each in field.columns]
        is_array = field.is_set and len(columns) == 1
        if field.kind is not Kind.NAME:
            return f"select {_stripped('m', field)} as v from unnest({columns[0]}) as m"
        if whole_names:
            names = columns[0] if is_array else f"array[{', '.join(columns)}]"
            says = "case when rtrim(m, ' ^=') <> '' then rtrim(m, ' ^') end"
            return f"select {says} as v from unnest({names}) as m"
        joined = f"array_to_string({columns[0]}, '=')" if is_array else " || '=' || ".join(columns)
        return f"select {_stripped('m', field)} as v from unnest(string_to_array({joined}, '=')) as m"

    def _formed(self, text: str, form: Form) -> str:
        if form is Form.RAW:
            return f'{text} collate "C"'
        stored = f"{self._column('text_forms')} -> {text} ->> {_STORED_AT[form]}"
        if form is Form.FOLDED_UPPER:
            stored = f"replace({stored}, '{DOTLESS_I}', 'i')"
        of_ascii = f'{_OF_ASCII[form]}({text} collate "C")'
        return (
            f'(case when octet_length({text}) = length({text}) then {of_ascii} else {stored} end) collate "C"'
        )

    # Other values

    def _value(self, field: Field) -> str:
        """The value of a field; null if absent."""
        columns = [self._column(each.format(side=self._reader.side)) for each in field.columns]
        if field.kind is Kind.TEXT:
            return _stripped(columns[0], field)
        if field.kind is Kind.LOCAL:
            return f"({' + '.join(columns)})"
        if field.kind is Kind.LOGIN and field.reads:
            return self._locked_by(*columns)
        if not field.reads:
            return columns[0]
        current, *_, at_lock = (f"nullif({each}, '{{}}')" if field.is_set else each for each in columns)
        if not self._reader.as_of_lock:
            return current
        return f"case when {self._holds_lock()} then {at_lock} else {current} end"

    def _lives(self) -> str:
        return f"{self._column('locked_until')} > {self._parameter(self._now, 'timestamptz')}"

    def _holds_lock(self) -> str:
        login = self._parameter(self._reader.login, "text")
        return f"{self._column('locked_by')} = {login} and {self._lives()}"

    def _locked_by(self, holder: str, until: str) -> str:
        """The holder of a live lock; when the reader's own began, nobody held one."""
        lives = self._lives()
        if self._reader.as_of_lock:
            lives = f"{lives} and {holder} <> {self._parameter(self._reader.login, 'text')}"
        return f"case when {lives} then nullif({holder}, '') end"

    def _is_null(self, field: Field) -> str:
        absent = self._is_absent(field)
        if not field.is_described:
            return absent
        return f"({absent} and nullif({self._column(DESCRIBED)} > 0, false))"

    def _is_absent(self, field: Field) -> str:
        if field.kind is Kind.AGE:
            return f"coalesce({', '.join(map(self._column, field.columns))}) is null"
        if field.kind is Kind.NAME or (field.kind is Kind.TEXT and field.is_set):
            return f"not exists (select from ({self._members(field, whole_names=False)}) told where v <> '')"
        return f"({self._value(field)}) is null"

    def ordered(self, asked: Predicate) -> str:
        """Of a number or a time."""
        literals = comparables(asked, self._reader)
        return self._compared(asked.operator, self._value(asked.field), literals, _TYPES[asked.field.kind])

    def age(self, asked: Predicate) -> str:
        """Of an age: the unit of each literal picks the number that it is compared to (A8)."""
        literals = [each for each in asked.literals if isinstance(each, Age)]
        if asked.operator is Operator.IN:
            units = dict.fromkeys(each.unit for each in literals)
            counts = {unit: [each.count for each in literals if each.unit is unit] for unit in units}
            return joined(
                " or ",
                (
                    self._compared(Operator.IN, self._column(AGE_COLUMN[unit]), counts[unit], "integer")
                    for unit in units
                ),
            )
        hows = (Operator.GE, Operator.LE) if asked.operator is Operator.BETWEEN else (asked.operator,)
        return joined(
            " and ",
            (
                self._compared(how, self._column(AGE_COLUMN[each.unit]), [each.count], "integer")
                for how, each in zip(hows, literals, strict=True)
            ),
        )

    def _time_since(self, asked: Predicate) -> str:
        bounds, kind = since(asked, self._now, self._reader.zone), asked.field.kind
        value = self._value(asked.field)
        return joined(" and ", (self._compared(how, value, [bound], _TYPES[kind]) for how, bound in bounds))

    def chosen(self, asked: Predicate) -> str:
        """Of a choice, a login or a facility; of a set whether any of its members is asked for."""
        wanted, value = chosen(asked, self._reader), f"({self._value(asked.field)})"
        types = {int: "smallint[]", str: "text[]"}
        parameter = self._parameter(wanted, types.get(type(wanted[0]), "uuid[]"))
        return f"{value} && {parameter}" if asked.field.is_set else f"{value} = any({parameter})"


_PREDICATES: Mapping[Kind, Callable[[_Statement, Predicate], str]] = {
    Kind.TEXT: _Statement.text,
    Kind.NAME: _Statement.text,
    Kind.NUMBER: _Statement.ordered,
    Kind.AGE: _Statement.age,
    Kind.DATE: _Statement.ordered,
    Kind.TIME: _Statement.ordered,
    Kind.LOCAL: _Statement.ordered,
    Kind.INSTANT: _Statement.ordered,
    Kind.ENUM: _Statement.chosen,
    Kind.LOGIN: _Statement.chosen,
    Kind.FACILITY: _Statement.chosen,
}

# Of no members nothing is known, and of a member whose form is not known nothing either.
_ANY_OF = """(
    select case when bool_or(holds) then true when bool_and(holds is not null) then false end
    from (select {holds} as holds from ({members}) named where v <> '') told
)"""


def joined(connective: str, conditions: Iterable[str]) -> str:
    """Conditions as one."""
    return f"({connective.join(conditions)})"


def _stripped(text: str, field: Field) -> str:
    """A text without padding, null if nothing is left. A stored text holds no NUL."""
    padding = " ^" if field.kind is Kind.NAME else " "
    return f"nullif(rtrim({text}, '{padding}'), '')"


def like_pattern(asked: Pattern) -> str:
    return "".join(part.value if isinstance(part, Wildcard) else escaped(part) for part in asked.parts)


def escaped(text: str) -> str:
    """A text as a part of a pattern of `like`."""
    return text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
