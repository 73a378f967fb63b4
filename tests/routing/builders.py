"""Received studies and facilities with defaults, and ports of routing that answer what they are told."""

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID, uuid4

from kernel.dicom import UID
from kernel.errors import Conflict, ReadroomError
from kernel.healing import Said
from kernel.ids import CaseId, FacilityId, StudyId
from kernel.patient import Identity
from kernel.reach import Reach
from services.routing.domain import FIRST_PART, Facility, Model, Part, Study
from services.routing.moves import Ending, Move
from services.routing.usecases import Sight
from tests.clocks import NOON
from tests.healing import said

TAG = "InstitutionName"
EVERYWHERE = Reach(everywhere=True)

_numbers = itertools.count(1)


def a_uid() -> UID:
    return UID(f"1.2.826.0.1.{next(_numbers)}")


def a_facility(model: Model = Model.STANDARD, **changes: object) -> Facility:
    values: dict[str, object] = {
        "id": FacilityId(uuid4()),
        "name": f"Facility {next(_numbers)}",
        "time_zone": "UTC",
        "model": model,
        "mapping_tag": TAG if model is Model.HUB else None,
        "version": 1,
        **changes,
    }
    return Facility(**values)  # type: ignore[arg-type]


JANE = Identity(patient_id="P-1", patient_name="Doe^Jane")
JOHN = Identity(patient_id="P-2", patient_name="Roe^John")

Object = tuple[str, str | None] | tuple[str, str | None, Identity]
"""One object that was received: its Series Instance UID, its value of the mapping tag, its patient: Jane."""


def a_study(
    at: FacilityId,
    *objects: Object,
    study_id: StudyId | None = None,
    study_instance_uid: str | None = None,
    version: int = 1,
    settled: bool = False,
    tag: str = TAG,
    received_at: datetime = NOON,
) -> Study:
    """The snapshot of a study that received `objects` in order, as ingest keeps them in parts."""
    series: list[str] = []
    identities: list[Identity] = []
    parts: dict[tuple[Identity, str], list[int]] = {}
    for uid, value, *rest in objects:
        identity = rest[0] if rest else JANE
        assert isinstance(identity, Identity)
        if uid not in series:
            series.append(uid)
        if identity not in identities:
            identities.append(identity)
        parts.setdefault((identity, (value or "").strip()), []).append(series.index(uid) + 1)
    return Study(
        study_id or StudyId(uuid4()),
        version,
        UID(study_instance_uid) if study_instance_uid else a_uid(),
        at,
        settled,
        received_at,
        tag,
        tuple(
            Part(
                FIRST_PART + count,
                identities.index(identity) + 1,
                (value,) if value else (),
                tuple(sorted(set(ordinals))),
                len(ordinals),
            )
            for count, ((identity, value), ordinals) in enumerate(parts.items())
        ),
        dict(enumerate(identities, 1)),
        tuple(map(UID, series)),
    )


def of_series(study: Study) -> Study:
    """The same study as the version before received it: each series is a part."""
    uids = range(1, len(study.series_instance_uids) + 1)
    parts = []
    for ordinal in uids:
        having = [part for part in study.parts if ordinal in part.series]
        values = tuple(dict.fromkeys(value for part in having for value in part.mapping_values))
        parts.append(Part(ordinal, 1, values, (ordinal,), len(having)))
    return replace(study, parts=tuple(parts), identities={1: study.identities[1]})


@dataclass
class Permissions:
    """Where the acting user holds which permission, and which cases they see."""

    held: dict[str, Reach] = field(default_factory=dict)
    seen: dict[CaseId, Sight] = field(default_factory=dict)

    async def check(self, case_id: CaseId) -> Sight:
        return self.seen.get(case_id, Sight())

    async def reach(self, permission: str) -> Reach:
        return self.held.get(permission, Reach())


@dataclass
class Archive:
    """What ingest has, as far as routing asks: the newest snapshot of each study."""

    studies: dict[StudyId, Study] = field(default_factory=dict)
    page: int = 2
    deletions: dict[CaseId, datetime] = field(default_factory=dict)

    def add(self, study: Study) -> Study:
        self.studies[study.id] = study
        return study

    async def describe_study(self, study_id: StudyId, mapping_tag: str | None) -> Study | None:
        study = self.studies.get(study_id)
        if study is None or study.mapping_tag == mapping_tag:
            return study
        without = tuple(replace(part, mapping_values=()) for part in study.parts)
        return replace(study, mapping_tag=mapping_tag, parts=without)

    async def describe_deletion(self, case_id: CaseId) -> datetime | None:
        return self.deletions.get(case_id)

    async def studies_said(self, since: datetime | None, token: str) -> Said:
        return said([(each.id, each.version) for each in self.studies.values()])

    async def list_versions(self, after: UUID | None) -> list[tuple[UUID, int]]:
        ids = sorted(each for each in self.studies if after is None or each > after)
        return [(each, self.studies[each].version) for each in ids[: self.page]]


@dataclass
class Movers:
    """Access as far as moves ask it: it allows each, unless it is told why not."""

    begun: list[Move] = field(default_factory=list)
    previewed: list[Move] = field(default_factory=list)
    ending: Ending = field(default_factory=Ending)
    why_not: ReadroomError | None = None
    meanwhile: Callable[[Move], Awaitable[object]] | None = None

    async def begin_move(self, move: Move, *, preview: bool) -> Ending:
        if self.why_not is not None:
            raise self.why_not
        (self.previewed if preview else self.begun).append(move)
        if self.meanwhile is not None:
            await self.meanwhile(move)
        return self.ending

    async def begin_alone(self, move: Move, *, preview: bool) -> str:
        assert not move.by_hand
        try:
            return "" if await self.begin_move(move, preview=preview) else "never"
        except Conflict as refusal:
            return refusal.sentence
