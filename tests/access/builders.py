"""Users, cases and their owners with defaults, and the entries of tests/cases/privileges.yaml."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import yaml

from kernel.healing import Said
from kernel.ids import BucketId, CaseId, FacilityId, MoveId, StudyId, UserId
from kernel.reading import PrivilegeLevel, ReadType, Side
from services.access.buckets import Bucket, Standing, Terms
from services.access.caseindex import Placement
from services.access.domain import (
    ROLES,
    ConfirmedStudy,
    Facility,
    Permission,
    PermissionGrant,
    Privilege,
    Role,
    User,
)
from services.access.privileges import checked_privilege
from services.access.reading import NOT_READ, Lock, Projection, Reading
from services.access.received import FIRST_PART, ReceivedPart, ReceivedStudy, StudyAttributes
from tests.clocks import NOON
from tests.healing import said

CASES = Path(__file__).parents[1] / "cases" / "privileges.yaml"

# What Check answers is the half of these rows that exists; reporting brings the other.
_PARTLY = {"ACC-6", "ACC-7", "ACC-8", "ACC-9", "ACC-10", "ACC-13"}

_numbers = itertools.count(1)


def a_facility(name: str = "", time_zone: str = "UTC", **changes: Any) -> Facility:
    name = name or f"Facility {next(_numbers)}"
    values: dict[str, Any] = {"id": uuid4(), "name": name, "time_zone": time_zone, "version": 1}
    return Facility(**values | changes)


def a_user(role: Role = Role.RADIOLOGIST, **changes: Any) -> User:
    number = next(_numbers)
    permissions = frozenset(PermissionGrant(each) for each in ROLES[role].defaults)
    values: dict[str, Any] = {
        "id": UserId(uuid4()),
        "login": f"user{number}",
        "name": f"User {number}",
        "role": role,
        "active": True,
        "permissions": permissions,
        "home_facility_id": FacilityId(uuid4()) if ROLES[role].at_home else None,
        "version": 1,
    }
    return User(**values | changes)


def a_part(number: int = FIRST_PART, **changes: Any) -> ReceivedPart:
    """One image of a CT, with the study's first attributes."""
    values: dict[str, Any] = {
        "number": number,
        "attribute_set": 1,
        "modalities": ("CT",),
        "modalities_left_out": 0,
        "series": (1,),
        "instance_count": 1,
        "received_at": NOON,
    }
    return ReceivedPart(**values | changes)


def a_study(*series: tuple[str, str, int] | ReceivedPart, **changes: Any) -> ReceivedStudy:
    """A study of these parts, or of these series, each a part: UID, modality and number of instances."""
    received_at = changes.get("received_at", NOON)
    parts, uids = [], []
    for ordinal, each in enumerate(series or [("1.2.3", "CT", 1)], start=1):
        if isinstance(each, ReceivedPart):
            parts.append(each)
            continue
        uid, modality, count = each
        uids.append(uid)
        parts.append(
            a_part(
                FIRST_PART + ordinal - 1,
                modalities=(modality,) if modality else (),
                series=(ordinal,),
                instance_count=count,
                received_at=received_at,
            )
        )
    values: dict[str, Any] = {
        "id": StudyId(uuid4()),
        "received_at": received_at,
        "settled": False,
        "attribute_sets": {1: changes.pop("attributes", StudyAttributes(patient_name="Doe^Jane"))},
        "parts": tuple(parts),
        "series_instance_uids": tuple(uids),
        "version": 1,
    }
    return ReceivedStudy(**values | changes)


def a_placement(
    facility_id: FacilityId, *studies: ReceivedStudy | ConfirmedStudy, **changes: Any
) -> Placement:
    """Where all parts of the studies belong, unless it is said which do."""
    values: dict[str, Any] = {
        "case_id": CaseId(uuid4()),
        "facility_id": facility_id,
        "study_instance_uid": f"1.2.826.0.1.{next(_numbers)}",
        "undistributed": False,
        "studies": tuple(
            each if isinstance(each, ConfirmedStudy) else confirmed(each, *each.parts) for each in studies
        ),
        "placed_at": NOON,
        "version": 1,
    }
    return Placement(**values | changes)


def confirmed(study: ReceivedStudy, *parts: ReceivedPart) -> ConfirmedStudy:
    """A study of which these parts belong."""
    return ConfirmedStudy(study.id, None, tuple(part.number for part in parts))


def a_bucket(recipient: User, *case_ids: CaseId, **changes: Any) -> Bucket:
    """A bucket that gives sight, unless it is said otherwise."""
    standing: dict[str, Any] = {
        "bucket_id": BucketId(uuid4()),
        "version": 0,
        "is_open": True,
        "ends_at": NOON + timedelta(days=30),
    }
    terms: dict[str, Any] = {
        "sender_id": recipient.id,
        "recipient_id": recipient.id,
        "facility_id": FacilityId(uuid4()),
        "case_ids": frozenset(case_ids),
        "two_factor": False,
        "write_report": False,
        "allow_further_sharing": False,
        "parent_id": None,
    }
    assert not set(changes) - set(standing | terms)
    return Bucket(
        Standing(**{name: changes.get(name, value) for name, value in standing.items()}),
        Terms(**{name: changes.get(name, value) for name, value in terms.items()}),
    )


def a_lock(name: str = "Dr. Roe", **changes: Any) -> Lock:
    values: dict[str, Any] = {
        "holder_login": name.lower(),
        "holder_name": name,
        "ends_at": NOON + timedelta(minutes=10),
        "since": NOON - timedelta(minutes=5),
    }
    return Lock(**values | changes)


def a_reading(
    case_id: CaseId, group: Projection = NOT_READ, facility: Projection | None = None, version: int = 1
) -> Reading:
    """What was written about a case; both sides see the same unless it is said what the facility sees."""
    sides = {Side.GROUP: group, Side.FACILITY: group if facility is None else facility}
    return Reading(case_id, sides, version)


@dataclass
class Owners:
    """What routing, ingest and reporting have, as far as access asks."""

    facilities: dict[UUID, Facility] = field(default_factory=dict)
    placements: dict[UUID, Placement] = field(default_factory=dict)
    studies: dict[UUID, ReceivedStudy] = field(default_factory=dict)
    readings: dict[UUID, Reading] = field(default_factory=dict)
    deletions: set[UUID] = field(default_factory=set)
    made: set[UUID] = field(default_factory=set)
    given_up: set[UUID] = field(default_factory=set)
    asked: list[UUID] = field(default_factory=list)

    def add(self, *things: Facility | Placement | ReceivedStudy | Reading) -> None:
        for thing in things:
            match thing:
                case Facility():
                    self.facilities[thing.id] = thing
                case Placement():
                    self.placements[thing.case_id] = thing
                case ReceivedStudy():
                    self.studies[thing.id] = thing
                case Reading():
                    self.readings[thing.case_id] = thing

    async def describe_facility(self, facility_id: FacilityId) -> Facility | None:
        return self.facilities.get(facility_id)

    async def describe_placement(self, case_id: CaseId) -> Placement | None:
        return self.placements.get(case_id)

    async def describe_study(self, study_id: StudyId) -> ReceivedStudy | None:
        self.asked.append(study_id)
        return self.studies.get(study_id)

    async def describe_reading(self, case_id: CaseId) -> Reading | None:
        return self.readings.get(case_id)

    async def is_deleted(self, case_id: CaseId) -> bool:
        return case_id in self.deletions

    async def end_move(self, move_id: MoveId) -> bool:
        if move_id not in self.made:
            self.given_up.add(move_id)
        return move_id in self.made

    async def facilities_said(self, since: datetime | None, token: str) -> Said:
        return said(_page(self.facilities, None))

    async def placements_said(self, since: datetime | None, token: str) -> Said:
        return said(_page(self.placements, None))

    async def studies_said(self, since: datetime | None, token: str) -> Said:
        return said(_page(self.studies, None))

    async def readings_said(self, since: datetime | None, token: str) -> Said:
        return said(_page(self.readings, None))

    async def facility_versions(self, after: UUID | None) -> list[tuple[UUID, int]]:
        return _page(self.facilities, after)

    async def placement_versions(self, after: UUID | None) -> list[tuple[UUID, int]]:
        return _page(self.placements, after)

    async def study_versions(self, after: UUID | None) -> list[tuple[UUID, int]]:
        return _page(self.studies, after)

    async def reading_versions(self, after: UUID | None) -> list[tuple[UUID, int]]:
        return _page(self.readings, after)


def _page(things: Mapping[UUID, Any], after: UUID | None) -> list[tuple[UUID, int]]:
    ids = sorted(each for each in things if after is None or each > after)
    return [(each, things[each].version) for each in ids[:500]]


@dataclass(frozen=True)
class PrivilegeCase:
    """An entry of privileges.yaml."""

    entry: dict[str, Any]

    @property
    def role(self) -> Role:
        return Role(self.entry["role"])

    @property
    def now(self) -> datetime:
        now: datetime = self.entry.get("now", NOON)
        return now

    def privilege(self, where: str = "privilege") -> Privilege | None:
        if where not in self.entry:
            return None
        level = PrivilegeLevel[self.entry[where].upper()]
        if where == "elsewhere":
            return checked_privilege(level, None, frozenset())
        read_types = frozenset(ReadType(each) for each in self.entry.get("read_types", ()))
        expires_on: date | None = self.entry.get("expires_on")
        return checked_privilege(level, expires_on, read_types)

    def permissions(self, places: Mapping[str, FacilityId]) -> frozenset[PermissionGrant]:
        def grant(text: str) -> PermissionGrant:
            permission, _, place = text.partition(" at ")
            return PermissionGrant(Permission(permission), places[place] if place else None)

        held = {PermissionGrant(each) for each in ROLES[self.role].defaults}
        held |= set(map(grant, self.entry.get("with", ())))
        return frozenset(held - set(map(grant, self.entry.get("without", ()))))

    @property
    def expected(self) -> dict[str, Any] | None:
        sees = self.entry["sees"]
        return None if sees is False else {"read_types": [], **sees}


def privilege_cases() -> list[Any]:
    """Each entry as a parameter that proves its rows."""
    entries = yaml.safe_load(CASES.read_text())
    return [
        pytest.param(
            PrivilegeCase(entry),
            id=entry["case"],
            marks=[
                pytest.mark.proves(row, part="what Check answers")
                if row in _PARTLY
                else pytest.mark.proves(row)
                for row in entry["rows"]
            ],
        )
        for entry in entries
    ]
