"""Notify's owners as far as it asks them, as a test says; and a clock that a test sets."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from kernel.errors import Unavailable
from kernel.healing import Said
from kernel.ids import BucketId, CaseId, FacilityId, UserId
from kernel.language import Language
from kernel.reach import Reach
from services.notify.domain import Bucket, Exam, Person, Privilege, Users
from tests.clocks import NOON
from tests.healing import said

NORTH, SOUTH = FacilityId(uuid4()), FacilityId(uuid4())
OFFICE = "office@north.example"
LINK_BASE = "https://readroom.example/shared/"


@dataclass
class Owners:
    """Sharing and access: what each would answer now."""

    buckets: dict[BucketId, Bucket] = field(default_factory=dict)
    people: dict[UserId, Person] = field(default_factory=dict)
    privileges: list[Privilege] = field(default_factory=list)
    exams: dict[CaseId, Exam] = field(default_factory=dict)
    reaches: dict[str, Reach] = field(default_factory=dict)
    away: bool = False

    async def describe_bucket(self, bucket_id: BucketId) -> Bucket | None:
        self._answer()
        return self.buckets.get(bucket_id)

    async def describe_users(self, user_ids: Collection[UserId]) -> Users:
        self._answer()
        people = {each: self.people[each] for each in user_ids if each in self.people}
        return Users(people, [each for each in self.privileges if each.user_id in people])

    async def describe_cases(self, case_ids: Collection[CaseId]) -> Sequence[Exam]:
        self._answer()
        return [self.exams[each] for each in case_ids if each in self.exams]

    async def users_said(self, since: datetime | None, token: str) -> Said:
        self._answer()
        return said(sorted((person.id, person.version) for person in self.people.values()))

    async def user_versions(self, after: UUID | None) -> Sequence[tuple[UUID, int]]:
        self._answer()
        found = sorted((person.id, person.version) for person in self.people.values())
        return [each for each in found if after is None or each[0] > after][:500]

    async def reach(self, permission: str) -> Reach:
        return self.reaches.get(permission, Reach(False, frozenset()))

    def _answer(self) -> None:
        if self.away:
            raise Unavailable("`sharing` does not answer")

    # What a test arranges

    def person(self, name: str, **changes: Any) -> Person:
        values: dict[str, Any] = {
            "id": UserId(uuid4()),
            "version": 1,
            "name": name,
            "active": True,
            "email": f"{''.join(name.split()[-1:]).lower()}@clinic.example",
            "language": Language.EN,
        }
        made = Person(**values | changes)
        self.people[made.id] = made
        return made

    def exam(
        self, initials: str = "J.D.", description: str = "CT thorax", day: Any = date(2026, 10, 30)
    ) -> CaseId:
        case_id = CaseId(uuid4())
        self.exams[case_id] = Exam(initials, description, day)
        return case_id

    def bucket(self, recipient: Person | None = None, sender: Person | None = None, **changes: Any) -> Bucket:
        values: dict[str, Any] = {
            "id": BucketId(uuid4()),
            "facility_id": NORTH,
            "sender_id": (sender or self.person("Dr Ada Vos")).id,
            "recipient_id": (recipient or self.person("Dr Jane Roe")).id,
            "case_ids": changes.pop("case_ids", None) or (self.exam(),),
            "mail_due": True,
            "urgent": False,
            "message": "",
            "language": Language.EN,
            "link": "L" * 43,
            "ends_at": NOON + timedelta(days=30),
        }
        made = Bucket(**values | changes)
        self.buckets[made.id] = made
        return made

    def privilege(self, person: Person, expires_at: datetime, facility_id: FacilityId = NORTH) -> Privilege:
        """Gives it, or renews the one at that facility."""
        self.privileges = [
            each for each in self.privileges if (each.user_id, each.facility_id) != (person.id, facility_id)
        ]
        made = Privilege(person.id, facility_id, "North", expires_at.date(), expires_at)
        self.privileges.append(made)
        self.bump(person)
        return made

    def bump(self, person: Person, **changes: Any) -> Person:
        person = self.people[person.id]
        self.people[person.id] = replace(person, version=person.version + 1, **changes)
        return self.people[person.id]
