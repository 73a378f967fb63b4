"""Which facility owns a received study, and why.

A study that a gateway sends under a calling AE title has a receiving facility; ingest names it. Its model
decides the rest. At a Standard or an Endpoint facility the study belongs there, all of it. At a Hub the
first non-empty value of the hub's mapping tag decides for the whole study:

    no value yet, not settled      it waits: a later object may carry the tag (A17)
    no value, settled              a case of the hub, undistributed
    a value, no rule has it        a case of the hub, undistributed, at once: the first value has decided
    a value, rules of one endpoint a case of that endpoint, received via the hub
    values, rules of several       a case of the hub, undistributed: never an arbitrary choice (A16)

Once placed, a case moves only by hand. Which parts of its study belong to it, and which are held, `parts.py`
decides.
"""

import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from kernel.dicom import MAPPING_TAGS, MAX_VALUE_CHARACTERS, UID
from kernel.errors import Conflict, Invalid
from kernel.ids import CaseId, FacilityId, MoveId, RuleId, StudyId
from kernel.patient import Identity

# What a list on a page shows on one line.
MAX_NAME_CHARACTERS = 64

_BLANKS = re.compile(" +")  # other white space is no text of a value (PS3.5 6.1.2)

# Unicode categories that a person cannot see or that reorder what they see.
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


class Model(StrEnum):
    """Transmission model: how a facility receives studies (RTE-1)."""

    STANDARD = "standard"
    HUB = "hub"
    ENDPOINT = "endpoint"


# Facilities and their rules


@dataclass(frozen=True, slots=True)
class Facility:
    """A site that we configure."""

    id: FacilityId
    name: str
    time_zone: str
    model: Model
    mapping_tag: str | None
    version: int


@dataclass(frozen=True, slots=True)
class EndpointRule:
    """Sends studies of a hub whose mapping value equals a text to an endpoint (RTE-7)."""

    id: RuleId
    endpoint_facility_id: FacilityId
    hub_facility_id: FacilityId
    text: str


@dataclass(frozen=True, slots=True)
class FacilitySettings:
    """A facility as a person wants it; None leaves to us what they did not say."""

    name: str
    time_zone: str | None
    model: Model | None
    mapping_tag: str | None


def fold(text: str) -> str:
    """What is compared in place of `text`: trimmed and case-folded (A16), in the normal form C of Unicode."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).strip().casefold())


def match_key(text: str) -> str:
    """What is compared in place of a mapping value or a rule's text: folded, each run of blanks as one.

    `endpoint_rules.match_key` in SQL is the same. No character stands for others: a modality that sends `MS*`
    means an asterisk, and a rule that took other values too would send their studies to a foreign facility.
    """
    return _BLANKS.sub(" ", fold(text))


def save_facility(
    wanted: FacilitySettings,
    current: Facility | None,
    facility_id: FacilityId,
    *,
    is_in_rules: bool,
    time_zones: Collection[str],
) -> Facility:
    """The facility as it will be stored; equal to `current` if nothing changes.

    A new facility is Standard (RTE-2) and in UTC unless told otherwise; an existing one keeps what is not
    told. Raises Invalid, which names the field, or Conflict where the rules of the facility forbid it.
    """
    name = _line(wanted.name, "name", MAX_NAME_CHARACTERS)
    time_zone = wanted.time_zone or (current.time_zone if current else "UTC")
    if time_zone not in time_zones:
        raise Invalid(
            "`time_zone` is not an IANA time zone: expected a name such as `Europe/Amsterdam`",
            field="time_zone",
        )
    model = wanted.model or (current.model if current else Model.STANDARD)
    if model is Model.HUB:
        if not wanted.mapping_tag:
            raise Invalid(
                "a hub needs the tag that its rules read: name `mapping_tag`, for example `InstitutionName`",
                field="mapping_tag",
            )
        if wanted.mapping_tag not in MAPPING_TAGS:
            raise Invalid(
                f"rules cannot read that tag: `mapping_tag` must be one of {', '.join(sorted(MAPPING_TAGS))}",
                field="mapping_tag",
            )
    elif wanted.mapping_tag:
        raise Invalid(
            "only a hub has a mapping tag: leave `mapping_tag` out, or make the facility a hub",
            field="mapping_tag",
        )
    if current is None:
        return Facility(facility_id, name, time_zone, model, wanted.mapping_tag, 1)
    if is_in_rules and model is not current.model:
        raise Conflict(
            f"`model` cannot change: there are rules that need the facility as {current.model}; remove "
            "them first",
            field="model",
        )
    if is_in_rules and wanted.mapping_tag != current.mapping_tag:
        raise Conflict(
            f"`mapping_tag` cannot change: the hub has rules for `{current.mapping_tag}`; remove them first",
            field="mapping_tag",
        )
    changed = replace(current, name=name, time_zone=time_zone, model=model, mapping_tag=wanted.mapping_tag)
    return current if changed == current else replace(changed, version=current.version + 1)


def new_rule(rule_id: RuleId, endpoint: Facility, hub: Facility, text: str) -> EndpointRule:
    """A rule that sends what `hub` receives under `text` to `endpoint`.

    Raises Invalid, which names the field, for a wrong model or text. A hub is never an endpoint, so there
    are no chains (A25).
    """
    _model(endpoint, Model.ENDPOINT, "endpoint_facility_id")
    _model(hub, Model.HUB, "hub_facility_id")
    assert hub.mapping_tag is not None, "every hub has one"
    limit = MAX_VALUE_CHARACTERS[MAPPING_TAGS[hub.mapping_tag]]
    text = _BLANKS.sub(" ", _line(text, "text", limit, f": no value of {hub.mapping_tag} is longer"))
    if "\\" in text:
        raise Invalid(
            "`text` must not contain a backslash: in DICOM it separates the values of a tag", field="text"
        )
    return EndpointRule(rule_id, endpoint.id, hub.id, text)


def _model(facility: Facility, model: Model, field: str) -> None:
    if facility.model is not model:
        raise Invalid(
            f"`{facility.name}` is not a facility of model {model.lower()} (`{field}`)", field=field
        )


def literal_wildcards(text: str) -> str:
    """What to tell whoever saves a rule with characters that elsewhere stand for others; empty: nothing."""
    found = [character for character in "*%?" if character in text]
    if not found:
        return ""
    named = " and ".join(f"`{character}`" for character in found)
    return f"{named} {'is' if len(found) == 1 else 'are'} taken literally: no character stands for others"


def _line(text: str, field: str, limit: int, why: str = "") -> str:
    text = text.strip()
    if not 1 <= len(text) <= limit:
        raise Invalid(f"`{field}` must have 1 to {limit} characters{why}", field=field)
    if any(unicodedata.category(character) in _HIDDEN for character in text):
        raise Invalid(f"`{field}` contains a control character: remove it", field=field)
    return text


# A received study, as ingest describes it


FIRST_PART = 1_000_001
"""Below it the number of a part is the ordinal of a series that the version before received."""


@dataclass(frozen=True, slots=True)
class Part:
    """What was received of a study under one patient identity and with one value of the mapping tag.

    Attributes:
        number: grows with the order of first receipt.
        identity: number of its identity; 0: one of so many that nobody can say which.
        mapping_values: none, one, or several where the part stands for others.
        series: ordinals of the series in which it has instances.
    """

    number: int
    identity: int
    mapping_values: tuple[str, ...]
    series: tuple[int, ...]
    instance_count: int

    @property
    def values(self) -> tuple[str, ...]:
        """Its distinct non-empty values in order, in the form in which they are compared."""
        return tuple(dict.fromkeys(key for value in self.mapping_values if (key := mapping_key(value))))


@dataclass(frozen=True, slots=True)
class Study:
    """What one facility's gateway sent under one Study Instance UID: the owner's snapshot.

    Attributes:
        mapping_tag: the tag whose values its parts have; None: of none.
        parts: in order of first receipt.
        identities: by number.
        series_instance_uids: by ordinal, the first with ordinal 1; empty where there are too many.
    """

    id: StudyId
    version: int
    study_instance_uid: UID
    receiving_facility_id: FacilityId
    settled: bool
    received_at: datetime
    mapping_tag: str | None
    parts: tuple[Part, ...]
    identities: Mapping[int, Identity]
    series_instance_uids: tuple[UID, ...]


def mapping_key(value: str) -> str:
    """The form in which mapping values are compared: parts folded, distinct, in one order."""
    return "\\".join(sorted({key for part in value.split("\\") if (key := match_key(part))}))


def rule_keys(value: str) -> list[str]:
    """The texts of which a rule may have one, so that it matches a mapping value as it is compared.

    A rule of the version before may stand there in the normal form D of Unicode.
    """
    return value.split("\\") + [
        decomposed for key in value.split("\\") if (decomposed := unicodedata.normalize("NFD", key)) != key
    ]


# Placing


class Reason(StrEnum):
    """Why a case is where it is."""

    DIRECT = "direct"
    RULE = "rule"
    NO_VALUE = "no_value"
    NO_RULE = "no_rule"
    AMBIGUOUS = "ambiguous"
    BY_HAND = "by_hand"
    RETURNED = "returned"


UNDISTRIBUTED = frozenset({Reason.NO_VALUE, Reason.NO_RULE, Reason.AMBIGUOUS, Reason.RETURNED})
"""The reasons with which a case waits at its hub for a person."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a study belongs: what `place` decides.

    `mapping_tag` and `mapping_value` are what decided; no tag means that it came directly, all of it.
    """

    facility_id: FacilityId
    received_via_facility_id: FacilityId | None
    reason: Reason
    mapping_tag: str | None = None
    mapping_value: str | None = None


def place(
    facility: Facility, value: str | None, rules: Mapping[str, FacilityId], *, settled: bool
) -> Destination | None:
    """Where a study, received at `facility`, belongs; None: it waits for a value until it is settled.

    `value` is the first of the hub's mapping tag (`parts.first_value`). `rules` gives the endpoint for a text
    as it is compared; it is asked for the parts of the deciding value only, so the number of rules does not
    matter.
    """
    if facility.mapping_tag is None:
        return Destination(facility.id, None, Reason.DIRECT)
    if value is None:
        return _at_hub(facility, Reason.NO_VALUE, None) if settled else None
    endpoints = {rules[key] for key in rule_keys(value) if key in rules}
    if len(endpoints) != 1:
        return _at_hub(facility, Reason.AMBIGUOUS if endpoints else Reason.NO_RULE, value)
    return Destination(endpoints.pop(), facility.id, Reason.RULE, facility.mapping_tag, value)


def _at_hub(hub: Facility, reason: Reason, value: str | None) -> Destination:
    return Destination(hub.id, None, reason, hub.mapping_tag, value)


@dataclass(frozen=True, slots=True)
class PlacedStudy:
    """What of a received study belongs to a case.

    Attributes:
        parts: numbers of the parts that belong, sorted; None: the version before placed it, by series.
        all_series, series_instance_uids: what belongs, as the version before reads it; no series of which a
            part does not belong.
        another_patient_held: how many parts are held because they may show another patient.
        written_differently: keywords of what is written differently and agrees.
    """

    id: StudyId
    all_series: bool = False
    series_instance_uids: tuple[UID, ...] = ()
    parts: tuple[int, ...] | None = None
    another_patient_held: int = 0
    written_differently: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Placement:
    """Which facility owns a study, and why.

    Attributes:
        moved_by_hand: whether a person has moved it once; then it never moves by its mapping value.
        last_move_id: the last move that was made; None if it never moved, or before access was asked.
    """

    case_id: CaseId
    facility_id: FacilityId
    received_via_facility_id: FacilityId | None
    study_instance_uid: UID
    reason: Reason
    placed_at: datetime
    version: int
    studies: tuple[PlacedStudy, ...] = ()
    moved_by_hand: bool = False
    last_move_id: MoveId | None = None

    @property
    def undistributed(self) -> bool:
        """Whether it waits at its hub for distribution by hand."""
        return self.reason in UNDISTRIBUTED

    @property
    def another_patient_held(self) -> int:
        """How many parts of its studies are held because they may show another patient."""
        return sum(study.another_patient_held for study in self.studies)

    @property
    def written_differently(self) -> list[str]:
        """Keywords of what of the patient is written differently within it, sorted."""
        return sorted({keyword for study in self.studies for keyword in study.written_differently})

    def distribute(self, endpoint: Facility) -> "Placement":
        """The case at an endpoint, chosen by a person; its CaseId stays."""
        if not self.undistributed:
            raise Conflict("the case is at an endpoint already: move it on instead", field="case_id")
        _model(endpoint, Model.ENDPOINT, "facility_id")
        return self._moved(endpoint.id, self.facility_id, Reason.BY_HAND)

    def move_on(self, target: Facility) -> "Placement":
        """The case at another endpoint, or back at the hub through which it came."""
        if self.undistributed:
            raise Conflict("the case waits at its hub: distribute it", field="case_id")
        hub = self.received_via_facility_id
        if hub is None:
            raise Conflict(
                "a gateway of its own facility sent the case, so it belongs there",
                field="case_id",
            )
        if target.id == self.facility_id:
            raise Conflict("the case is at this facility already", field="facility_id")
        if target.id == hub:
            return self._moved(hub, None, Reason.RETURNED)
        _model(target, Model.ENDPOINT, "facility_id")
        return self._moved(target.id, hub, Reason.BY_HAND)

    def by_rule(self, destination: Destination) -> "Placement":
        """The case at the endpoint of a rule that knows its mapping value now; nobody has moved it."""
        return replace(
            self,
            facility_id=destination.facility_id,
            received_via_facility_id=destination.received_via_facility_id,
            reason=destination.reason,
            version=self.version + 1,
        )

    def _moved(self, to: FacilityId, via: FacilityId | None, reason: Reason) -> "Placement":
        return replace(
            self,
            facility_id=to,
            received_via_facility_id=via,
            reason=reason,
            version=self.version + 1,
            moved_by_hand=True,
        )


@dataclass(frozen=True, slots=True)
class Deletion:
    """The deletion of a case, as ingest describes it.

    Attributes:
        begun_at: what was received later is not deleted.
        beside: the studies held because the case was in their way; None: gone.
    """

    case_id: CaseId
    begun_at: datetime
    beside: Mapping[StudyId, Study | None]

    def sent_again(self) -> list[Study]:
        """Those beside the case that are not deleted with it, the first received first."""
        later = (study for study in self.beside.values() if study and study.received_at > self.begun_at)
        return sorted(later, key=lambda study: study.received_at)
