"""The services that sharing asks: access, which alone decides and keeps sight; notify, which sends texts."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from uuid import UUID

import grpc

from kernel.ids import CaseId, FacilityId, UserId
from kernel.language import Language
from kernel.reach import Reach
from plumbing import answers, permitted
from services.sharing.domain import Change, Owner, Prospect, Rights, Share, Sight, User
from services.sharing.otp import Redeemed
from wire.access.v1 import access_pb2 as pb
from wire.access.v1 import access_pb2_grpc
from wire.notify.v1 import notify_pb2, notify_pb2_grpc

# A language that only access knows counts as English.
LANGUAGES: dict[pb.Language.ValueType, Language] = {
    pb.LANGUAGE_EN: Language.EN,
    pb.LANGUAGE_NL: Language.NL,
    pb.LANGUAGE_FR: Language.FR,
    pb.LANGUAGE_DE: Language.DE,
}

LANGUAGE_VALUES = {language: value for value, language in LANGUAGES.items()}


@answers.of("access")
class AccessClient:
    """Asks access; for the acting user, where it may, by their token that the channel forwards."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._access = access_pb2_grpc.AccessServiceStub(channel)

    async def prepare_grant(self, case_ids: Sequence[CaseId], logins: Sequence[str]) -> Prospect:
        request = pb.PrepareGrantRequest(case_ids=map(str, case_ids), logins=logins)
        answer = await self._access.PrepareGrant(request)
        sights = _sights(answer.decisions, len(case_ids))
        return Prospect(sights, answer.may_share, _owners(answer.cases), _users(answer.users))

    async def check_many(self, case_ids: Sequence[CaseId]) -> Sequence[Sight]:
        answer = await self._access.CheckMany(pb.CheckManyRequest(case_ids=map(str, case_ids)))
        return _sights(answer.decisions, len(case_ids))

    async def reach(self, permission: str) -> Reach:
        return await permitted.reach(self._access, permission)

    async def holds(self, permission: str, facility_id: FacilityId) -> bool:
        return await permitted.holds_at(self._access, permission, facility_id)

    async def grant(self, share: Share) -> str:
        (ends_at,) = {bucket.ends_at for bucket in share.buckets}
        request = pb.GrantBucketsRequest(
            case_ids=map(str, share.case_ids),
            grants=[
                pb.GrantBucketsRequest.Grant(
                    bucket_id=str(bucket.id),
                    recipient_login=bucket.recipient_login,
                    two_factor=bucket.two_factor,
                )
                for bucket in share.buckets
            ],
            write_report=share.rights is Rights.WRITE_REPORT,
            allow_further_sharing=share.allow_further_sharing,
            parent_bucket_id=str(share.parent_bucket_id or ""),
        )
        if ends_at:
            request.ends_at.FromDatetime(ends_at)
        return (await self._access.GrantBuckets(request)).revision

    async def change(self, changes: Sequence[Change]) -> str:
        request = pb.ChangeBucketsRequest(changes=map(_change, changes))
        return (await self._access.ChangeBuckets(request)).revision

    async def extend(self, change: Change) -> str:
        request = pb.ExtendBucketRequest(change=_change(change))
        return (await self._access.ExtendBucket(request)).revision

    async def register(self, redeemed: Redeemed) -> Collection[CaseId] | None:
        request = pb.RegisterSessionRequest(
            bucket_id=str(redeemed.bucket_id),
            session=redeemed.session,
            contact_version=redeemed.contact_version,
        )
        answer = await self._access.RegisterSession(request)
        if not answer.HasField("shown"):
            return None
        return [CaseId(UUID(each)) for each in answer.shown.case_ids]

    async def users(self, logins: Collection[str]) -> Mapping[str, User]:
        return _users((await self._access.DescribeUsers(pb.DescribeUsersRequest(logins=logins))).users)

    async def is_deleted(self, case_id: CaseId) -> bool:
        return (await self._access.CheckDeletion(pb.CheckDeletionRequest(case_id=str(case_id)))).begun

    async def owners(self, case_ids: Collection[CaseId]) -> Mapping[CaseId, Owner]:
        answer = await self._access.DescribeCases(pb.DescribeCasesRequest(case_ids=map(str, case_ids)))
        return _owners(answer.cases)


def _sights(decisions: Sequence[pb.Decision], asked: int) -> Sequence[Sight]:
    return [
        Sight(
            decision.allowed,
            pb.PATH_PRIVILEGE in decision.paths,
            FacilityId(UUID(decision.facility_id)) if decision.facility_id else None,
        )
        for decision in answers.as_many(decisions, asked)
    ]


def _owners(cases: Iterable[pb.CaseSummary]) -> Mapping[CaseId, Owner]:
    return {
        CaseId(UUID(each.case_id)): Owner(FacilityId(UUID(each.facility_id)), each.time_zone)
        for each in cases
    }


def _users(users: Iterable[pb.User]) -> Mapping[str, User]:
    return {
        user.login: User(
            id=UserId(UUID(user.user_id)),
            login=user.login,
            name=user.name,
            active=user.active,
            language=LANGUAGES.get(user.language, Language.EN),
            email=user.email,
            mobile_number=user.mobile_number,
            # An access of the version before tells none: nobody's contact has changed for it.
            contact_version=user.contact_version or 1,
        )
        for user in users
    }


def _change(change: Change) -> pb.ChangeBucketsRequest.Change:
    told = pb.ChangeBucketsRequest.Change(
        bucket_id=str(change.bucket_id), version=change.version, open=change.open, ended=change.ended
    )
    if change.ends_at:
        told.ends_at.FromDatetime(change.ends_at)
    return told


@answers.of("notify")
class NotifyClient:
    """Hands texts over, and says where they go."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._notify = notify_pb2_grpc.NotifyServiceStub(channel)

    async def send(self, mobile_number: str, code: str, language: Language) -> None:
        await self._notify.SendText(
            notify_pb2.SendTextRequest(
                mobile_number=mobile_number, code=code, language=LANGUAGE_VALUES[language]
            )
        )

    async def served(self, mobile_numbers: Sequence[str]) -> tuple[Sequence[bool], Sequence[str]]:
        request = notify_pb2.CheckNumbersRequest(mobile_numbers=mobile_numbers)
        answer = await self._notify.CheckNumbers(request)
        return answers.as_many(answer.served, len(mobile_numbers)), answer.countries
