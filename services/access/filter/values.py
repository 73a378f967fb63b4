"""What a row of the case index holds of a field, for one reader."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import msgspec

from services.access.filter.fields import Field, Kind
from services.access.filter.forms import BLANKS, NAME_PADDING, Forms, name_groups
from services.access.filter.reader import Reader
from services.access.filter.texts import DOTLESS_I, Form

Row: TypeAlias = Sequence[Any]
"""The values of the columns that a filter reads, as asyncpg gives them."""

Get: TypeAlias = Callable[[Row, datetime], Any]
"""The value of a field at a time; None: absent. Of a set, a person name or an age it is a tuple."""

TEXT_FORMS = "text_forms"
"""The column of the forms of texts that are not of ASCII alone."""


class Columns(dict[str, int]):
    """The columns that a filter reads, and where in the row each stands."""

    def at(self, column: str) -> int:
        """Where it stands; from now on it is read."""
        return self.setdefault(column, len(self))


def value(field: Field, reader: Reader, columns: Columns) -> Get:
    """How the value of a field is found."""
    if field.kind is Kind.NAME or (field.kind is Kind.TEXT and field.is_set):
        members = texts(field, columns)
        return lambda row, now: tuple(members(row)) or None
    if field.reads:
        return (_locked_by if field.kind is Kind.LOGIN else _of_reading)(field, reader, columns)
    return _VALUES.get(field.kind, _column)(field, columns)


def texts(field: Field, columns: Columns, *, whole_names: bool = False) -> Callable[[Row], Iterable[str]]:
    """The texts of a field that say anything, of which any may satisfy a predicate, without padding.

    Of a person name those are its component groups, unless it is asked for as a whole.
    """
    at = [columns.at(column) for column in field.columns]
    if field.kind is not Kind.NAME:
        return lambda row: [text for each in _all(row, at) if (text := each.rstrip(BLANKS))]
    if whole_names:
        return lambda row: [name.rstrip(NAME_PADDING) for name in _all(row, at) if name_groups(name)]
    return lambda row: [group for name in _all(row, at) for group in name_groups(name)]


def _all(row: Row, at: Sequence[int]) -> Sequence[str]:
    """The values of columns, of which one alone may have several."""
    first = row[at[0]]
    return [row[each] for each in at] if isinstance(first, str) else first


OF_ASCII: Mapping[Form, Callable[[str], str]] = {
    Form.RAW: lambda text: text,
    Form.UPPER: str.upper,
    Form.LOWER: str.lower,
    Form.FOLDED: str.lower,
    Form.PLAIN: str.lower,
    Form.FOLDED_UPPER: str.lower,
}
"""The forms of a text of ASCII alone."""

_OF_STORED: Mapping[Form, Callable[[Forms], str]] = {
    Form.UPPER: lambda forms: forms.upper,
    Form.LOWER: lambda forms: forms.lower,
    Form.FOLDED: lambda forms: forms.folded,
    Form.PLAIN: lambda forms: forms.plain,
    Form.FOLDED_UPPER: lambda forms: forms.folded.replace(DOTLESS_I, "i"),
}


def formed(text: str, form: Form, text_forms: str | None) -> str | None:
    """A form of a text of a case; None if the index has not described the text yet."""
    if form is Form.RAW or text.isascii():
        return OF_ASCII[form](text)
    stored = msgspec.json.decode(text_forms, type=dict[str, Forms]) if text_forms else {}
    return _OF_STORED[form](stored[text]) if text in stored else None


def column(name: str, columns: Columns) -> Get:
    """The value of a column."""
    at = columns.at(name)
    return lambda row, now: row[at]


def _column(field: Field, columns: Columns) -> Get:
    return column(field.columns[0], columns)


def _text(field: Field, columns: Columns) -> Get:
    at = columns.at(field.columns[0])
    return lambda row, now: row[at].rstrip(BLANKS) or None


def _local(field: Field, columns: Columns) -> Get:
    """A date and a time; null unless both are known."""
    day, at = (columns.at(each) for each in field.columns)

    def get(row: Row, now: datetime) -> datetime | None:
        known = row[day] is not None and row[at] is not None
        return datetime.combine(row[day], row[at]) if known else None

    return get


def _age(field: Field, columns: Columns) -> Get:
    """Years, months, weeks, days; null if none is known."""
    at = [columns.at(each) for each in field.columns]

    def get(row: Row, now: datetime) -> tuple[int | None, ...] | None:
        ages = tuple(row[each] for each in at)
        return None if ages == (None, None, None, None) else ages

    return get


_VALUES: Mapping[Kind, Callable[[Field, Columns], Get]] = {
    Kind.TEXT: _text,
    Kind.LOCAL: _local,
    Kind.AGE: _age,
}


# What follows the reading


def _lives(reader: Reader, columns: Columns) -> Callable[[Row, datetime], bool]:
    """Whether the reader holds a live lock."""
    holder, until, login = columns.at("locked_by"), columns.at("locked_until"), reader.login

    def lives(row: Row, now: datetime) -> bool:
        return row[holder] == login and row[until] is not None and row[until] > now

    return lives


def _of_reading(field: Field, reader: Reader, columns: Columns) -> Get:
    """A status, or the reported types, on the side of who is shown the case; or as it was at the lock."""
    current = columns.at(field.columns[0].format(side=reader.side))
    if not reader.as_of_lock:
        return lambda row, now: row[current] or None
    at_lock, holds_lock = columns.at(field.columns[-1]), _lives(reader, columns)
    return lambda row, now: row[at_lock if holds_lock(row, now) else current] or None


def _locked_by(field: Field, reader: Reader, columns: Columns) -> Get:
    """The holder of a live lock; when it began, nobody held one."""
    holder, until = (columns.at(each) for each in field.columns)

    def get(row: Row, now: datetime) -> str | None:
        if row[until] is None or row[until] <= now or (reader.as_of_lock and row[holder] == reader.login):
            return None
        return row[holder] or None

    return get
