"""The fields of the filter language: how each is called, its kind, and which columns of the index it reads.

An absent value is null: the empty text of a text column, the empty array of a set, null of any other. Null
makes a predicate unknown, and what is unknown at the top hides the case. Whether a value that is not there is
absent is known once the case was described in full (`DESCRIBED`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as attribute
from enum import StrEnum


class Kind(StrEnum):
    """What a value of a field is."""

    TEXT = "text"
    NAME = "name"  # a person name: any component group may satisfy a predicate
    NUMBER = "number"
    AGE = "age"  # four numbers, of which the literal's unit picks one (A8)
    DATE = "date"
    TIME = "time"
    LOCAL = "local"  # date and time without a zone
    INSTANT = "instant"
    ENUM = "enum"
    LOGIN = "login"
    FACILITY = "facility"


class Operator(StrEnum):
    """What a predicate asks. Its negated forms (`!=`, `not in`, `is not null` …) are `not` of these (A9)."""

    EQ = "="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    LIKE = "like"
    CONTAINS = "contains"
    STARTSWITH = "startswith"
    IN = "in"
    BETWEEN = "between"
    IS_NULL = "is null"


class Function(StrEnum):
    """What is done to a value before it is compared."""

    NONE = ""
    UPPER = "upper"
    LOWER = "lower"
    PLAIN = "plain"
    AGE = "age"  # the time since it


@dataclass(frozen=True, slots=True)
class Field:
    """A field.

    Attributes:
        keyword: as the language writes it; without regard to case.
        columns: of the row of the case in the index, in the order in which an evaluator takes them. `{side}`
            stands for the side of who is shown the case (A59).
        is_set: whether it has several values, of which any may satisfy a predicate.
        choices: for an enum, its literals, with what the index stores for each.
        reads: whether it follows the reading. Then, for the holder of a live lock, an access filter takes it
            as it was when the lock began, and the linter warns of it there.
        aliases: other names.
        of_group: whether it does not exist for the facility side (A59).
        choices_of_group: literals that do not exist for the facility side.
    """

    keyword: str
    kind: Kind
    columns: tuple[str, ...]
    is_set: bool = False
    choices: Mapping[str, str | int] | None = attribute(default=None, hash=False)
    reads: bool = False
    aliases: tuple[str, ...] = ()
    of_group: bool = False
    choices_of_group: frozenset[str] = frozenset()

    @property
    def is_described(self) -> bool:
        """Whether its value comes with the description of a case: before that it may only be missing."""
        return self.kind not in (Kind.ENUM, Kind.LOGIN, Kind.FACILITY)

    @property
    def names(self) -> tuple[str, ...]:
        """Its keyword and its other names."""
        return (self.keyword, *self.aliases)

    def choices_for(self, *, is_of_group: bool) -> tuple[str, ...]:
        """The literals of an enum, for a side."""
        return tuple(
            choice for choice in self.choices or () if is_of_group or choice not in self.choices_of_group
        )


def _same(*choices: str) -> Mapping[str, str | int]:
    return {choice: choice for choice in choices}


_COMPARED = frozenset({Operator.LT, Operator.LE, Operator.GT, Operator.GE, Operator.BETWEEN})
_CHOSEN = frozenset({Operator.EQ, Operator.IN, Operator.IS_NULL})
_SEARCHED = frozenset({Operator.LIKE, Operator.CONTAINS, Operator.STARTSWITH})

OPERATORS: Mapping[Kind, frozenset[Operator]] = {
    Kind.TEXT: _CHOSEN | _COMPARED | _SEARCHED,
    Kind.NAME: _CHOSEN | _COMPARED | _SEARCHED,
    Kind.NUMBER: _CHOSEN | _COMPARED,
    Kind.AGE: _CHOSEN | _COMPARED,
    Kind.DATE: _CHOSEN | _COMPARED,
    Kind.TIME: _CHOSEN | _COMPARED,
    Kind.LOCAL: _CHOSEN | _COMPARED,
    Kind.INSTANT: _CHOSEN | _COMPARED,
    Kind.ENUM: _CHOSEN,
    Kind.LOGIN: _CHOSEN,
    Kind.FACILITY: _CHOSEN,
}
"""The operators of a kind."""

OPERATORS_OF_SETS = _CHOSEN | _SEARCHED
"""Of these, the ones that a field with several values has."""

OPERATORS_OF_AGE = _COMPARED
"""The operators of `age()`."""

FUNCTIONS: Mapping[Kind, frozenset[Function]] = {
    Kind.TEXT: frozenset({Function.UPPER, Function.LOWER, Function.PLAIN}),
    Kind.NAME: frozenset({Function.UPPER, Function.LOWER, Function.PLAIN}),
    Kind.DATE: frozenset({Function.AGE}),
    Kind.LOCAL: frozenset({Function.AGE}),
    Kind.INSTANT: frozenset({Function.AGE}),
}
"""The functions that a kind takes."""

SET_BY_HAND = frozenset({"DISREGARD", "FOR_COMPARISON"})
"""Statuses that no verb sets yet (A55)."""

OF_THE_GROUP = frozenset({"DICTATED", "TRANSCRIBED", "ASSIGNED"})
"""Statuses that the facility side never sees (A64)."""

DESCRIBED = "derived"
"""The column that is 0 until a case was described in full, and while it is to be described again."""

_LOCK = ("locked_by", "locked_until")

FIELDS: tuple[Field, ...] = (
    Field("PatientName", Kind.NAME, ("patient_name",)),
    Field("ReferringPhysicianName", Kind.NAME, ("referring_physician_name",)),
    Field("PhysiciansOfRecord", Kind.NAME, ("physicians_of_record",), is_set=True),
    Field("PhysicianNames", Kind.NAME, ("referring_physician_name", "requesting_physician"), is_set=True),
    Field("PatientID", Kind.TEXT, ("patient_id",)),
    Field("AccessionNumber", Kind.TEXT, ("accession_number",)),
    Field("StudyID", Kind.TEXT, ("dicom_study_id",)),
    Field("PatientSex", Kind.TEXT, ("patient_sex",)),
    Field("PatientInstitutionResidence", Kind.TEXT, ("patient_institution_residence",)),
    Field("InstitutionName", Kind.TEXT, ("institution_names",), is_set=True),
    Field("StudyDescription", Kind.TEXT, ("study_description",)),
    Field("BodyPartsInStudy", Kind.TEXT, ("body_parts",), is_set=True, aliases=("BodyPartExamined",)),
    Field("StudyInstanceUID", Kind.TEXT, ("study_instance_uid",), aliases=("StudyIUID",)),
    Field("ModalitiesInStudy", Kind.TEXT, ("modalities_in_study",), is_set=True, aliases=("Modality",)),
    Field("StudyDate", Kind.DATE, ("study_day",)),
    Field("StudyTime", Kind.TIME, ("study_time_of_day",)),
    Field("StudyDateTime", Kind.LOCAL, ("study_day", "study_time_of_day")),
    Field("NormalizedStudyDateTime", Kind.INSTANT, ("study_at",)),
    Field("PatientBirthDate", Kind.DATE, ("birth_day",)),
    Field("PatientAge", Kind.AGE, ("age_years", "age_months", "age_weeks", "age_days")),
    Field("CreatedTime", Kind.INSTANT, ("received_at",)),
    Field("ReceivedTime", Kind.INSTANT, ("last_received_at",)),
    Field("NumberOfStudyRelatedInstances", Kind.NUMBER, ("instance_count",)),
    Field("NumberOfStudyRelatedSeries", Kind.NUMBER, ("series_count",)),
    Field("CallingAETitle", Kind.TEXT, ("calling_ae_title",)),
    Field("Facility", Kind.FACILITY, ("facility_id",)),
    Field(
        "StudyStatusID",
        Kind.ENUM,
        ("status_{side}", *_LOCK, "status_at_lock"),
        choices=_same(
            "DISREGARD",
            "FOR_COMPARISON",
            "READ",
            "IN_TRANSMIT",
            "TRANSCRIBED",
            "DICTATED",
            "ASSIGNED",
            "READY_TO_READ",
        ),
        reads=True,
    ),
    Field(
        "ReportedTypes",
        Kind.ENUM,
        ("reported_types_{side}", *_LOCK, "reported_types_at_lock"),
        is_set=True,
        choices=_same("PRELIMINARY", "FINAL", "OTHER", "PRE_READ"),
        choices_of_group=frozenset({"PRE_READ"}),
        reads=True,
    ),
    Field("Priority", Kind.ENUM, ("priority",), choices={"NORMAL": 0, "URGENT": 1, "STAT": 2}),
    Field("LockedBy", Kind.LOGIN, _LOCK, reads=True),
    Field("AssignedToUser", Kind.LOGIN, ("assignee_id",), of_group=True),
)
"""All of them. `ReferringPhysician`, the account behind the name, comes with identities (BEY-6)."""

FIELD_BY_NAME: Mapping[str, Field] = {name.casefold(): each for each in FIELDS for name in each.names}
"""By keyword or alias, case-folded."""
