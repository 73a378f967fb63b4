"""Received studies and facilities with defaults, and ports of routing that answer what they are told."""

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid4

from kernel.dicom import UID
from kernel.errors import ReadroomError
from kernel.ids import CaseId, FacilityId, StudyId
from services.routing.domain import Facility, MappingValue, Model, Reach, Series, Study
from services.routing.moves import Ending, Move
from tests.clocks import NOON

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


def a_study(
    at: FacilityId,
    *objects: tuple[str, str | None],
    study_id: StudyId | None = None,
    study_instance_uid: str | None = None,
    version: int = 1,
    settled: bool = False,
    tag: str = TAG,
    received_at: datetime = NOON,
) -> Study:
    """The snapshot of a study that received `objects`, each a Series Instance UID and a value, in order."""
    series: dict[str, list[MappingValue]] = {}
    for ordinal, (uid, value) in enumerate(objects, 1):
        values = series.setdefault(uid, [])
        if value and value.strip() and value not in [each.value for each in values]:
            values.append(MappingValue(tag, value, ordinal))
    return Study(
        study_id or StudyId(uuid4()),
        version,
        UID(study_instance_uid) if study_instance_uid else a_uid(),
        at,
        settled,
        tuple(Series(UID(uid), tuple(values)) for uid, values in series.items()),
        received_at,
    )


@dataclass
class Permissions:
    """Where the acting user holds which permission."""

    held: dict[str, Reach] = field(default_factory=dict)

    async def check_permission(self, permission: str) -> Reach:
        return self.held.get(permission, Reach(everywhere=False))


@dataclass
class Archive:
    """What ingest has, as far as routing asks: the newest snapshot of each study."""

    studies: dict[StudyId, Study] = field(default_factory=dict)
    page: int = 2
    deletions: dict[CaseId, datetime] = field(default_factory=dict)

    def add(self, study: Study) -> Study:
        self.studies[study.id] = study
        return study

    async def describe_study(self, study_id: StudyId) -> Study | None:
        return self.studies.get(study_id)

    async def describe_deletion(self, case_id: CaseId) -> datetime | None:
        return self.deletions.get(case_id)

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
