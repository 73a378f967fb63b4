"""What a person is told who has to decide on something that waits: what was received, and of which patient.

Routing knows what waits, and no patient; who asks here has its list and names what is on it. Each answer
leaves one audit row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from kernel.database import Database
from kernel.errors import Denied, Invalid, NotFound, lacks
from kernel.ids import CaseId, FacilityId, StudyId
from services.ingest.domain import PartName, Sight, Study
from services.ingest.gateway import Gateway
from services.ingest.parts import MAX_MODALITIES, Part, StudyInParts

if TYPE_CHECKING:
    from services.ingest.store import IngestTransaction

MAX_ASKED = 100
MAX_VALUES = 8
WHOLE = 0
"""In place of the number of a part: the study as a whole."""
FACILITY_ADMIN, CORRECT_STUDY, DELETE_STUDY = "facility.admin", "study.correct", "study.delete"
DESCRIBED = "held_parts.described"


@dataclass(frozen=True, slots=True)
class Holding:
    """What somebody is at a facility.

    Attributes:
        holds: whether they hold the permission that was asked about.
        sees_cases: whether they see its cases by privilege.
    """

    holds: bool = False
    sees_cases: bool = False


@dataclass(frozen=True, slots=True)
class Patient:
    """What of a part only who may know the patient is told.

    Attributes:
        identities: by number; none where nobody can say which.
        attributes: what its instances say of the study.
    """

    identities: Mapping[int, Mapping[str, str]]
    attributes: Mapping[str, str]
    modalities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HeldPart:
    """A part of a received study, or a study as a whole, as its asker may see it.

    Attributes:
        number: of the part; 0: the study as a whole.
        patient: none where the asker may not know it.
    """

    study: Study
    number: int
    gateway: Gateway
    instance_count: int
    mapping_tag: str
    mapping_values: tuple[str, ...]
    patient: Patient | None


def held_part(
    found: StudyInParts,
    parts: Sequence[Part],
    number: int,
    gateway: Gateway,
    tag: str,
    *,
    shows_patient: bool,
) -> HeldPart:
    """What is told of a part, or of the study as a whole: then `parts` are several."""
    received_at = min(part.received_at for part in parts)
    values = dict.fromkeys(value for part in parts for value in part.mapping_values)
    named = {part.identity for part in parts}
    patient = Patient(
        {number: identity for number, identity in found.identities.items() if number in named},
        found.attribute_sets.get(parts[0].attribute_set, {}),
        tuple(sorted({modality for part in parts for modality in part.modalities}))[:MAX_MODALITIES],
    )
    return HeldPart(
        replace(found.study, received_at=received_at),
        number,
        gateway,
        sum(part.instance_count for part in parts),
        tag,
        tuple(values)[:MAX_VALUES],
        patient if shows_patient else None,
    )


class Access(Protocol):
    """The service access, asked on behalf of the acting user."""

    async def holding(self, permission: str, facility_id: FacilityId) -> Holding:
        """Raises NotFound for no facility, as for one where they hold nothing."""
        ...

    async def sight(self, case_id: CaseId) -> Sight | None:
        """The case as they see it; None if they see no such case."""
        ...


class Routing(Protocol):
    """The service routing, asked by ingest itself."""

    async def mapping_tag(self, facility_id: FacilityId) -> str:
        """The mapping tag of a hub; none if it is none, or gone."""
        ...

    async def undecided(self, case_id: CaseId) -> Sequence[PartName]:
        """Parts of a case that are held because they may show another patient."""
        ...

    async def check_held(self, names: Sequence[PartName]) -> Sequence[PartName]:
        """Those of these parts and studies that wait for a person."""
        ...


class HeldParts:
    """Describes what waits for a person."""

    def __init__(self, database: Database[IngestTransaction], access: Access, routing: Routing) -> None:
        self._database = database
        self._access = access
        self._routing = routing

    async def describe_held_parts(
        self, actor: str, case_id: CaseId | None, names: Sequence[PartName]
    ) -> Sequence[HeldPart]:
        """What is held of a case; without one, what is held of these parts and studies."""
        if case_id is not None:
            return await self._of_case(actor, case_id)
        return await self._named(actor, names)

    async def _of_case(self, actor: str, case_id: CaseId) -> Sequence[HeldPart]:
        """The parts of a case that may show another patient, to who may decide on them.

        Raises NotFound for a case that they do not see; Denied if they may not decide.
        """
        async with self._database.audited(actor, DESCRIBED, f"case:{case_id}"):
            sight = await self._access.sight(case_id)
            if sight is None:
                raise NotFound("there is no such case, or you do not see it", field="case_id")
            if not sight.by_privilege:
                raise Denied(
                    "to know what is held of a case, you must see it by a privilege of yours at its facility"
                )
            for permission in (CORRECT_STUDY, DELETE_STUDY):
                if (await self._access.holding(permission, sight.facility_id)).holds:
                    break
            else:
                raise lacks(CORRECT_STUDY, DELETE_STUDY, at=f"`{sight.facility_id}`")
        names = list(await self._routing.undecided(case_id))[:MAX_ASKED]
        facilities = await self._facilities(names)
        holdings = dict.fromkeys(facilities.values(), Holding(holds=True, sees_cases=True))
        return await self._describe(actor, f"case:{case_id}", names, facilities, holdings)

    async def _named(self, actor: str, names: Sequence[PartName]) -> Sequence[HeldPart]:
        """Those of these parts and studies that wait, to who administers their receiving facilities.

        The others are left out: what waits no more is a case of a facility that is perhaps not theirs.
        """
        if not 1 <= len(names) <= MAX_ASKED:
            raise Invalid(f"name 1 to {MAX_ASKED} parts (`parts`)", field="parts")
        facilities = await self._facilities(names)
        holdings = {each: await self._holding(each) for each in dict.fromkeys(facilities.values())}
        theirs = [
            name for name in names if (at := facilities.get(name[0])) is not None and holdings[at].holds
        ]
        names = await self._routing.check_held(theirs) if theirs else ()
        return await self._describe(actor, "held_parts", names, facilities, holdings)

    async def _facilities(self, names: Sequence[PartName]) -> Mapping[StudyId, FacilityId]:
        async with self._database.statements() as statements:
            return await statements.receiving_facilities({study_id for study_id, _ in names})

    async def _holding(self, facility_id: FacilityId) -> Holding:
        try:
            return await self._access.holding(FACILITY_ADMIN, facility_id)
        except NotFound:
            return Holding()

    async def _describe(
        self,
        actor: str,
        object_: str,
        names: Sequence[PartName],
        facilities: Mapping[StudyId, FacilityId],
        holdings: Mapping[FacilityId, Holding],
    ) -> Sequence[HeldPart]:
        tags = {
            each: await self._routing.mapping_tag(each) for each, holding in holdings.items() if holding.holds
        }
        told: dict[PartName, HeldPart] = {}
        async with self._database.transaction() as transaction:
            for study_id, facility_id in facilities.items():
                if facility_id not in tags:
                    continue
                tag, shows_patient = tags[facility_id], holdings[facility_id].sees_cases
                asked = {number for each, number in names if each == study_id}
                # The study as a whole is one look, and the named parts of it are another.
                for numbers in (asked & {WHOLE}, asked - {WHOLE}):
                    if not numbers:
                        continue
                    found = await transaction.study_in_parts(study_id, tag, 0, only=numbers - {WHOLE})
                    if found is None:
                        continue
                    gateway = await transaction.gateway(found.study.gateway_id)
                    assert gateway is not None, "a study refers to its gateway"
                    for number in numbers:
                        parts = [each for each in found.parts if number in (WHOLE, each.number)]
                        if parts:
                            told[study_id, number] = held_part(
                                found, parts, number, gateway, tag, shows_patient=shows_patient
                            )
            described = [told[name] for name in dict.fromkeys(names) if name in told]
            if described:
                await transaction.record(
                    actor,
                    DESCRIBED,
                    object_,
                    "done",
                    parts=" ".join(f"{each.study.study_id}/{each.number}" for each in described),
                    patients=sum(each.patient is not None for each in described),
                )
        return described
