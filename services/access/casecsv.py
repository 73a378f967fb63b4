"""A list of cases as CSV (RFC 4180): a line for each case, and no cell that is taken for a formula.

Whoever sends images writes their texts. A spreadsheet takes a cell for a formula that begins with one of
`=+-@`, also in their full width, and obeys it. Before such a cell stands an apostrophe: spreadsheets take it
for *this is text*. Control characters and line breaks become blanks. All cells are quoted.
"""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

from kernel.reading import PrivilegeLevel
from services.access.received import LISTED
from services.access.shown import Column, ShownCase

BYTE_ORDER_MARK = "\ufeff"
"""Without it spreadsheets take a file for one in the code page of the machine."""

CsvColumn = Column | Literal["case_id"]

_BEGINS_A_FORMULA = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")
_NO_TEXT = frozenset({"Cc", "Zl", "Zp"})
_NOT_SEEN = frozenset({"Zs", "Cf"})
"""Categories of Unicode: control characters and line breaks; blanks, and what has no width."""


def csv_columns(names: Sequence[str]) -> list[CsvColumn]:
    """The columns of these names, which are known, in their order; all of them without one."""
    known: dict[str, CsvColumn] = {"case_id": "case_id", **{column: column for column in Column}}
    return [known[name] for name in dict.fromkeys(names)] or list(known.values())


def head(columns: Sequence[CsvColumn]) -> str:
    """The first line of a file."""
    return BYTE_ORDER_MARK + _line(columns)


def line(case: ShownCase, columns: Sequence[CsvColumn]) -> str:
    """The line of a case; instants are in UTC (ISO 8601), and blanks part several words."""
    return _line([_cell(case, column) for column in columns])


def _line(cells: Sequence[str]) -> str:
    quoted = ('"' + harmless(cell).replace('"', '""') + '"' for cell in cells)
    return ",".join(quoted) + "\r\n"


def harmless(text: str) -> str:
    """A text that no spreadsheet obeys, on one line."""
    shown = "".join(" " if unicodedata.category(each) in _NO_TEXT else each for each in text)
    first = next((each for each in shown if unicodedata.category(each) not in _NOT_SEEN), "")
    return f"'{shown}" if first in _BEGINS_A_FORMULA else shown


def _cell(case: ShownCase, column: CsvColumn) -> str:
    return str(case.case_id) if column == "case_id" else _text(_VALUES[Column(column)](case))


_Value = str | int | datetime | Sequence[str] | None


def _text(value: _Value) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        case str() | int():
            return str(value)
        case _:
            return " ".join(value)


def _attribute(name: str) -> Callable[[ShownCase], _Value]:
    return lambda case: str(getattr(case.summary.attributes, name))


_VALUES: Mapping[Column, Callable[[ShownCase], _Value]] = {
    **{each: _attribute(each) for each in Column if each in LISTED},
    Column.FACILITY_ID: lambda case: str(case.facility_id),
    Column.FACILITY_NAME: lambda case: case.facility_name,
    Column.RECEIVED_AT: lambda case: case.received_at,
    Column.STUDY_INSTANCE_UID: lambda case: case.study_instance_uid,
    Column.MODALITIES_IN_STUDY: lambda case: case.summary.modalities_in_study,
    Column.MODALITIES_LEFT_OUT: lambda case: case.summary.modalities_left_out,
    Column.SERIES_COUNT: lambda case: case.summary.series_count,
    Column.INSTANCE_COUNT: lambda case: case.summary.instance_count,
    Column.STUDY_STATUS_ID: lambda case: case.study_status_id,
    Column.UNDISTRIBUTED: lambda case: case.undistributed,
    Column.LEVEL: lambda case: PrivilegeLevel(case.level).name.lower(),
    Column.LOCK_HOLDER_NAME: lambda case: case.reading.lock.holder_name if case.reading.lock else None,
    Column.LOCK_ENDS_AT: lambda case: case.reading.lock.ends_at if case.reading.lock else None,
    Column.LOCK_SINCE: lambda case: case.reading.lock.since if case.reading.lock else None,
    Column.REPORTED_READ_TYPES: lambda case: sorted(case.reading.read_types),
    Column.REPORTED_AT: lambda case: case.reading.reported_at,
    Column.ANOTHER_PATIENT_HELD: lambda case: case.summary.another_patient_held,
    Column.IMAGES_SINCE_REPORT: lambda case: case.late.count if case.late else 0,
    Column.IMAGES_SINCE: lambda case: case.late.since if case.late else None,
    Column.WRITTEN_DIFFERENTLY: lambda case: case.summary.written_differently,
    Column.ASSIGNEE_LOGIN: lambda case: case.assignee_login,
    Column.PRIORITY: lambda case: case.priority.name.lower(),
    Column.CALLING_AE_TITLE: lambda case: case.summary.calling_ae_title,
    Column.GATEWAY_ID: lambda case: str(case.summary.gateway_id or ""),
    Column.MAY: lambda case: sorted(case.may),
    Column.WAITS_FOR: lambda case: case.waits_for,
    Column.WAITS_SINCE: lambda case: case.waits_since,
    Column.PRIOR_COUNT: lambda case: case.prior_count,
}
"""What each column says."""
