"""The rows of lists of cases: their columns, which of these are shown, and what access is asked for."""

from collections.abc import Sequence
from dataclasses import replace

import click

from readroom.show import Column, Output, Table, day, instant, person
from readroom.words import CASE_ACTS, LEVELS, PRIORITIES, READ_TYPES, WAITS_FOR
from wire.access.v1.access_pb2 import PRIORITY_NORMAL, Case


def _modalities(case: Case) -> list[str]:
    """Those that are answered, and how many are left out."""
    left_out = [f"and {case.modalities_left_out} more"] if case.modalities_left_out else []
    return [*case.modalities_in_study, *left_out]


def _notes(case: Case) -> list[str]:
    """What whoever opens the case should know."""
    held = ["images of another patient are held"] if case.another_patient_held else []
    return held + [f"{keyword} is written in several ways" for keyword in case.written_differently]


CASE = (
    Column[Case]("received_at", lambda c: instant(c.received_at)),
    Column[Case]("facility", lambda c: c.facility_name),
    Column[Case]("patient_name", lambda c: c.patient_name, written=person),
    Column[Case]("patient_id", lambda c: c.patient_id),
    Column[Case]("study_date", lambda c: c.study_date or None, written=day),
    Column[Case]("modalities_in_study", lambda c: _modalities(c), heading="MODALITIES"),
    Column[Case]("study_description", lambda c: c.study_description or None, heading="DESCRIPTION"),
    Column[Case]("instance_count", lambda c: c.instance_count, json_only=True),
    Column[Case]("images_since_report", lambda c: c.images_since_report or None),
    Column[Case](
        "study_status_id",
        lambda c: "UNDISTRIBUTED" if c.undistributed else c.study_status_id,
        heading="STATUS",
    ),
    Column[Case]("priority", lambda c: PRIORITIES.word(c.priority) if c.priority > PRIORITY_NORMAL else None),
    Column[Case]("assignee", lambda c: c.assignee_login or None),
    Column[Case]("lock_holder", lambda c: c.lock_holder_name or None),
    Column[Case]("level", lambda c: LEVELS.word(c.level), json_only=True),
    Column[Case]("notes", lambda c: _notes(c)),
    Column[Case]("sent_by", lambda c: c.calling_ae_title or None, json_only=True),
    Column[Case]("case_id", lambda c: c.case_id),
    Column[Case]("undistributed", lambda c: c.undistributed, json_only=True),
    Column[Case]("gateway_id", lambda c: c.gateway_id or None, json_only=True),
    Column[Case]("facility_id", lambda c: c.facility_id, json_only=True),
    Column[Case]("study_instance_uid", lambda c: c.study_instance_uid, json_only=True),
    Column[Case]("accession_number", lambda c: c.accession_number or None, json_only=True),
    Column[Case]("patient_birth_date", lambda c: c.patient_birth_date or None, json_only=True, written=day),
    Column[Case]("patient_sex", lambda c: c.patient_sex or None, json_only=True),
    Column[Case]("study_time", lambda c: c.study_time or None, json_only=True),
    Column[Case](
        "referring_physician_name",
        lambda c: c.referring_physician_name or None,
        json_only=True,
        written=person,
    ),
    Column[Case]("series_count", lambda c: c.series_count, json_only=True),
    Column[Case]("another_patient_held", lambda c: c.another_patient_held, json_only=True),
    Column[Case]("written_differently", lambda c: list(c.written_differently), json_only=True),
    Column[Case](
        "lock_since",
        lambda c: instant(c.lock_since) if c.HasField("lock_since") else None,
        json_only=True,
    ),
    Column[Case](
        "lock_ends_at",
        lambda c: instant(c.lock_ends_at) if c.HasField("lock_ends_at") else None,
        json_only=True,
    ),
    Column[Case](
        "images_since",
        lambda c: instant(c.images_since) if c.HasField("images_since") else None,
        json_only=True,
    ),
    Column[Case](
        "reported_read_types", lambda c: [READ_TYPES.word(t) for t in c.reported_read_types], json_only=True
    ),
    Column[Case](
        "reported_at", lambda c: instant(c.reported_at) if c.HasField("reported_at") else None, json_only=True
    ),
    Column[Case]("may", lambda c: [CASE_ACTS.word(act) for act in c.may], json_only=True),
    Column[Case]("waits_for", lambda c: WAITS_FOR.word(c.waits_for) or None, json_only=True),
    Column[Case](
        "waits_since", lambda c: instant(c.waits_since) if c.HasField("waits_since") else None, json_only=True
    ),
    Column[Case](
        "prior_count", lambda c: c.prior_count if c.HasField("prior_count") else None, json_only=True
    ),
)
"""Every column; a table shows those that are not for JSON only, unless others are named."""

_KEYS = {column.key: column for column in CASE}

# The fields of a case that a column is made of, where it is not the one of its name.
_FIELDS = {
    "facility": ["facility_name"],
    "modalities_in_study": ["modalities_in_study", "modalities_left_out"],
    "study_status_id": ["study_status_id", "undistributed"],
    "assignee": ["assignee_login"],
    "lock_holder": ["lock_holder_name"],
    "notes": ["another_patient_held", "written_differently"],
    "sent_by": ["calling_ae_title"],
}


def _named(context: click.Context, parameter: click.Parameter, text: str | None) -> Sequence[str] | None:
    """The keys of columns, in the order in which somebody named them."""
    if text is None:
        return None
    keys = [each.strip() for each in text.split(",")]
    unknown = [key for key in keys if key not in _KEYS]
    if unknown:
        raise click.BadParameter(
            f"there is no column `{unknown[0]}`: take some of {', '.join(_KEYS)}", context, parameter
        )
    return list(dict.fromkeys(keys))


COLUMNS = click.option(
    "--columns",
    callback=_named,
    metavar="NAMES",
    help="Show these columns in this order, such as patient_name,study_date,may; with --json these keys. "
    "A name that is none tells you all that there are.  [default: the usual ones; with --json all]",
)


def fields_of(columns: Sequence[str] | None, out: Output) -> list[str]:
    """What access is asked for, so that these columns can be shown; nothing: everything."""
    if columns is None and out.as_json:
        return []
    keys = columns or [column.key for column in CASE if not column.json_only]
    return ["case_id", *(field for key in keys for field in _FIELDS.get(key, [key]))]


def show(out: Output, cases: Sequence[Case], columns: Sequence[str] | None, none: str = "") -> None:
    """Shows rows, of the usual columns those in which some case says something; without rows says `none`."""
    if none and not cases:
        out.told([none], [])
        return
    out.items(_telling(cases) if columns is None and not out.as_json else table(out, columns), cases)


def table(out: Output, columns: Sequence[str] | None) -> Table[Case]:
    """The columns that somebody named, else all of them."""
    if columns is None:
        return CASE
    return [replace(_KEYS[key], json_only=False) for key in columns]


def _telling(cases: Sequence[Case]) -> Table[Case]:
    """The usual columns; a column in which no case says anything would only make the table wide."""
    usual = [column for column in CASE if not column.json_only]
    return [column for column in usual if not cases or any(column.value(case) for case in cases)]
