"""What is printed: plain tables for people, JSON for machines, and nothing that a terminal would obey."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Generic, TypeVar

import click
from rich.cells import cell_len

from kernel.errors import Invalid
from readroom.fitting import aligned, fit
from readroom.shortids import ID, ShownIds

if TYPE_CHECKING:  # the list of commands needs nothing of the contracts
    from google.protobuf.timestamp_pb2 import Timestamp

YES, NO = "✓", "✗"

T = TypeVar("T")

Value = str | int | bool | datetime | None | list[str]


@dataclass(frozen=True)
class Column(Generic[T]):
    """One column of a table.

    Attributes:
        key: its key in JSON, which stays as it is; in capitals it heads the column.
        value: reads it from an item.
        json_only: too wide, or of too little use, for a table.
        heading: heads the column in the place of its key.
        written: makes of a text what people write, as of `VOS^EVA`; JSON has it as it came.
    """

    key: str
    value: Callable[[T], Value]
    json_only: bool = False
    heading: str = ""
    written: Callable[[str], str] | None = None


Table = Sequence[Column[T]]


@dataclass(frozen=True, slots=True)
class Output:
    """Where a command says what it has to say.

    Attributes:
        columns: the keys of the columns that somebody asked for; None: the usual ones.
        room: cells of a line of the terminal; None: of any length, as where the output is no terminal.
        ids: makes ids short, where there is a terminal.
    """

    as_json: bool = False
    columns: Sequence[str] | None = None
    room: int | None = None
    ids: ShownIds | None = None

    def items(self, table: Table[T], items: Iterable[T]) -> None:
        """Several things: a table, or an array of objects."""
        table = self._asked_for(table)
        if self.as_json:
            _print_json([as_object(table, item) for item in items])
        else:
            self._print_table(table, items)

    def item(self, table: Table[T], item: T) -> None:
        """One thing: a table of one row, or an object."""
        table = self._asked_for(table)
        if self.as_json:
            _print_json(as_object(table, item))
        else:
            self._print_table(table, [item])

    def _asked_for(self, table: Table[T]) -> Table[T]:
        if self.columns is None:
            return table
        by_key = {column.key: column for column in table}
        if unknown := [key for key in self.columns if key not in by_key]:
            raise Invalid(f"there is no column `{unknown[0]}`: the columns are {', '.join(by_key)}")
        return [replace(by_key[key], json_only=False) for key in self.columns]

    def _print_table(self, table: Table[T], items: Iterable[T]) -> None:
        columns = [column for column in table if not column.json_only]
        rows = [[_heading(column) for column in columns]]
        rows += [[_of_column(column, item) for column in columns] for item in items]
        if self.ids is not None and len(rows) > 1:
            short = self.ids.short(found for row in rows for cell in row for found in ID.findall(cell))
            rows = [[ID.sub(lambda found: short[found[0]], cell) for cell in row] for row in rows]
        left_out = 0
        if self.room is not None:
            rows, left_out = fit(rows, self.room)
        for each in aligned(rows):
            click.echo(each)
        if left_out:
            named = ", ".join(column.key for column in columns[-left_out:])
            click.echo(f"the terminal is too narrow for {named}: see them with --wide or --columns", err=True)

    def details(self, table: Table[T], item: T) -> None:
        """Everything of one thing: a line for each column that says something, or an object."""
        if self.as_json:
            _print_json(as_object(table, item))
            return
        told = [(_heading(column), _of_column(column, item)) for column in table]
        width = max(cell_len(heading) for heading, _ in told)
        for heading, cell in told:
            if cell:
                click.echo(f"{heading.ljust(width)}  {cell}")

    def done(self, sentence: str, **values: Value) -> None:
        """Something that leaves nothing to show: a sentence, or an object of `values`."""
        if self.as_json:
            _print_json(values)
        else:
            click.echo(harmless(sentence))

    def told(self, lines: Iterable[str], value: object) -> None:
        """What is no table: lines for people, or `value` for machines."""
        if self.as_json:
            _print_json(value)
        else:
            for line in lines:
                click.echo(harmless(line))

    def event(self, event: str, line: str, value: Mapping[str, Value]) -> None:
        """Something that happens while a command runs: a line for people, or an object on a line."""
        if self.as_json:
            click.echo(json.dumps({"event": event, **value}, default=datetime.isoformat))
        else:
            click.echo(f"{event}  {harmless(line)}")
        sys.stdout.flush()

    def warn(self, sentences: Iterable[str]) -> None:
        """What went well but for this: on the way of errors, so that the output stays what it is."""
        for sentence in sentences:
            click.echo(harmless(f"warning: {sentence}"), err=True)


def harmless(text: str) -> str:
    """`text` with everything escaped that a terminal might obey instead of show.

    Escape and other control characters, line breaks, marks that reverse the direction of writing: text of
    a DICOM object is whatever a sender put there.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def instant(timestamp: "Timestamp") -> datetime:
    """A timestamp of the wire, in UTC."""
    return timestamp.ToDatetime(UTC)


def clock(moment: datetime) -> str:
    """An instant as it is shown to people: in the time zone of the machine, or of TZ, which it names."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def person(name: str) -> str:
    """`VOS^Eva^M=…` as `VOS, Eva M`: the first group of components (DICOM PS3.5, 6.2.1)."""
    family, *given = name.partition("=")[0].split("^")
    rest = " ".join(part.strip() for part in given[:2] if part.strip())
    return f"{family.strip()}, {rest}" if rest and family.strip() else rest or family.strip()


def day(date: str) -> str:
    """`20261126` as `2026-11-26` (DICOM PS3.5, VR DA); what is no date stays as it is."""
    is_date = len(date) == 8 and date.isdecimal()
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if is_date else date


def as_object(table: Table[T], item: T) -> dict[str, Value]:
    """One thing by the keys of its columns."""
    return {column.key: column.value(item) for column in table}


def _print_json(value: object) -> None:
    # In ASCII, as `dumps` does by default: whatever a sender wrote leaves here as an escape.
    click.echo(json.dumps(value, indent=2, default=datetime.isoformat))


def line(table: Table[T], item: T) -> str:
    """One thing on a line without headings: what its columns say."""
    cells = (_of_column(column, item) for column in table if not column.json_only)
    return "  ".join(cell for cell in cells if cell)


def _of_column(column: Column[T], item: T) -> str:
    value = column.value(item)
    if column.written is not None and isinstance(value, str):
        return harmless(column.written(value))
    return _cell(value)


def _heading(column: Column[T]) -> str:
    return column.heading or column.key.upper().replace("_", " ")


def _cell(value: Value) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list():
            return harmless(", ".join(value))
        case datetime():
            return clock(value)
        case _:
            return harmless(str(value))
