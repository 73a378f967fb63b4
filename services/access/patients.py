"""Patients: which cases are of one (A7).

    patient record   one ID of one issuer, an absent issuer being the owning facility, with agreeing name and
                     birth date; a case has none if its ID is blank, or shared by too many
    person           the records that administrators have linked; a record alone is one

So the same number at two facilities is two patients until somebody says otherwise, and a number that two
patients share is two records. A record lives as long as a case is of it, and says what the first of its cases
says.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NewType
from uuid import UUID

from kernel.errors import Unavailable
from kernel.events import SightChanged
from kernel.ids import CaseId, FacilityId
from kernel.patient import Identity, is_same_patient
from services.access.received import StudyAttributes

if TYPE_CHECKING:
    from services.access.store import AccessTransaction


ACTOR = "service:access"
"""Who acts when access does by itself what follows from a fact."""

MAX_SHARING = 100
"""Patients who share a number. One that more share, such as `0` for everybody, says nothing of these."""

MAX_CASES = 1_000
"""Of one person who is linked: as many as one question about sight takes."""

RecordId = NewType("RecordId", UUID)
PersonId = NewType("PersonId", UUID)
LinkId = NewType("LinkId", UUID)


@dataclass(frozen=True, slots=True, order=True)
class PatientKey:
    """Within which all records of one number lie.

    Attributes:
        facility_id: the owner of the case where the ID has no issuer, else None.
    """

    patient_id: str
    issuer: str
    facility_id: FacilityId | None


@dataclass(frozen=True, slots=True)
class Patient:
    """The patient that a case or a record names."""

    key: PatientKey
    name: str
    birth_date: str

    @classmethod
    def of(cls, attributes: StudyAttributes, facility_id: FacilityId) -> Patient | None:
        """The patient of a case; None if it has no ID."""
        patient_id, issuer = attributes.patient_id.strip(), attributes.issuer_of_patient_id.strip()
        if not patient_id:
            return None
        key = PatientKey(patient_id, issuer, None if issuer else facility_id)
        return cls(key, attributes.patient_name, attributes.patient_birth_date)

    def agrees(self, other: Patient) -> bool:
        """Whether both are one patient, who has one number."""
        return self.key == other.key and is_same_patient(self.identity, other.identity)

    @property
    def identity(self) -> Identity:
        key = self.key
        return Identity(key.patient_id, key.issuer, self.name, self.birth_date)


@dataclass(frozen=True, slots=True)
class Record:
    """A patient record."""

    id: RecordId
    patient: Patient
    person_id: PersonId


@dataclass(frozen=True, slots=True)
class Link:
    """What an administrator said: that two records are of one person; the smaller id comes first."""

    id: LinkId
    one_id: RecordId
    other_id: RecordId
    linked_by: str
    linked_at: datetime


@dataclass(frozen=True, slots=True)
class Filing:
    """Of which record a case is now, and of which it was."""

    record: Record | None
    left: Record | None


def persons(records: Iterable[RecordId], links: Iterable[Link]) -> dict[RecordId, PersonId]:
    """The person of each record: all that links join are one, named after the record with the smallest id."""
    first: dict[RecordId, RecordId] = {each: each for each in records}

    def root(record: RecordId) -> RecordId:
        while first[record] != record:
            record = first[record]
        return record

    for link in links:
        low, high = sorted((root(link.one_id), root(link.other_id)))
        first[high] = low
    return {each: PersonId(root(each)) for each in first}


async def hold(
    transaction: AccessTransaction, patients: Iterable[Patient | None], left: Iterable[Record | None] = ()
) -> Sequence[Record]:
    """Until the transaction ends nobody else makes, links or drops records of these patients and persons.

    The cases are held before, and the patients all at once, so that nobody waits for each other. Answers all
    records of the persons of `left`; raises Unavailable if somebody linked them meanwhile.
    """
    records = [record.id for record in left if record]
    keys = {patient.key for patient in patients if patient}
    keys |= {each.patient.key for each in await transaction.records_together(records)}
    await transaction.hold_patients(keys)
    together = await transaction.records_together(records)
    if not keys >= {each.patient.key for each in together}:
        raise Unavailable("somebody is linking the patients of these cases: try again in a second")
    return together


async def hold_record_of(transaction: AccessTransaction, case_id: CaseId) -> Record | None:
    """The record of a locked case, which is held."""
    record = await transaction.record_of(case_id)
    await hold(transaction, (), [record])
    return record


async def file(
    transaction: AccessTransaction, cases: Mapping[CaseId, Patient | None]
) -> Mapping[CaseId, Filing]:
    """Finds or makes the record of each of these locked cases."""
    if not cases:
        return {}
    left = {case_id: await transaction.record_of(case_id) for case_id in cases}
    await hold(transaction, cases.values(), left.values())
    return {
        case_id: Filing(await _record_for(transaction, patient), left[case_id])
        for case_id, patient in cases.items()
    }


async def _record_for(transaction: AccessTransaction, patient: Patient | None) -> Record | None:
    """The record of a patient who is held, made if there was none; None for nobody."""
    if patient is None:
        return None
    records = await transaction.records_of(patient.key, MAX_SHARING)
    for record in records:
        if record.patient.agrees(patient):
            return record
    return await transaction.make_record(patient) if len(records) < MAX_SHARING else None


async def leave(transaction: AccessTransaction, record: Record | None) -> None:
    """Drops a record that is held if no case is of it any more, and its links, which is audited."""
    if record is None:
        return
    others = [each.id for each in await transaction.records_together([record.id]) if each.id != record.id]
    ended = await transaction.links_among([record.id]) if others else ()
    if not await transaction.renew_or_drop_record(record.id) or not others:
        return
    for link in ended:
        await transaction.record(
            ACTOR, "patient.unlinked", f"link:{link.id}", "done", reason="no case is of the record any more"
        )
    await transaction.say(*await settle_persons(transaction, others))
    await transaction.bump_revision()


async def settle_persons(
    transaction: AccessTransaction, records: Collection[RecordId]
) -> Sequence[SightChanged]:
    """Says whose each of these records is by the links; they are held, and all that links join is among them.

    Answers what is to be said of their cases: each may be seen beside others than before.
    """
    await transaction.save_persons(persons(records, await transaction.links_among(records)))
    cases = await transaction.cases_of_records(records, MAX_CASES)
    return [SightChanged(*each) for each in await transaction.bump_cases([case_id for case_id, *_ in cases])]
