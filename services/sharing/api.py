"""SharingService: proto to domain and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import grpc

from kernel.errors import Invalid
from kernel.ids import BucketId, CaseId, FacilityId, ShareId, parse_id
from kernel.language import Language
from plumbing import pages
from plumbing.callers import acting_login, acting_session
from plumbing.rpc import Server
from plumbing.timestamps import timestamp
from services.sharing.codes import Codes
from services.sharing.domain import Bucket, Received, Rights, Share, State
from services.sharing.extending import Extending
from services.sharing.inbox import Inbox
from services.sharing.policies import Policies
from services.sharing.usecases import Shares
from services.sharing.validity import Policy, Validity
from services.sharing.wanted import Recipient, Wanted
from wire.access.v1 import access_pb2
from wire.sharing.v1 import sharing_pb2 as pb
from wire.sharing.v1 import sharing_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

DEFAULT_PAGE_SIZE = 50
# A longer page is cut off here, so that the longest shares that there may be fit into one answer.
SHARES_PAGE_SIZE = 100
RECEIVED_PAGE_SIZE = 250

LANGUAGE_VALUES = {each: access_pb2.Language.Value(f"LANGUAGE_{each.name}") for each in Language}
LANGUAGES: dict[int, Language | None] = {
    access_pb2.LANGUAGE_UNSPECIFIED: None,
    **{value: each for each, value in LANGUAGE_VALUES.items()},
}
RIGHTS_VALUES = {each: pb.Rights.Value(f"RIGHTS_{each.name}") for each in Rights}
RIGHTS: dict[int, Rights] = {value: each for each, value in RIGHTS_VALUES.items()}
STATE_VALUES = {each: pb.Bucket.State.Value(f"STATE_{each.name}") for each in State}


@dataclass(frozen=True, slots=True)
class SharingApi(sharing_pb2_grpc.SharingServiceServicer):
    """The servicer."""

    shares: Shares
    extending: Extending
    inbox: Inbox
    codes: Codes
    policies: Policies

    async def PrepareShare(  # noqa: N802
        self, request: pb.PrepareShareRequest, context: Context
    ) -> pb.PrepareShareResponse:
        prepared = await self.shares.prepare_share(_actor(), _case_ids(request.case_ids), request.logins)
        return pb.PrepareShareResponse(
            language=LANGUAGE_VALUES[prepared.language],
            valid_till=prepared.valid_till.isoformat(),
            valid_till_at_most=prepared.valid_till_at_most.isoformat() if prepared.valid_till_at_most else "",
            unlimited_allowed=prepared.unlimited_allowed,
            two_factor=prepared.preferences.two_factor,
            send_mail=prepared.preferences.send_mail,
        )

    async def Share(self, request: pb.ShareRequest, context: Context) -> pb.ShareResponse:  # noqa: N802
        share, revision = await self.shares.share(_actor(), _wanted(request))
        return pb.ShareResponse(share=_share(share), revision=revision)

    async def ShareAgain(  # noqa: N802
        self, request: pb.ShareAgainRequest, context: Context
    ) -> pb.ShareAgainResponse:
        share_id = ShareId(parse_id(request.share_id, "share_id"))
        share, revision = await self.shares.share_again(_actor(), share_id, _wanted(request.share))
        return pb.ShareAgainResponse(share=_share(share), revision=revision)

    async def ListShares(  # noqa: N802
        self, request: pb.ListSharesRequest, context: Context
    ) -> pb.ListSharesResponse:
        asked = pages.asked(request, UUID, default=DEFAULT_PAGE_SIZE, most=SHARES_PAGE_SIZE)
        found = await self.shares.list_shares(
            _actor(),
            blocked_only=request.blocked_only,
            before=asked.after,
            limit=asked.limit,
            case_id=CaseId(parse_id(request.case_id, "case_id")) if request.case_id else None,
        )
        page, token = asked.rows(found, lambda last: last.id, _share)
        return pb.ListSharesResponse(shares=page, next_page_token=token)

    async def ListReceived(  # noqa: N802
        self, request: pb.ListReceivedRequest, context: Context
    ) -> pb.ListReceivedResponse:
        asked = pages.asked(request, UUID, default=DEFAULT_PAGE_SIZE, most=RECEIVED_PAGE_SIZE)
        found = await self.inbox.list_received(_actor(), acting_session(), asked.after, asked.limit)
        page, token = asked.rows(found, lambda last: last.bucket.id, _received)
        return pb.ListReceivedResponse(received=page, next_page_token=token)

    async def Open(self, request: pb.OpenRequest, context: Context) -> pb.OpenResponse:  # noqa: N802
        return pb.OpenResponse(
            received=_received(await self.inbox.open(_actor(), acting_session(), request.link))
        )

    async def SendCode(  # noqa: N802
        self, request: pb.SendCodeRequest, context: Context
    ) -> pb.SendCodeResponse:
        ends_at = await self.codes.send_code(_actor(), acting_session(), _bucket_id(request.bucket_id))
        return pb.SendCodeResponse(ends_at=timestamp(ends_at))

    async def Redeem(self, request: pb.RedeemRequest, context: Context) -> pb.RedeemResponse:  # noqa: N802
        received = await self.codes.redeem(
            _actor(), acting_session(), _bucket_id(request.bucket_id), request.code
        )
        return pb.RedeemResponse(received=_received(received))

    async def Unblock(self, request: pb.UnblockRequest, context: Context) -> pb.UnblockResponse:  # noqa: N802
        share, bucket = await self.codes.unblock(_actor(), _bucket_id(request.bucket_id))
        return pb.UnblockResponse(bucket=_bucket(share, bucket))

    async def Revoke(self, request: pb.RevokeRequest, context: Context) -> pb.RevokeResponse:  # noqa: N802
        bucket_id = _bucket_id(request.bucket_id) if request.bucket_id else None
        share_id = ShareId(parse_id(request.share_id, "share_id")) if request.share_id else None
        return pb.RevokeResponse(revision=await self.shares.revoke(_actor(), bucket_id, share_id))

    async def Extend(self, request: pb.ExtendRequest, context: Context) -> pb.ExtendResponse:  # noqa: N802
        share, bucket, revision = await self.extending.extend(
            _actor(), _bucket_id(request.bucket_id), Validity(request.valid_till, request.unlimited)
        )
        return pb.ExtendResponse(bucket=_bucket(share, bucket), revision=revision)

    async def SavePolicy(  # noqa: N802
        self, request: pb.SavePolicyRequest, context: Context
    ) -> pb.SavePolicyResponse:
        wanted = request.policy
        policy = Policy(
            FacilityId(parse_id(wanted.facility_id, "facility_id")),
            wanted.default_days,
            wanted.maximum_days,
            wanted.unlimited_allowed,
            wanted.further_sharing_allowed,
            wanted.version,
        )
        return pb.SavePolicyResponse(policy=_policy(await self.policies.save_policy(_actor(), policy)))

    async def DescribePolicy(  # noqa: N802
        self, request: pb.DescribePolicyRequest, context: Context
    ) -> pb.DescribePolicyResponse:
        facility_id = FacilityId(parse_id(request.facility_id, "facility_id"))
        return pb.DescribePolicyResponse(
            policy=_policy(await self.policies.describe_policy(_actor(), facility_id))
        )

    async def DescribeBucket(  # noqa: N802
        self, request: pb.DescribeBucketRequest, context: Context
    ) -> pb.DescribeBucketResponse:
        described = await self.shares.describe_bucket(_bucket_id(request.bucket_id))
        share, bucket = described.share, described.bucket
        return pb.DescribeBucketResponse(
            bucket_id=str(bucket.id),
            version=bucket.version,
            sender_user_id=str(share.sender_user_id),
            recipient_user_id=str(bucket.recipient_user_id),
            case_ids=map(str, share.case_ids),
            mail_due=described.mail_due,
            urgent=share.urgent,
            message=share.message if described.mail_due else "",
            language=LANGUAGE_VALUES[share.language],
            link=described.link if described.mail_due else "",
            ends_at=timestamp(bucket.ends_at),
            facility_id=str(share.facility_id),
        )


def serve(server: Server, api: SharingApi) -> None:
    """Adds SharingService to a server."""
    server.add(
        sharing_pb2_grpc.add_SharingServiceServicer_to_server,
        api,
        pb.DESCRIPTOR.services_by_name["SharingService"].full_name,
    )


def _actor() -> str:
    """Who acts; access takes logins without regard to case, and so do shares."""
    return acting_login().lower()


def _case_ids(texts: Sequence[str]) -> list[CaseId]:
    return [CaseId(parse_id(text, "case_ids")) for text in texts]


def _bucket_id(text: str) -> BucketId:
    return BucketId(parse_id(text, "bucket_id"))


def _wanted(request: pb.ShareRequest) -> Wanted:
    if request.language not in LANGUAGES:
        raise Invalid("`language` must be one of the languages of Readroom", field="language")
    return Wanted(
        case_ids=_case_ids(request.case_ids),
        recipients=[Recipient(each.login, each.two_factor, each.send_mail) for each in request.recipients],
        rights=RIGHTS.get(request.rights),
        reason=request.reason,
        patient_agreed=request.patient_agreed,
        validity=Validity(request.valid_till, request.unlimited),
        urgent=request.urgent,
        anonymize=request.anonymize,
        message=request.message,
        language=LANGUAGES[request.language],
        allow_further_sharing=request.allow_further_sharing,
    )


def _share(share: Share) -> pb.Share:
    return pb.Share(
        share_id=str(share.id),
        sender_login=share.sender_login,
        facility_id=str(share.facility_id),
        shared_at=timestamp(share.shared_at),
        case_ids=map(str, share.case_ids),
        reason=share.reason,
        buckets=[_bucket(share, bucket) for bucket in share.buckets],
    )


def _bucket(share: Share, bucket: Bucket) -> pb.Bucket:
    return pb.Bucket(
        bucket_id=str(bucket.id),
        recipient_login=bucket.recipient_login,
        rights=RIGHTS_VALUES[share.rights],
        state=STATE_VALUES[bucket.state],
        ends_at=timestamp(bucket.ends_at),
        two_factor=bucket.two_factor,
        wrong_codes=bucket.wrong_codes,
        opened_at=timestamp(bucket.opened_at),
        allow_further_sharing=share.allow_further_sharing,
    )


def _received(received: Received) -> pb.Received:
    share, bucket = received.share, received.bucket
    return pb.Received(
        bucket_id=str(bucket.id),
        sender_login=share.sender_login,
        sender_name=share.sender_name,
        shared_at=timestamp(share.shared_at),
        ends_at=timestamp(bucket.ends_at),
        rights=RIGHTS_VALUES[share.rights],
        message="" if received.withheld else share.message,
        code_needed=received.code_needed,
        blocked=received.blocked,
        case_ids=[] if received.withheld else map(str, share.case_ids),
        allow_further_sharing=share.allow_further_sharing,
    )


def _policy(policy: Policy) -> pb.Policy:
    return pb.Policy(
        facility_id=str(policy.facility_id),
        default_days=policy.default_days,
        maximum_days=policy.maximum_days,
        unlimited_allowed=policy.unlimited_allowed,
        further_sharing_allowed=policy.further_sharing_allowed,
        version=policy.version,
    )
