"""IdentityService over the wire: who is asked by whom, with and without a person's token."""

from typing import TYPE_CHECKING

import pytest

from kernel.errors import Denied, Invalid, NotFound, Unauthenticated
from plumbing import rpc
from tests.access.service import ADMIN, Service
from wire.access.v1 import access_pb2, identity_pb2_grpc
from wire.access.v1 import identity_pb2 as pb

if TYPE_CHECKING:
    from wire.access.v1.identity_pb2_grpc import IdentityServiceAsyncStub

JANE = pb.Identity(issuer="https://login.example.org", subject="jane-1")


def identities(service: Service, login: str | None, peer: str = "bff") -> "IdentityServiceAsyncStub":
    """The service as this peer calls it, for a user or (None) for itself."""
    token = service.token(login=login) if login else None
    channel = rpc.connect(
        f"127.0.0.1:{service.port}", "access", service.pki.tls(peer), deadline_s=10, token=lambda: token
    )
    service.resources.push_async_callback(channel.close)
    return identity_pb2_grpc.IdentityServiceStub(channel)


async def test_who_is_invited_binds_their_identity_and_is_told_who_they_are(service: Service) -> None:
    facility_id = await service.facility("North", "Europe/Amsterdam")
    jane = await service.user()
    await service.give(jane, facility_id, access_pb2.LEVEL_VIEW)
    admin, web = identities(service, ADMIN), identities(service, None)

    invited = await admin.Invite(pb.InviteRequest(user_id=jane.user_id))
    described = await web.DescribeInvitation(pb.DescribeInvitationRequest(code=invited.code))
    redeemed = await web.RedeemInvitation(pb.RedeemInvitationRequest(code=invited.code, identity=JANE))
    resolved = await web.ResolveIdentity(pb.ResolveIdentityRequest(identity=JANE))
    me = await identities(service, resolved.login).DescribeMe(pb.DescribeMeRequest())
    mine = await identities(service, "jane").ListMyFacilities(
        pb.ListMyFacilitiesRequest(permission="study.view_images")
    )

    assert ("jane", "jane", invited.invitation.ends_at) == (invited.login, described.login, described.ends_at)
    assert jane.user_id == described.user_id == redeemed.user_id == resolved.user_id == me.user_id
    assert resolved.active
    assert resolved.version == me.version
    assert (access_pb2.SIDE_GROUP, access_pb2.LEVEL_VIEW, 1, "UTC") == (
        me.side,
        me.highest_level,
        me.facility_count,
        me.time_zone,
    )
    assert ["report.view", "share.create", "study.view_images"] == sorted(
        p.permission for p in me.permissions
    )
    assert [pb.NamedFacility(facility_id=facility_id, name="North", time_zone="Europe/Amsterdam")] == list(
        mine.facilities
    )
    held = await admin.ListIdentities(pb.ListIdentitiesRequest(user_id=jane.user_id))
    assert ([JANE], False) == ([each.identity for each in held.identities], held.HasField("invitation"))


@pytest.mark.proves("SEC-14", part="who signs in is asked by the web alone, and by it for itself")
async def test_only_the_web_asks_who_signs_in(service: Service) -> None:
    jane = await service.user()
    for peer in ("ingest", "routing", "reporting", "sharing", "notify", "access"):
        for login in (None, ADMIN):
            stub = identities(service, login, peer)
            with pytest.raises(Denied):
                await stub.ResolveIdentity(pb.ResolveIdentityRequest(identity=JANE))
            with pytest.raises(Denied):
                await stub.RedeemInvitation(pb.RedeemInvitationRequest(code="x", identity=JANE))
            with pytest.raises(Denied):
                await stub.Invite(pb.InviteRequest(user_id=jane.user_id))
    with pytest.raises(Unauthenticated):
        await identities(service, None).Invite(pb.InviteRequest(user_id=jane.user_id))


async def test_what_cannot_be_read_is_named(service: Service) -> None:
    admin, web = identities(service, ADMIN), identities(service, None)
    for identity, field in (
        (pb.Identity(issuer="a b", subject="x"), "issuer"),
        (pb.Identity(issuer="a"), "subject"),
    ):
        with pytest.raises(Invalid) as refusal:
            await web.ResolveIdentity(pb.ResolveIdentityRequest(identity=identity))
        assert field == refusal.value.field
    with pytest.raises(Invalid, match="user_id"):
        await admin.Invite(pb.InviteRequest(user_id="x"))
    with pytest.raises(NotFound):
        await admin.Invite(pb.InviteRequest(user_id="00000000-0000-0000-0000-000000000000"))
    with pytest.raises(Invalid, match="permission"):
        await admin.ListMyFacilities(pb.ListMyFacilitiesRequest(permission="study.foo"))
