"""What sharing and notify ask of access over the wire, and who else may not."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from kernel.errors import Denied, Invalid, NotFound, ReadroomError, Unauthenticated
from kernel.events import CasePlaced
from tests.access.service import ADMIN, CLOCK, Service
from tests.wait import eventually
from wire.access.v1 import access_pb2 as pb

if TYPE_CHECKING:
    from wire.access.v1.access_pb2_grpc import AccessServiceAsyncStub

NUMBER = "+32 470 12 34 56"
HUMAN = {"email": "jane@example.org", "mobile_number": NUMBER, "language": pb.LANGUAGE_NL}


@dataclass
class Scene:
    """A case at a facility, a radiologist who sees it, and a physician who does not."""

    service: Service
    facility_id: str
    case_id: str
    jane: pb.User

    def as_sharing(self, login: str | None = None, session: str = "s") -> "AccessServiceAsyncStub":
        """Sharing for a user, or for itself."""
        return self.service.called_by(
            "sharing", lambda: self.service.token(login=login, session=session) if login else None
        )

    def request(self, **changes: Any) -> pb.GrantBucketsRequest:
        two_factor = changes.pop("two_factor", False)
        request = pb.GrantBucketsRequest(
            case_ids=[self.case_id],
            grants=[
                pb.GrantBucketsRequest.Grant(
                    bucket_id=str(uuid4()), recipient_login="jane", two_factor=two_factor
                )
            ],
        )
        request.ends_at.FromDatetime(CLOCK.now() + timedelta(days=1))
        request.MergeFrom(pb.GrantBucketsRequest(**changes))
        return request

    async def check(self, session: str = "s", at_least: str = "") -> pb.Decision:
        stub = self.service.called_by(token=lambda: self.service.token(login="jane", session=session))
        answer = await stub.Check(
            pb.CheckRequest(case_id=self.case_id, images=True, at_least_revision=at_least)
        )
        return answer.decision


@pytest.fixture
async def scene(service: Service) -> Scene:
    facility_id = await service.facility("MS44", "Europe/Amsterdam")
    await service.give(await service.user(login="roe"), facility_id, pb.LEVEL_VIEW)
    saved = await service.stub.SaveUser(
        pb.SaveUserRequest(
            user=pb.User(login="jane", name="Jane", role=pb.ROLE_REFERRING_PHYSICIAN, **HUMAN)  # type: ignore[arg-type]
        )
    )
    case_id = service.a_placement(facility_id, service.a_study(("1.1", "CT", 1)))
    await service.say(CasePlaced(case_id, 1))

    async def has_arrived() -> bool:
        return bool(await service.listed("roe"))

    await eventually(has_arrived)
    return Scene(service, facility_id, str(case_id), saved.user)


@pytest.mark.proves("SHR-12", part="over the wire")
@pytest.mark.proves("A57", part="over the wire")
async def test_a_share_is_granted_opened_by_a_code_closed_and_described(scene: Scene) -> None:
    request = scene.request(two_factor=True, write_report=True)
    granted = await scene.as_sharing("roe").GrantBuckets(request)
    assert scene.facility_id == granted.facility_id
    assert not (await scene.check(at_least=granted.revision)).allowed

    bucket_id = request.grants[0].bucket_id
    sharing = scene.as_sharing()
    registered = await sharing.RegisterSession(
        pb.RegisterSessionRequest(bucket_id=bucket_id, session="phone")
    )
    decision = await scene.check("phone", registered.revision)
    assert ([pb.PATH_SHARE], pb.LEVEL_VIEW, True, True, pb.SIDE_FACILITY, 1) == (
        list(decision.paths),
        decision.level,
        decision.images,
        decision.reports,
        decision.side,
        len(decision.studies),
    )
    assert not (await scene.check("laptop")).allowed
    assert [] == await scene.service.listed("jane")  # in the session `s`

    closed = await sharing.ChangeBuckets(
        pb.ChangeBucketsRequest(
            changes=[pb.ChangeBucketsRequest.Change(bucket_id=bucket_id, version=1, open=False)]
        )
    )
    assert not (await scene.check("phone", closed.revision)).allowed

    (case,) = (await sharing.DescribeCases(pb.DescribeCasesRequest(case_ids=[scene.case_id]))).cases
    assert (
        pb.CaseSummary(
            case_id=scene.case_id,
            facility_id=scene.facility_id,
            facility_name="MS44",
            time_zone="Europe/Amsterdam",
            patient_initials="J.D.",
            study_date="20261101",
        )
        == case
    )


async def test_how_a_user_is_reached_is_saved_listed_and_described(scene: Scene) -> None:
    assert ("jane@example.org", "+32470123456", pb.LANGUAGE_NL) == (
        scene.jane.email,
        scene.jane.mobile_number,
        scene.jane.language,
    )
    listed = (await scene.service.stub.ListUsers(pb.ListUsersRequest())).users
    assert scene.jane in listed

    privilege = pb.Privilege(
        user_id=scene.jane.user_id,
        facility_id=scene.facility_id,
        level=pb.LEVEL_REPORT,
        expires_on="2999-01-01",
    )
    await scene.service.stub.SavePrivilege(pb.SavePrivilegeRequest(privilege=privilege))
    notify = scene.service.called_by("notify", lambda: None)
    described = await notify.DescribeUsers(pb.DescribeUsersRequest(logins=["JANE"], user_ids=[str(uuid4())]))
    (jane,) = described.users
    assert ("jane@example.org", scene.jane.version + 1, []) == (
        jane.email,
        jane.version,
        list(jane.permissions),
    )
    assert [(scene.facility_id, "MS44")] == [(p.facility_id, p.facility_name) for p in described.privileges]
    privilege.ClearField("expires_on")
    privilege.level, privilege.version = pb.LEVEL_VIEW, described.privileges[0].version
    await scene.service.stub.SavePrivilege(pb.SavePrivilegeRequest(privilege=privilege))
    for_ever = await notify.DescribeUsers(pb.DescribeUsersRequest(logins=["jane"]))
    assert [] == list(for_ever.privileges)  # only those that expire are asked for

    versions = (await notify.ListVersions(pb.ListVersionsRequest())).versions
    assert {user.user_id for user in listed} == {each.user_id for each in versions}
    assert [jane.version + 1] == [each.version for each in versions if each.user_id == jane.user_id]


UNKNOWN: Any = 99
SOME = str(uuid4())
TOO_LATE = pb.GrantBucketsRequest()
TOO_LATE.ends_at.seconds = 2**62

BAD: dict[str, tuple[str, Callable[["AccessServiceAsyncStub", Scene], Any]]] = {
    "case": ("case_ids", lambda s, scene: s.GrantBuckets(scene.request(case_ids=["x"]))),
    "parent": ("parent_bucket_id", lambda s, scene: s.GrantBuckets(scene.request(parent_bucket_id="x"))),
    "bucket": (
        "bucket_id",
        lambda s, scene: s.GrantBuckets(
            scene.request(grants=[pb.GrantBucketsRequest.Grant(bucket_id="x", recipient_login="roe")])
        ),
    ),
    "no bucket": ("bucket_id", lambda s, scene: s.ExtendBucket(pb.ExtendBucketRequest())),
    "nothing": ("case_ids", lambda s, scene: s.GrantBuckets(pb.GrantBucketsRequest())),
    "nothing prepared": ("case_ids", lambda s, scene: s.PrepareGrant(pb.PrepareGrantRequest())),
    "a prepared case": ("case_ids", lambda s, scene: s.PrepareGrant(pb.PrepareGrantRequest(case_ids=["x"]))),
    "nobody prepared": (
        "user_ids",
        lambda s, scene: s.PrepareGrant(pb.PrepareGrantRequest(case_ids=[scene.case_id])),
    ),
    "nobody": ("recipients", lambda s, scene: s.GrantBuckets(pb.GrantBucketsRequest(case_ids=[SOME]))),
    "no instant": ("ends_at", lambda s, scene: s.GrantBuckets(TOO_LATE)),
}

BAD_FOR_ITSELF: dict[str, tuple[str, Callable[["AccessServiceAsyncStub"], Any]]] = {
    "no changes": ("changes", lambda s: s.ChangeBuckets(pb.ChangeBucketsRequest())),
    "bucket": (
        "bucket_id",
        lambda s: s.ChangeBuckets(
            pb.ChangeBucketsRequest(changes=[pb.ChangeBucketsRequest.Change(version=1)])
        ),
    ),
    "version": (
        "version",
        lambda s: s.ChangeBuckets(
            pb.ChangeBucketsRequest(changes=[pb.ChangeBucketsRequest.Change(bucket_id=SOME)])
        ),
    ),
    "session": ("session", lambda s: s.RegisterSession(pb.RegisterSessionRequest(bucket_id=SOME))),
    "cases": ("case_ids", lambda s: s.DescribeCases(pb.DescribeCasesRequest())),
    "many cases": ("case_ids", lambda s: s.DescribeCases(pb.DescribeCasesRequest(case_ids=[SOME] * 101))),
    "case": ("case_ids", lambda s: s.DescribeCases(pb.DescribeCasesRequest(case_ids=["x"]))),
    "users": ("user_ids", lambda s: s.DescribeUsers(pb.DescribeUsersRequest())),
    "user": ("user_ids", lambda s: s.DescribeUsers(pb.DescribeUsersRequest(user_ids=["x"]))),
    "many users": ("user_ids", lambda s: s.DescribeUsers(pb.DescribeUsersRequest(logins=["x"] * 101))),
}

BAD_CONTACTS: dict[str, Any] = {
    "email": {"email": "jane@example.org\r\nBcc: all@example.org"},
    "mobile_number": {"mobile_number": "0470123456"},
    "language": {"language": UNKNOWN},
}


async def test_bad_input_is_refused_by_name(scene: Scene) -> None:
    for what, (field, ask) in BAD.items():
        await _refused(ask(scene.as_sharing("roe"), scene), Invalid, field, what)
    for what, (field, ask_for_itself) in BAD_FOR_ITSELF.items():
        await _refused(ask_for_itself(scene.as_sharing()), Invalid, field, what)
    for field, contact in BAD_CONTACTS.items():
        user = pb.User(login="x", name="x", role=pb.ROLE_RADIOLOGIST, **contact)
        await _refused(scene.service.stub.SaveUser(pb.SaveUserRequest(user=user)), Invalid, field, field)
    unknown = pb.RegisterSessionRequest(bucket_id=SOME, session="s")
    await _refused(scene.as_sharing().RegisterSession(unknown), NotFound, "bucket_id", "unknown")
    await _refused(
        scene.as_sharing("jane").GrantBuckets(scene.request()), NotFound, "case_id", "a case not hers"
    )


async def _refused(awaitable: Any, word: type[ReadroomError], field: str, what: str) -> None:
    with pytest.raises(ReadroomError) as refusal:
        await awaitable
    assert (word, field) == (type(refusal.value), refusal.value.field), what


FOR_ITSELF = {
    "ChangeBuckets": pb.ChangeBucketsRequest(),
    "RegisterSession": pb.RegisterSessionRequest(),
    "DescribeUsers": pb.DescribeUsersRequest(),
    "DescribeCases": pb.DescribeCasesRequest(),
    "ListVersions": pb.ListVersionsRequest(),
}
MAY_ASK = {
    "sharing": {"ChangeBuckets", "RegisterSession", "DescribeUsers", "DescribeCases"},
    "notify": {"DescribeUsers", "DescribeCases", "ListVersions"},
    "reporting": {"DescribeCases"},
}


@pytest.mark.proves("SEC-14", part="access: what only services ask, and which")
async def test_nobody_else_may_ask_what_is_sharings_and_notifys(scene: Scene) -> None:
    request = scene.request()
    extension = pb.ExtendBucketRequest(change=pb.ChangeBucketsRequest.Change(bucket_id=SOME, version=1))
    for peer in ("bff", "ingest", "routing", "reporting", "notify"):
        with pytest.raises(Denied):
            await scene.service.acting(ADMIN, peer).GrantBuckets(request)
        with pytest.raises(Denied):
            await scene.service.acting(ADMIN, peer).ExtendBucket(extension)
    for login in (None, "mallory"):
        with pytest.raises(Unauthenticated):
            await scene.as_sharing(login).GrantBuckets(request)
        with pytest.raises(Unauthenticated):
            await scene.as_sharing(login).ExtendBucket(extension)
    for peer in ("bff", "ingest", "routing", "reporting", "sharing", "notify"):
        stub = scene.service.called_by(peer, lambda: None)
        for name, asked in FOR_ITSELF.items():
            if name not in MAY_ASK.get(peer, ()):
                with pytest.raises(Denied):
                    await getattr(stub, name)(asked)
