"""The services that notify asks: sharing for buckets, access for users, cases and permissions."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import date, datetime
from typing import Generic, TypeVar
from uuid import UUID

import grpc

from kernel.errors import Exhausted, NotFound
from kernel.events import UserChanged
from kernel.healing import Said
from kernel.ids import BucketId, CaseId, FacilityId, UserId
from kernel.language import Language
from kernel.reach import Reach
from plumbing import answers, permitted
from plumbing.toldagain import FactsClient
from services.notify.domain import Bucket, Exam, Person, Privilege, Users, study_date
from wire.access.v1 import access_pb2, access_pb2_grpc
from wire.sharing.v1 import sharing_pb2, sharing_pb2_grpc

LANGUAGES: dict[int, Language] = {
    access_pb2.Language.Value(f"LANGUAGE_{each.name}"): each for each in Language
}
"""Who has not chosen is written to in English."""


DESCRIBED_AT_ONCE = 100
"""Users or cases in one question, as many as access answers."""

Key = TypeVar("Key")
Answer = TypeVar("Answer")


class Joined(Generic[Key, Answer]):
    """Asks one question for all who ask while the one before is under way.

    So an answer is never older than who asked for it, and a backlog costs a fraction of the calls.
    """

    def __init__(self, ask: Callable[[Collection[Key]], Awaitable[Answer]], at_most: int) -> None:
        self._ask = ask
        self._at_most = at_most
        self._one_at_a_time = asyncio.Lock()
        self._keys: set[Key] | None = None
        self._answer: asyncio.Task[Answer]

    async def ask(self, keys: Collection[Key]) -> Answer:
        """What is known of the keys, and maybe of others."""
        if self._keys is None or len(self._keys.union(keys)) > self._at_most:
            self._keys = set()
            self._answer = asyncio.create_task(self._asked(self._keys))
            # Looked at, also where all who asked have given up: else its failure is told as one of ours.
            self._answer.add_done_callback(lambda task: task.cancelled() or task.exception())
        self._keys.update(keys)
        return await asyncio.shield(self._answer)  # who gives up does not take it from the others

    async def _asked(self, keys: set[Key]) -> Answer:
        async with self._one_at_a_time:
            if self._keys is keys:
                self._keys = None
            return await self._ask(keys)


@answers.of("sharing")
class SharingClient:
    """Asks sharing what a mail needs of a bucket."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._sharing = sharing_pb2_grpc.SharingServiceStub(channel)

    async def describe_bucket(self, bucket_id: BucketId) -> Bucket | None:
        try:
            answer = await self._sharing.DescribeBucket(
                sharing_pb2.DescribeBucketRequest(bucket_id=str(bucket_id))
            )
        except NotFound:
            return None
        return Bucket(
            id=BucketId(UUID(answer.bucket_id)),
            facility_id=FacilityId(UUID(answer.facility_id)),
            sender_id=UserId(UUID(answer.sender_user_id)),
            recipient_id=UserId(UUID(answer.recipient_user_id)),
            case_ids=tuple(CaseId(UUID(each)) for each in answer.case_ids),
            mail_due=answer.mail_due,
            urgent=answer.urgent,
            message=answer.message,
            language=LANGUAGES.get(answer.language, Language.EN),
            link=answer.link,
            ends_at=answers.instant(answer, "ends_at") if answer.HasField("ends_at") else None,
        )


@answers.of("access")
class AccessClient:
    """Asks access: about permissions for the acting user, whose token is forwarded, else for notify."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._access = access_pb2_grpc.AccessServiceStub(channel)
        self._facts = FactsClient(channel)
        self._users = Joined(self._describe_users, DESCRIBED_AT_ONCE)
        self._cases = Joined(self._describe_cases, DESCRIBED_AT_ONCE)

    async def describe_users(self, user_ids: Collection[UserId]) -> Users:
        found = await self._users.ask(user_ids)
        return Users(
            {each: found.people[each] for each in user_ids if each in found.people},
            [each for each in found.privileges if each.user_id in user_ids],
        )

    async def describe_cases(self, case_ids: Collection[CaseId]) -> Sequence[Exam]:
        if not case_ids:
            return []
        found = await self._cases.ask(case_ids)
        return [found[each] for each in case_ids if each in found]

    async def _describe_users(self, user_ids: Collection[UserId]) -> Users:
        asked = sorted(str(each) for each in user_ids)
        try:
            answer = await self._access.DescribeUsers(access_pb2.DescribeUsersRequest(user_ids=asked))
        except Exhausted:
            if len(asked) == 1:
                raise
            half = len(asked) // 2
            first, second = [
                await self._describe_users([UserId(UUID(each)) for each in part])
                for part in (asked[:half], asked[half:])
            ]
            return Users({**first.people, **second.people}, [*first.privileges, *second.privileges])
        people = {UserId(UUID(user.user_id)): _person(user) for user in answer.users}
        privileges = [_privilege(each) for each in answer.privileges if each.HasField("expires_at")]
        return Users(people, privileges)

    async def _describe_cases(self, case_ids: Collection[CaseId]) -> Mapping[CaseId, Exam]:
        answer = await self._access.DescribeCases(
            access_pb2.DescribeCasesRequest(case_ids=[str(each) for each in case_ids])
        )
        return {
            CaseId(UUID(case.case_id)): Exam(
                case.patient_initials, case.study_description, study_date(case.study_date)
            )
            for case in answer.cases
        }

    async def users_said(self, since: datetime | None, token: str) -> Said:
        return await self._facts.said([UserChanged], since, token)

    async def user_versions(self, after: UUID | None) -> list[tuple[UUID, int]]:
        answer = await self._access.ListVersions(
            access_pb2.ListVersionsRequest(after_user_id=str(after or ""))
        )
        return [(UUID(each.user_id), each.version) for each in answer.versions]

    async def reach(self, permission: str) -> Reach:
        return await permitted.reach(self._access, permission)


def _person(user: access_pb2.User) -> Person:
    return Person(
        id=UserId(UUID(user.user_id)),
        version=user.version,
        name=user.name,
        active=user.active,
        email=user.email,
        language=LANGUAGES.get(user.language, Language.EN),
        is_operator=user.role == access_pb2.ROLE_OPERATOR,
    )


def _privilege(privilege: access_pb2.Privilege) -> Privilege:
    return Privilege(
        user_id=UserId(UUID(privilege.user_id)),
        facility_id=FacilityId(UUID(privilege.facility_id)),
        facility_name=privilege.facility_name,
        expires_on=date.fromisoformat(privilege.expires_on),
        expires_at=answers.instant(privilege, "expires_at"),
    )
