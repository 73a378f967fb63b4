"""What a user is shown of a case in a list: here alone a record becomes the row that is theirs.

It is pure: the same record, user and instant make the same row. Of the reading the record holds what the
user's side may know, and nothing here looks beyond that (A59): so what follows, the status and what the case
waits for, is of that side too. Whoever compares rows (A67) compares what this answers.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from functools import cache

from kernel.errors import Invalid
from kernel.ids import CaseId
from kernel.reading import PrivilegeLevel
from services.access.acts import CaseAct, Rights, Sight, rights
from services.access.caseindex import ListedCase
from services.access.domain import CompiledUser, Sighting
from services.access.status import ReadingState, Status

MAX_PRIORS = 100
"""Counted of a case; more are of no use to who looks at a list."""

LOOKED_AT = 200
"""Of a patient the latest cases, among which priors are counted: a phantom has thousands."""


class Column(StrEnum):
    """What a row may say beside the id of the case: a field of `Case` of the contract."""

    FACILITY_ID = "facility_id"
    FACILITY_NAME = "facility_name"
    RECEIVED_AT = "received_at"
    PATIENT_NAME = "patient_name"
    PATIENT_ID = "patient_id"
    PATIENT_BIRTH_DATE = "patient_birth_date"
    PATIENT_SEX = "patient_sex"
    STUDY_INSTANCE_UID = "study_instance_uid"
    STUDY_DATE = "study_date"
    STUDY_TIME = "study_time"
    STUDY_DESCRIPTION = "study_description"
    ACCESSION_NUMBER = "accession_number"
    REFERRING_PHYSICIAN_NAME = "referring_physician_name"
    MODALITIES_IN_STUDY = "modalities_in_study"
    MODALITIES_LEFT_OUT = "modalities_left_out"
    SERIES_COUNT = "series_count"
    INSTANCE_COUNT = "instance_count"
    STUDY_STATUS_ID = "study_status_id"
    UNDISTRIBUTED = "undistributed"
    LEVEL = "level"
    LOCK_HOLDER_NAME = "lock_holder_name"
    LOCK_ENDS_AT = "lock_ends_at"
    LOCK_SINCE = "lock_since"
    REPORTED_READ_TYPES = "reported_read_types"
    REPORTED_AT = "reported_at"
    ANOTHER_PATIENT_HELD = "another_patient_held"
    IMAGES_SINCE_REPORT = "images_since_report"
    IMAGES_SINCE = "images_since"
    WRITTEN_DIFFERENTLY = "written_differently"
    ASSIGNEE_LOGIN = "assignee_login"
    PRIORITY = "priority"
    CALLING_AE_TITLE = "calling_ae_title"
    GATEWAY_ID = "gateway_id"
    MAY = "may"
    WAITS_FOR = "waits_for"
    WAITS_SINCE = "waits_since"
    PRIOR_COUNT = "prior_count"


Columns = frozenset[Column]
ALL_COLUMNS: Columns = frozenset(Column)
ALL_BUT_PRIORS: Columns = ALL_COLUMNS - {Column.PRIOR_COUNT}
"""What is read with the case itself."""


def columns_of(names: Collection[str]) -> Columns:
    """The columns of these names, all without one; raises Invalid for what is none."""
    if not names:
        return ALL_COLUMNS
    known = {str(column): column for column in Column}
    if not known.keys() >= {*names} - {"case_id"}:
        raise Invalid(
            f"there is no such column (`columns`); the columns are: case_id {' '.join(known)}",
            field="columns",
        )
    return frozenset(known[name] for name in names if name in known)


class WaitsFor(StrEnum):
    """What a case waits for."""

    DISTRIBUTION = "distribution"  # by hand, at its hub (A17)
    IMAGES = "images"
    READING = "reading"
    SIGNATURE = "signature"


_WAITS = {
    Status.IN_TRANSMIT: WaitsFor.IMAGES,
    Status.TRANSCRIBED: WaitsFor.SIGNATURE,
    Status.DICTATED: WaitsFor.SIGNATURE,
    Status.ASSIGNED: WaitsFor.READING,
    Status.READY_TO_READ: WaitsFor.READING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownCase(ListedCase):
    """A case as a list shows it to one user.

    Attributes:
        level: what they may do with it.
        may: what their rights let them do with it.
        waits_for: as far as their side knows; None: for nothing.
        waits_since: since when it waits to be read; None: for nothing, or nobody knows.
        prior_count: the studies of the patient that they see and that are not later; None: not asked for.
    """

    level: PrivilegeLevel
    may: frozenset[CaseAct]
    waits_for: WaitsFor | None
    waits_since: datetime | None
    prior_count: int | None = None


def shown(case: ListedCase, its: Rights, now: datetime, prior_count: int | None = None) -> ShownCase:
    """The row of a case that a user sees, at an instant.

    Args:
        case: with the reading as the user's side sees it.
        its: what they may do with it.
        prior_count: as it was counted among the cases that they see.
    """
    case = case.at(now)
    waits_for = waiting(case)
    return ShownCase(
        **{name: getattr(case, name) for name in _LISTED},
        level=its.level,
        may=its.may,
        waits_for=waits_for,
        waits_since=None if waits_for is None else waiting_since(case),
        prior_count=prior_count,
    )


def all_shown(
    user: CompiledUser,
    found: Iterable[tuple[ListedCase, Sighting]],
    now: datetime,
    priors: Mapping[CaseId, int] | None = None,
) -> list[ShownCase]:
    """The rows of cases that the user sees.

    Args:
        priors: how many each case has, if that was asked for; a case that is not in it has none.
    """
    rights_of = cache(lambda sight: rights(user, sight, now))  # many cases are seen alike
    return [
        shown(case, rights_of(Sight.of(seen)), now, None if priors is None else priors.get(case.case_id, 0))
        for case, seen in found
    ]


_LISTED = [each.name for each in fields(ListedCase)]


def waiting(case: ListedCase) -> WaitsFor | None:
    """What a case waits for; None for one that is read."""
    status = case.study_status_id
    if status is Status.READ:
        return None
    return WaitsFor.DISTRIBUTION if case.undistributed else _WAITS[status]


def waiting_since(case: ListedCase) -> datetime | None:
    """Since when a case that waits is to be read: its receipt, or what reporting says once it was read."""
    if case.reading.state is ReadingState.UNREAD:
        return case.received_at
    return case.reading.waits_since
