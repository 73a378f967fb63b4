"""Which parts of a placed study belong to its case, and which are held for a person (decision 0016).

    confirmed before           belongs, whatever comes later
    released by a person       belongs
    discarded by a person      does not, and waits again if more images have come for it since
    of another patient         held: its identity contradicts that of the case, as `kernel/patient.py` says
    of one of many identities  held: nobody can say whose it is
    with another value         held: it has a value of the mapping tag, and not the one that decided (A19)
    any other                  belongs; so does what has no value

The identity of the case is the first value of each attribute over the parts that belong, in order of receipt.
The parts are walked in that order, and each is judged by those before it: so the answer for a part does not
depend on what comes after it, nor on which snapshots were heard. Only what is held for its value is compared
with what came after it too, for it would belong beside that.

While nobody has distributed a case that had no value, the first value to arrive becomes the deciding one;
after that, what arrives with a value is held, for nobody looked at it when the case was distributed. What is
held as another patient decides nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from kernel.dicom import UID
from kernel.errors import Unavailable
from kernel.ids import CaseId, FacilityId, StudyId
from kernel.patient import Comparison, Identity, compare
from services.routing.domain import FIRST_PART, UNDISTRIBUTED, Part, PlacedStudy, Reason, Study


class HeldKind(StrEnum):
    """What waits for a person."""

    UNDISTRIBUTED = "undistributed"
    STUDY = "study"
    SERIES = "series"  # held by the version before
    PART = "part"
    ANOTHER_PATIENT = "another_patient"


class HeldReason(StrEnum):
    """Why it waits."""

    NO_VALUE = "no_value"
    NO_RULE = "no_rule"
    AMBIGUOUS = "ambiguous"
    RETURNED = "returned"
    SECOND_STUDY = "second_study"
    UNKNOWN_FACILITY = "unknown_facility"
    OTHER_VALUE = "other_value"
    SEVERAL_VALUES = "several_values"
    LATE_VALUE = "late_value"
    ANOTHER_PATIENT = "another_patient"
    MANY_IDENTITIES = "many_identities"


HELD_SENTENCES: dict[HeldReason, str] = {
    HeldReason.NO_VALUE: "the mapping tag of the hub is empty in these images, so no rule can apply",
    HeldReason.NO_RULE: "no rule of the hub has this mapping value",
    HeldReason.AMBIGUOUS: "the mapping value matches rules of different endpoints",
    HeldReason.RETURNED: "a person moved the case back to its hub",
    HeldReason.SECOND_STUDY: "the study already has a case there: this copy came another way",
    HeldReason.UNKNOWN_FACILITY: "the receiving facility is not known",
    HeldReason.OTHER_VALUE: "the images have another mapping value than the one that decided for their study",
    HeldReason.SEVERAL_VALUES: "the images have several mapping values",
    HeldReason.LATE_VALUE: "the images have a mapping value, and their study was distributed without one",
    HeldReason.ANOTHER_PATIENT: "the images name another patient than the case: either may be wrong",
    HeldReason.MANY_IDENTITIES: "the study names too many patients to say whose images these are",
}
"""What a person reads; the mapping value itself may be patient data and is never part of it."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One thing of a study that waits for a person.

    Attributes:
        part: the part that waits; None: it is the study.
        differs: what makes it another patient, by DICOM keyword.
    """

    kind: HeldKind
    reason: HeldReason
    part: Part | None = None
    differs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """Something that waits for a person, as it is listed.

    Attributes:
        part: 0: it is no part.
        facility_name: empty for whoever does not administer the facility.
    """

    id: UUID
    kind: HeldKind
    reason: HeldReason
    case_id: CaseId | None
    study_id: StudyId
    series_instance_uid: UID | None
    facility_id: FacilityId
    held_at: datetime
    part: int = 0
    identity: int = 0
    instance_count: int = 0
    differs: tuple[str, ...] = ()
    facility_name: str = ""


class Verdict(StrEnum):
    """What a person has said of a held part."""

    SAME_PATIENT = "same_patient"  # so is every part under the same identity
    RELEASED = "released"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Judged:
    """A held part of which a person has said something.

    Attributes:
        identity: number of its identity.
        instance_count: what it held when they said it.
    """

    verdict: Verdict
    identity: int
    instance_count: int

    def discards(self, part: Part) -> bool:
        """Whether they discarded all that the part holds by now."""
        return self.verdict is Verdict.DISCARDED and part.instance_count <= self.instance_count


@dataclass(frozen=True, slots=True)
class KnownStudy:
    """What routing knows of a received study; without a case it waits or is held.

    Attributes:
        version: ingest's version that was last applied; 0 is none yet.
        case_id: the case that it belongs to.
        mapping_tag: the tag that decided, whatever the hub's tag is now; None if it came directly.
        mapping_value: the value that decided, folded.
        placed: what of it belongs to the case.
        judged: of which parts a person has said something.
    """

    version: int
    case_id: CaseId | None
    mapping_tag: str | None
    mapping_value: str | None
    placed: PlacedStudy
    judged: Mapping[int, Judged] = field(default_factory=dict)

    def confirmed(self, study: Study) -> frozenset[int]:
        """The parts of which it was said that they belong."""
        if self.placed.parts is not None:
            return frozenset(self.placed.parts)
        # The version before knew series, and what it received keeps them as parts.
        names = set(self.placed.series_instance_uids)
        ordinals = (n for n, uid in enumerate(study.series_instance_uids, 1) if uid in names)
        before = {part.number for part in study.parts if part.number < FIRST_PART}
        return frozenset(before if self.placed.all_series else before.intersection(ordinals))


@dataclass(frozen=True, slots=True)
class Agreement:
    """Which parts of a placed study belong to its case, and by which value."""

    mapping_value: str | None
    study: PlacedStudy
    waiting: tuple[Waiting, ...]


def agree(study: Study, known: KnownStudy, reason: Reason) -> Agreement:
    """Parts that belong to the case of a placed study, and what of it waits; each part does one or the other,
    unless a person has discarded it.

    A case that nobody has distributed yet may still find its deciding value. Raises Unavailable if the
    snapshot lacks a part that belongs: it is older, or the ingest of the version before told it by series.
    """
    lacking = known.confirmed(study) - {part.number for part in study.parts}
    if any(number >= FIRST_PART for number in lacking):
        raise Unavailable("ingest does not tell a part of the study that it told before")
    undistributed = reason in UNDISTRIBUTED
    walk = _Walk(study, known, may_decide=undistributed)
    waiting = [Waiting(HeldKind.UNDISTRIBUTED, HeldReason(reason.value))] if undistributed else []
    return Agreement(walk.value, walk.placed(), (*waiting, *walk.waiting))


def first_value(study: Study, known: KnownStudy, mapping_tag: str | None) -> str | None:
    """The first non-empty value of the tag in order of receipt, folded: it decides for the study (A19)."""
    if mapping_tag is None:
        return None
    if study.mapping_tag != mapping_tag:
        raise Unavailable("the mapping tag of the hub has just changed")
    return _Walk(study, replace(known, mapping_tag=mapping_tag), may_decide=True).value


def value_of_confirmed(study: Study, known: KnownStudy, mapping_tag: str | None) -> str | None:
    """The one value, folded, that confirmed parts have of another tag than the one that decided so far.

    None if they have none, or several: then no value says where all of them belong.
    """
    if study.mapping_tag != mapping_tag:
        raise Unavailable("the mapping tag of the hub has just changed")
    confirmed = known.confirmed(study)
    values = {value for part in study.parts if part.number in confirmed for value in part.values}
    return values.pop() if len(values) == 1 else None


class _Walk:
    """Judges the parts in order of receipt, each by those before it."""

    def __init__(self, study: Study, known: KnownStudy, *, may_decide: bool) -> None:
        self.value = known.mapping_value
        self.waiting: list[Waiting] = []
        self._study = study
        self._known = known
        self._may_decide = may_decide and self.value is None
        self._before = known.confirmed(study)
        self._belongs: list[Part] = []
        self._patient = Identity()
        self._compared: dict[int, Comparison] = {}  # with the patient so far, by number of the identity
        self._written_differently: set[str] = set()
        # Whose parts belong, or of whom a person has said that they are the patient of the case.
        self._identities = {part.identity for part in study.parts if part.number in self._before}
        self._identities |= {
            each.identity for each in known.judged.values() if each.verdict is not Verdict.DISCARDED
        }
        self._compared_with_shown: dict[int, Comparison] = {}
        self._shown = Identity()  # the patient of what was confirmed before, wherever it stands in the order
        for part in study.parts:
            if part.number in self._before:
                self._shown = self._shown.filled_from(self._identity(part))
        for part in study.parts:
            self._judge(part)
        self.waiting = [self._beside_all(each) for each in self.waiting]

    def _judge(self, part: Part) -> None:
        judged = self._known.judged.get(part.number)
        released = judged is not None and judged.verdict is Verdict.RELEASED
        compared = self._compare(part)
        if part.number not in self._before and not released:
            if judged and judged.discards(part):
                return
            held = self._other_patient(part, judged, compared)
            if not held and self._shown != Identity():
                # It waited while what came after it was confirmed, and another tag may let it in now.
                held = self._other_patient(part, judged, self._compare_with_shown(part))
            if held := held or self._other_value(part):
                self.waiting.append(held)
                return
        self._belongs.append(part)
        self._identities.add(part.identity)
        self._written_differently.update(compared.written_differently)
        patient = self._patient.filled_from(self._identity(part))
        if patient != self._patient:
            self._patient = patient
            self._compared.clear()

    def _compare(self, part: Part) -> Comparison:
        if part.identity not in self._compared:
            self._compared[part.identity] = compare(self._patient, self._identity(part))
        return self._compared[part.identity]

    def _compare_with_shown(self, part: Part) -> Comparison:
        if part.identity not in self._compared_with_shown:
            self._compared_with_shown[part.identity] = compare(self._shown, self._identity(part))
        return self._compared_with_shown[part.identity]

    def _identity(self, part: Part) -> Identity:
        return self._study.identities.get(part.identity, Identity())

    def _other_patient(self, part: Part, judged: Judged | None, compared: Comparison) -> Waiting | None:
        if judged and judged.verdict is Verdict.SAME_PATIENT:
            return None
        if not part.identity:
            return Waiting(HeldKind.ANOTHER_PATIENT, HeldReason.MANY_IDENTITIES, part)
        if part.identity in self._identities or compared.may_be_one_patient:
            return None
        return Waiting(HeldKind.ANOTHER_PATIENT, HeldReason.ANOTHER_PATIENT, part, compared.differs)

    def _beside_all(self, held: Waiting) -> Waiting:
        """What is held for its value may contradict what came after it: whose it is comes first."""
        if held.kind is not HeldKind.PART or held.part is None:
            return held
        judged = self._known.judged.get(held.part.number)
        return self._other_patient(held.part, judged, self._compare(held.part)) or held

    def _other_value(self, part: Part) -> Waiting | None:
        if self._known.mapping_tag is None:
            return None
        values = part.values
        if self._may_decide and self.value is None and values:
            self.value = values[0]
        if set(values) <= {self.value}:
            return None
        if len(values) > 1:
            return Waiting(HeldKind.PART, HeldReason.SEVERAL_VALUES, part)
        reason = HeldReason.OTHER_VALUE if self.value else HeldReason.LATE_VALUE
        return Waiting(HeldKind.PART, reason, part)

    def placed(self) -> PlacedStudy:
        """What belongs, also as the version before reads it."""
        parts = frozenset(part.number for part in self._belongs)
        others = [part for part in self._study.parts if part.number not in parts]
        whole = {n for part in self._belongs for n in part.series} - {
            n for part in others for n in part.series
        }
        uids = tuple(uid for n, uid in enumerate(self._study.series_instance_uids, 1) if n in whole)
        all_series = self._known.mapping_tag is None and not others
        return PlacedStudy(
            self._study.id,
            all_series,
            () if all_series else uids,
            tuple(sorted(parts)),
            sum(each.kind is HeldKind.ANOTHER_PATIENT for each in self.waiting),
            tuple(sorted(self._written_differently)),
        )


def judge(chosen: Held, held: Mapping[int, Held], *, release: bool) -> dict[int, Judged]:
    """What a person says by releasing or discarding a held part, by number of the part.

    `held` are the held parts of its study. Of another patient they say it of all parts under that identity.
    """
    of_identity = chosen.kind is HeldKind.ANOTHER_PATIENT
    verdict = Verdict.DISCARDED
    if release:
        verdict = Verdict.SAME_PATIENT if of_identity else Verdict.RELEASED
    return {
        number: Judged(verdict, each.identity, each.instance_count)
        for number, each in held.items()
        if number == chosen.part
        or (of_identity and each.kind is chosen.kind and 0 != each.identity == chosen.identity)
    }
