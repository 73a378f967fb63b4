"""What somebody of a facility obtains does not depend on a pre-read (BEY-11).

Two worlds have the same users, cases and keys and live the same hours. In one a case is pre-read, with an
addendum; in the other whoever would have pre-read it only locked it. Every method of access is asked by
everybody who is not of the group, and for themselves by the services that tell them what they hear, over the
wire, and the bytes are compared after each step.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from datetime import timedelta
from itertools import cycle
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from google.protobuf.message import Message

from kernel.clock import MonotonicClock
from kernel.countries import DEFAULT
from kernel.errors import ReadroomError
from kernel.ids import CaseId, FolderId
from kernel.reading import PrivilegeLevel, ReadType, Side
from local.pki import Pki
from plumbing import rpc
from plumbing.minting import MAX_LIFETIME_S, mint
from plumbing.tokenkeys import KeyFile
from plumbing.tokens import Verifier
from services.access import api
from services.access.accessfilter import Historical, SavedFilter
from services.access.cursors import CursorTokens
from services.access.domain import ROLES, Permission, PermissionGrant, Role, User
from services.access.exporting import Exports
from services.access.listed import ListedCases
from services.access.places import PlaceTokens
from services.access.preparing import Preparing
from services.access.reading import NOT_READ, Projection, Reading
from services.access.received import ReceivedStudy
from services.access.revision import RevisionTokens
from services.access.status import ReadingState
from services.access.telling import Telling
from services.access.watching import Watching
from tests.access.builders import a_facility, a_lock, a_placement, a_reading, a_study, a_user
from tests.access.conftest import ADMIN, Access, start
from tests.clocks import NOON
from wire.access.v1 import access_pb2 as pb
from wire.access.v1 import access_pb2_grpc

if TYPE_CHECKING:
    from wire.access.v1.access_pb2_grpc import AccessServiceAsyncStub

FACILITY = a_facility("MS44")
STUDIES = [a_study(settled=True, received_at=NOON + timedelta(minutes=minute)) for minute in range(5)]
CASES = [a_placement(FACILITY.id, study) for study in STUDIES]
CASE_ID = CASES[2].case_id
ABSENT = CaseId(UUID(int=7))
FOLDER_ID = FolderId(UUID(int=1))

# Everybody, in both worlds the same; who is of the group shows that the worlds do differ.
MANAGER = a_user(
    Role.FACILITY_MANAGER,
    home_facility_id=FACILITY.id,
    permissions=a_user(Role.FACILITY_MANAGER).permissions
    | {
        PermissionGrant(each, FACILITY.id)
        for each in (Permission.ADMINISTER_ACCESS, Permission.ADMINISTER_FACILITIES)
    },
)
GUEST = a_user(Role.FACILITY_USER)  # sees the case by a grant only
RECIPIENT = a_user(Role.REFERRING_PHYSICIAN)  # sees it by a share with write access only
FILTERED = {
    a_user(Role.FACILITY_USER): SavedFilter({}, filter_, historical)
    for filter_, historical in (
        ("StudyStatusID = 'READY_TO_READ' and ReportedTypes is null and LockedBy is null", Historical.OFF),
        ("not ReportedTypes = 'FINAL' and not StudyStatusID = 'IN_TRANSMIT'", Historical.ALL),
    )
}
USERS = [
    MANAGER,
    GUEST,
    RECIPIENT,
    *FILTERED,
    *(a_user(role, home_facility_id=FACILITY.id) for role in Role if role is not Role.FACILITY_MANAGER),
]
READER, OTHER_READER, COORDINATOR = (
    next(user for user in USERS if user.role is role)
    for role in (Role.RADIOLOGIST, Role.ADMINISTRATOR, Role.RADIOLOGY_SUPPORT)
)
INSIDERS = [user for user in USERS if ROLES[user.role].side is Side.GROUP]
OUTSIDERS = [user for user in USERS if user not in INSIDERS]

LOCK = a_lock("Dr. Pre")
LATER_LOCK = a_lock("Dr. Fin", ends_at=NOON + timedelta(minutes=40))
FINAL = frozenset({ReadType.FINAL})


def pre_read(minutes: int, instance_count: int, **more: Any) -> Projection:
    return Projection(
        read_types=frozenset({ReadType.PRE_READ}),
        reported_at=NOON + timedelta(minutes=minutes),
        instance_count=instance_count,
        **more,
    )


def final(*also: ReadType, minutes: int = 30) -> Projection:
    return Projection(
        ReadingState.FINAL, None, FINAL | set(also), NOON + timedelta(minutes=minutes), instance_count=5
    )


def grown(instance_count: int) -> ReceivedStudy:
    """The study of the case with so many images, which are also its version."""
    return a_study(("1.2.3", "CT", instance_count), id=STUDIES[2].id, version=instance_count, settled=True)


# What reporting or ingest has after each step, with the pre-read and without; None: nothing was ever written.
LIFE: dict[str, tuple[Reading | ReceivedStudy | None, Reading | ReceivedStudy | None]] = {
    "the pre-reader locks": (
        a_reading(CASE_ID, Projection(lock=LOCK), version=1),
        a_reading(CASE_ID, Projection(lock=LOCK), version=1),
    ),
    "they pre-read, or only unlock": (
        a_reading(CASE_ID, pre_read(5, 1), NOT_READ, version=2),
        a_reading(CASE_ID, NOT_READ, version=2),
    ),
    "images come after it": (grown(3), grown(3)),
    "they add to it, and nothing happens": (a_reading(CASE_ID, pre_read(8, 3), NOT_READ, version=3), None),
    "more come": (grown(5), grown(5)),
    "another locks": (
        a_reading(CASE_ID, pre_read(8, 3, lock=LATER_LOCK), Projection(lock=LATER_LOCK), version=4),
        a_reading(CASE_ID, Projection(lock=LATER_LOCK), version=3),
    ),
    "they complete a final": (
        a_reading(CASE_ID, final(ReadType.PRE_READ), final(), version=5),
        a_reading(CASE_ID, final(), version=4),
    ),
    "images come after the final": (grown(6), grown(6)),
    "it is pre-read late, or not": (
        a_reading(CASE_ID, final(ReadType.PRE_READ, minutes=45), final(), version=6),
        None,
    ),
    "and the last ones come": (grown(8), grown(8)),
}


@dataclass
class World:
    """Access behind its own server."""

    access: Access
    stubs: Mapping[str, "AccessServiceAsyncStub"]
    act: Callable[[User | None], None]
    watching: Watching

    async def hear(self, thing: Reading | ReceivedStudy | None) -> None:
        """A minute later, so that it shows if a time is another."""
        self.access.clock.pass_by(timedelta(minutes=1))
        if thing is not None:
            await self.access.hear(thing)

    async def answers(
        self, user: User, asked: Iterable[tuple[str, Message]], *, revisions: bool = True
    ) -> dict[str, bytes]:
        """What this user is answered, and the pages of their list."""
        self.act(user)
        through = [(ASKED_THROUGH.get(name, "bff"), name, request) for name, request in asked]
        found = await self._answers(through, revisions=revisions)
        token = ""
        for number in range(len(CASES)):
            page = await self.stubs["bff"].ListCases(pb.ListCasesRequest(page_size=2, page_token=token))
            found[f"page {number}"] = page.SerializeToString(deterministic=True)
            token = page.next_page_token
            if not token:
                break
        return found

    async def list_of(self, user: User) -> bytes:
        """Their worklist."""
        self.act(user)
        return await _answer(self.stubs["bff"], "ListCases", pb.ListCasesRequest())

    async def answers_to_services(self, *, revisions: bool = True) -> dict[str, bytes]:
        """What every method answers a service that asks for itself."""
        self.act(None)
        return await self._answers(SERVICES_ASK, revisions=revisions)

    async def _answers(self, asked: list[tuple[str, str, Message]], *, revisions: bool) -> dict[str, bytes]:
        return {
            f"{name} {request}": await _answer(self.stubs[peer], name, request, revisions=revisions)
            for peer, name, request in asked
        }


async def _answer(
    stub: "AccessServiceAsyncStub", name: str, request: Message, *, revisions: bool = True
) -> bytes:
    """As bytes; a refusal is its kind, sentence and field."""
    try:
        answer = await _first(stub, name, request)
        if not revisions and "revision" in answer.DESCRIPTOR.fields_by_name:
            answer.ClearField("revision")
        return answer.SerializeToString(deterministic=True)
    except ReadroomError as error:
        return repr((type(error), error.sentence, error.field)).encode()


async def _first(stub: "AccessServiceAsyncStub", name: str, request: Message) -> Message:
    """The answer, or the first of a stream; a file is one."""
    answers: Any = getattr(stub, name)(request)
    if not hasattr(answers, "asend"):
        answer: Message = await answers
        return answer
    async with aclosing(answers):
        if name == "ExportCases":
            return pb.ExportCasesResponse(csv=b"".join([part.csv async for part in answers]))
        first: Message = await anext(answers)
        return first


BUCKET_ID = str(UUID(int=2))
TOKEN_KEPT_S = MAX_LIFETIME_S / 4
ASKED_THROUGH = {
    "PrepareGrant": "sharing",
    "GrantBuckets": "sharing",
    "ExtendBucket": "sharing",
    "BeginDelete": "ingest",
    "BeginMove": "routing",
}
"""What a user has done through another service; of them they learn nothing else."""

# The first administrator has another id in each world: one of version 7, of this age.
AFTER_ADMIN = str(UUID(int=0x02 << 120))

SERVICES_ASK: list[tuple[str, str, Message]] = [
    ("sharing", "DescribeCases", pb.DescribeCasesRequest(case_ids=[str(case.case_id) for case in CASES])),
    ("sharing", "DescribeUsers", pb.DescribeUsersRequest(user_ids=[str(user.id) for user in USERS])),
    (
        "ingest",
        "CheckAgain",
        pb.CheckAgainRequest(login=GUEST.login, session="s", case_id=str(CASE_ID)),
    ),
    ("sharing", "CheckDeletion", pb.CheckDeletionRequest(case_id=str(CASE_ID))),
    ("notify", "ListVersions", pb.ListVersionsRequest(after_user_id=AFTER_ADMIN)),
    ("sharing", "RegisterSession", pb.RegisterSessionRequest(bucket_id=BUCKET_ID, session="s")),
    (
        "sharing",
        "ChangeBuckets",
        pb.ChangeBucketsRequest(
            changes=[pb.ChangeBucketsRequest.Change(bucket_id=BUCKET_ID, version=1, open=True)]
        ),
    ),
]


WAITS = ["may", "waits_for", "waits_since", "prior_count"]
FILTERS = (
    "StudyStatusID in ('READY_TO_READ', 'READ') and ReportedTypes is null",
    "StudyStatusID != 'DICTATED' or not StudyStatusID = 'ASSIGNED'",
    "ReportedTypes in ('FINAL', 'OTHER') or ReportedTypes is not null",
    "ReportedTypes = 'PRE_READ'",
    "AssignedToUser is not null",
    "true",
)
"""Filters that ask for what a pre-read could change."""


def questions(
    about: Sequence[User], asked_about: Sequence[CaseId] = (CASE_ID, ABSENT)
) -> Iterator[tuple[str, Message]]:
    """Each method, and what changes nothing: both worlds are asked the same, also about these users."""
    yield from questions_of_cases(about, asked_about)
    yield from questions_of_acts(about, asked_about)


def questions_of_cases(
    about: Sequence[User], asked_about: Sequence[CaseId] = (CASE_ID,)
) -> Iterator[tuple[str, Message]]:
    """What tells how a case stands, and what is refused because of it."""
    for case_id in map(str, asked_about):
        yield "DescribeCase", pb.DescribeCaseRequest(case_id=case_id)
        yield "ListRelatedCases", pb.ListRelatedCasesRequest(case_id=case_id)
        yield "Check", pb.CheckRequest(case_id=case_id, images=True, images_since_report=True)
        yield "DescribePatient", pb.DescribePatientRequest(case_id=case_id)
        yield "ListAssignable", pb.ListAssignableRequest(case_id=case_id)
        yield "Assign", pb.AssignRequest(case_id=case_id, assignee_login="nobody")
        yield "Unassign", pb.UnassignRequest(case_id=case_id)
        yield "BeginDelete", pb.BeginDeleteRequest(case_id=case_id, deletion_id=str(UUID(int=3)))
    yield "CheckMany", pb.CheckManyRequest(case_ids=[str(case.case_id) for case in CASES])
    yield "ListCases", pb.ListCasesRequest()
    yield "ListCases", pb.ListCasesRequest(facility_id=str(FACILITY.id), columns=WAITS)
    for where, order in zip(FILTERS, cycle(pb.CaseOrder.values()), strict=False):
        yield "ListCases", pb.ListCasesRequest(where=where, order=order, page_size=1)
        yield "CountCases", pb.CountCasesRequest(where=where)
    for search in ("status:read", "status:dictated", "status:assigned", "-9d"):
        yield "ListCases", pb.ListCasesRequest(search=search, ascending=True)
    yield "ExportCases", pb.ExportCasesRequest(where=FILTERS[0])
    yield "WatchCases", pb.WatchCasesRequest(rows=2)
    for user in about:
        yield "Explain", pb.ExplainRequest(user_id=str(user.id), case_id=str(CASE_ID))
        yield "ExplainList", pb.ExplainListRequest(user_id=str(user.id))


def questions_of_acts(about: Sequence[User], asked_about: Sequence[CaseId]) -> Iterator[tuple[str, Message]]:
    """The others: of people and what they may, of folders, grants and links, and what is done with a case."""
    case_ids = [str(case.case_id) for case in CASES]
    for case_id in map(str, asked_about):
        yield "GrantCase", pb.GrantCaseRequest(case_id=case_id, user_id=str(USERS[-1].id))
        yield "RevokeGrant", pb.RevokeGrantRequest(case_id=case_id, user_id=str(USERS[-1].id))
        yield "PutInFolder", pb.PutInFolderRequest(case_id=case_id, folder_id=str(FOLDER_ID))
        yield "RemoveFromFolder", pb.RemoveFromFolderRequest(case_id=case_id, folder_id=str(FOLDER_ID))
        yield "ListGrants", pb.ListGrantsRequest(case_id=case_id)
        for other in case_ids[:2]:
            linked = pb.LinkPatientsRequest(case_id=case_id, other_case_id=other, preview=True)
            yield "LinkPatients", linked
        yield "ListFolderCases", pb.ListFolderCasesRequest(case_id=case_id)
        grant = pb.GrantBucketsRequest.Grant(
            bucket_id=BUCKET_ID, recipient_login=GUEST.login, two_factor=True
        )
        yield "PrepareGrant", pb.PrepareGrantRequest(case_ids=[case_id], logins=[GUEST.login])
        yield "GrantBuckets", pb.GrantBucketsRequest(case_ids=[case_id], grants=[grant])
        extended = pb.ChangeBucketsRequest.Change(bucket_id=BUCKET_ID, version=2, open=True)
        yield "ExtendBucket", pb.ExtendBucketRequest(change=extended)
        for by_hand in (True, False):
            yield (
                "BeginMove",
                pb.BeginMoveRequest(
                    move_id=str(UUID(int=4)),
                    case_id=case_id,
                    from_facility_id=str(FACILITY.id),
                    to_facility_id=str(FACILITY.id),
                    by_hand=by_hand,
                    preview=True,
                ),
            )
        yield "SetPriority", pb.SetPriorityRequest(case_id=case_id, priority=pb.PRIORITY_NORMAL)
    for permission in ("report.view", "access.admin"):
        yield "CheckPermission", pb.CheckPermissionRequest(permission=permission)
    for search in ("status:read", "status:dictated", "status:assigned", "-9d"):
        yield "ReadSearch", pb.ReadSearchRequest(search=search)
    yield "ListUsers", pb.ListUsersRequest()
    yield "ListFilters", pb.ListFiltersRequest()
    yield "ListFolders", pb.ListFoldersRequest()
    yield "ListFolderCases", pb.ListFolderCasesRequest(folder_id=str(FOLDER_ID))
    yield "ListGrants", pb.ListGrantsRequest(user_id=str(GUEST.id))
    yield "UnlinkPatients", pb.UnlinkPatientsRequest(link_id=str(UUID(int=5)))
    yield "SaveFolder", pb.SaveFolderRequest(folder=pb.Folder(name="Board", folder_id=str(FOLDER_ID)))
    yield "SaveUser", pb.SaveUserRequest(user=pb.User(user_id=str(USERS[-1].id), login=USERS[-1].login))
    for user, expression in zip(cycle(about), FILTERS, strict=False):
        yield "Lint", pb.LintRequest(user_id=str(user.id), expression=expression)
        saved = pb.Filter(user_id=str(user.id), expression=expression, version=99)
        yield "SaveFilter", pb.SaveFilterRequest(filter=saved)
    for user in about:
        yield "DescribeFilter", pb.DescribeFilterRequest(user_id=str(user.id))
        yield "Explain", pb.ExplainRequest(user_id=str(user.id), case_id=case_ids[0])
        yield "ListPrivileges", pb.ListPrivilegesRequest(user_id=str(user.id))
        privilege = pb.Privilege(user_id=str(user.id), facility_id=str(FACILITY.id), level=pb.LEVEL_VIEW)
        yield "SavePrivilege", pb.SavePrivilegeRequest(privilege=privilege)


def questions_at(number: int, last: bool, user: User, about: Sequence[User]) -> Iterator[tuple[str, Message]]:
    """What a user is asked at the step of this number: of cases each time, all else at every fourth step.

    Of that, the others ask at other steps; in the end everybody asks everything, of an absent case too.
    """
    if last:
        return questions(about)
    if number % 4 == OUTSIDERS.index(user) % 4:
        return questions(about, [CASE_ID])
    return questions_of_cases(about)


async def a_world(url: str, pki: Pki, resources: AsyncExitStack) -> World:
    """The same one each time, but for its database."""

    access = await anext(start(url))
    resources.push_async_callback(access.database.close)
    await access.hear(FACILITY, *STUDIES, *CASES)
    async with access.database.transaction() as transaction:
        for user in USERS:
            await transaction.save_user(user, by="ada")
        for user, saved in FILTERED.items():
            await transaction.save_filter(user.id, saved, by="ada")
    for user in USERS:
        if user not in (GUEST, RECIPIENT):
            await access.give(user, FACILITY, PrivilegeLevel.VIEW)
    await access.folders.grant_case(ADMIN, CASE_ID, GUEST.id)
    await access.share(RECIPIENT, CASE_ID, write_report=True)

    clock = MonotonicClock()  # tokens live by the real one
    verifier = Verifier(KeyFile(pki.token_keys), clock)
    server = rpc.Server("access", "127.0.0.1:0", pki.tls("access"), verifier)
    revisions = RevisionTokens("k" * 32, random_bytes=bytes)
    places = PlaceTokens("k" * 32, random_bytes=bytes)
    watching = Watching(access.database, access.questions, access.clock, asked_for_s=10)
    api.serve(
        server,
        api.AccessApi(
            access.questions,
            access.users,
            access.filters,
            access.folders,
            access.buckets,
            access.deletions,
            access.moves,
            access.assignments,
            access.explaining,
            access.linking,
            access.linting,
            Preparing(access.questions, access.users, access.buckets),
            revisions,
            places,
            Telling(watching, CursorTokens("k" * 32, access.clock, random_bytes=bytes), revisions),
            ListedCases(access.questions, Exports(access.questions, access.database), places, revisions),
            DEFAULT,
        ),
    )
    port = await server.start()
    resources.push_async_callback(server.stop, 0.1)

    acting: list[User | None] = [None]
    key = pki.token_key.read_bytes()
    minted: dict[str, tuple[float, str]] = {}

    def act(user: User | None) -> None:
        acting[0] = user

    def token() -> str | None:
        """Another in time: a slow machine asks for longer than a token lives."""
        user, now = acting[0], clock.now()
        if user is None:
            return None
        minted_at, known = minted.get(user.login, (0.0, ""))
        if now.timestamp() - minted_at > TOKEN_KEPT_S:
            known = mint(key, login=user.login, session="s", audience="access", now=now)
            minted[user.login] = now.timestamp(), known
        return known

    stubs = {}
    for peer in ("bff", "ingest", "routing", "sharing", "notify"):
        channel = rpc.connect(f"127.0.0.1:{port}", "access", pki.tls(peer), deadline_s=10, token=token)
        resources.push_async_callback(channel.close)
        stubs[peer] = access_pb2_grpc.AccessServiceStub(channel)

    return World(access, stubs, act, watching)


def test_every_method_is_asked() -> None:
    methods = {method.name for method in pb.DESCRIPTOR.services_by_name["AccessService"].methods}

    assert methods == {name for *_, name, _ in [*questions(USERS), *SERVICES_ASK]}


@pytest.mark.proves("BEY-11", part="worklist")
@pytest.mark.proves("REP-4", part="worklist")
@pytest.mark.proves("REP-9", part="worklist")
@pytest.mark.proves("REP-12")
@pytest.mark.parametrize("about", [[GUEST, USERS[-1]], pytest.param(USERS, marks=pytest.mark.drill)])
async def test_nothing_of_a_pre_read_comes_to_anybody_who_is_not_of_the_group(
    fresh_database: Callable[[str], str], pki: Pki, about: Sequence[User]
) -> None:
    async with AsyncExitStack() as resources:
        pre_read, without = [await a_world(fresh_database("access"), pki, resources) for _ in range(2)]
        differed = set()
        for number, (step, (there, here)) in enumerate(LIFE.items(), start=1):
            await pre_read.hear(there)
            await without.hear(here)
            everything = about is USERS or number == len(LIFE)  # the drill asks everything at each step
            for user in OUTSIDERS:
                asked = list(questions_at(number, everything, user, about))
                answers = await asyncio.gather(*(world.answers(user, asked) for world in (pre_read, without)))
                assert answers[0] == answers[1], (step, user.role)
            assert await pre_read.answers_to_services() == await without.answers_to_services()
            for user in INSIDERS:
                if user.role in differed:
                    continue
                if await pre_read.list_of(user) != await without.list_of(user):
                    differed.add(user.role)

        assert {user.role for user in INSIDERS} == differed


@pytest.mark.proves("REP-12")
async def test_a_pre_read_case_is_listed_as_one_that_nobody_ever_opened(
    fresh_database: Callable[[str], str], pki: Pki
) -> None:
    async with AsyncExitStack() as resources:
        pre_read, without = [await a_world(fresh_database("access"), pki, resources) for _ in range(2)]
        for step in ("the pre-reader locks", "they add to it, and nothing happens"):
            await pre_read.hear(LIFE[step][0])
            await without.hear(None)

        for user in OUTSIDERS:
            # Who administers nobody is told nothing of others, whomever they ask about.
            asked = list(questions(USERS if user is MANAGER else [user, GUEST, USERS[-1]]))
            assert await pre_read.answers(user, asked) == await without.answers(user, asked)
        assert [] == await without.access.query("select * from readings")
