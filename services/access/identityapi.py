"""IdentityService: who signs in, and what they are told of themself; proto to domain and back."""

from typing import Any
from uuid import UUID

import grpc

from plumbing import pages
from plumbing.callers import acting_login
from plumbing.rpc import Server
from plumbing.timestamps import timestamp
from services.access.answers import LANGUAGE_VALUES, LEVEL_VALUES, ROLE_VALUES, SIDE_VALUES
from services.access.asked import permission
from services.access.asked import user_id as _user_id
from services.access.domain import Facility
from services.access.identities import OURSELVES, Identities
from services.access.identity import BoundIdentity, Identity, Invitation, checked_identity
from services.access.me import Held, Me, Myself
from wire.access.v1 import identity_pb2 as pb
from wire.access.v1 import identity_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class IdentityApi(identity_pb2_grpc.IdentityServiceServicer):
    """The servicer."""

    def __init__(self, myself: Myself, identities: Identities) -> None:
        self._myself = myself
        self._identities = identities

    async def DescribeMe(self, request: pb.DescribeMeRequest, context: Context) -> pb.DescribeMeResponse:  # noqa: N802
        return _me(await self._myself.describe_me(acting_login()))

    async def ListMyFacilities(  # noqa: N802
        self, request: pb.ListMyFacilitiesRequest, context: Context
    ) -> pb.ListMyFacilitiesResponse:
        page = pages.asked(request, tuple[str, UUID])
        held = permission(request.permission) if request.permission else None
        found = await self._myself.list_my_facilities(acting_login(), held, page.after, page.limit)
        facilities, token = page.rows(found, lambda last: (last.name, last.id), _facility)
        return pb.ListMyFacilitiesResponse(facilities=facilities, next_page_token=token)

    async def SaveIdentity(  # noqa: N802
        self, request: pb.SaveIdentityRequest, context: Context
    ) -> pb.SaveIdentityResponse:
        bound = await self._identities.save_identity(
            acting_login(), _user_id(request.user_id), _identity(request.identity)
        )
        return pb.SaveIdentityResponse(bound=_bound(bound))

    async def RemoveIdentity(  # noqa: N802
        self, request: pb.RemoveIdentityRequest, context: Context
    ) -> pb.RemoveIdentityResponse:
        await self._identities.remove_identity(
            acting_login(), _user_id(request.user_id), _identity(request.identity)
        )
        return pb.RemoveIdentityResponse()

    async def ListIdentities(  # noqa: N802
        self, request: pb.ListIdentitiesRequest, context: Context
    ) -> pb.ListIdentitiesResponse:
        bound, invitation = await self._identities.list_identities(acting_login(), _user_id(request.user_id))
        return pb.ListIdentitiesResponse(
            identities=map(_bound, bound), invitation=_invitation(invitation) if invitation else None
        )

    async def Invite(self, request: pb.InviteRequest, context: Context) -> pb.InviteResponse:  # noqa: N802
        invited = await self._identities.invite(acting_login(), _user_id(request.user_id))
        return pb.InviteResponse(
            code=invited.code.text,
            invitation=_invitation(invited.invitation),
            login=invited.user.login,
            name=invited.user.name,
        )

    async def DescribeInvitation(  # noqa: N802
        self, request: pb.DescribeInvitationRequest, context: Context
    ) -> pb.DescribeInvitationResponse:
        user, invitation = await self._identities.describe_invitation(request.code)
        return pb.DescribeInvitationResponse(
            user_id=str(user.id),
            login=user.login,
            name=user.name,
            ends_at=timestamp(invitation.ends_at),
            language=LANGUAGE_VALUES[user.contact.language],
        )

    async def RedeemInvitation(  # noqa: N802
        self, request: pb.RedeemInvitationRequest, context: Context
    ) -> pb.RedeemInvitationResponse:
        user = await self._identities.redeem_invitation(request.code, _identity(request.identity))
        return pb.RedeemInvitationResponse(user_id=str(user.id), login=user.login, name=user.name)

    async def ResolveIdentity(  # noqa: N802
        self, request: pb.ResolveIdentityRequest, context: Context
    ) -> pb.ResolveIdentityResponse:
        user = await self._identities.resolve_identity(_identity(request.identity))
        return pb.ResolveIdentityResponse(
            user_id=str(user.id), login=user.login, name=user.name, active=user.active, version=user.version
        )


def serve(server: Server, api: IdentityApi) -> None:
    """Adds IdentityService to a server."""
    server.add(
        identity_pb2_grpc.add_IdentityServiceServicer_to_server,
        api,
        pb.DESCRIPTOR.services_by_name["IdentityService"].full_name,
    )


def _identity(given: pb.Identity) -> Identity:
    return checked_identity(given.issuer, given.subject)


def _bound(bound: BoundIdentity) -> pb.BoundIdentity:
    return pb.BoundIdentity(
        identity=pb.Identity(issuer=bound.identity.issuer, subject=bound.identity.subject),
        bound_by=bound.bound_by,
        bound_at=timestamp(bound.bound_at),
    )


def _invitation(invitation: Invitation) -> pb.Invitation:
    return pb.Invitation(
        invited_by=invitation.invited_by or OURSELVES,
        invited_at=timestamp(invitation.invited_at),
        ends_at=timestamp(invitation.ends_at),
    )


def _facility(facility: Facility) -> pb.NamedFacility:
    return pb.NamedFacility(facility_id=str(facility.id), name=facility.name, time_zone=facility.time_zone)


def _held(held: Held) -> pb.HeldPermission:
    return pb.HeldPermission(
        permission=held.permission,
        everywhere=held.everywhere,
        facilities=map(_facility, held.facilities),
        facilities_left_out=held.left_out,
    )


def _me(me: Me) -> pb.DescribeMeResponse:
    user = me.user
    return pb.DescribeMeResponse(
        user_id=str(user.id),
        login=user.login,
        name=user.name,
        role=ROLE_VALUES[user.role],
        side=SIDE_VALUES[me.compiled.side],
        language=LANGUAGE_VALUES[user.contact.language],
        home_facility=_facility(me.home) if me.home else None,
        permissions=map(_held, me.held),
        highest_level=LEVEL_VALUES[me.highest_level],
        may_see_cases=me.may_see_cases,
        facility_count=len(me.compiled.facilities),
        time_zone=str(me.compiled.zone),
        version=me.compiled.version,
        has_filter=me.compiled.filter is not None,
    )
