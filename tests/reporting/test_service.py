"""Reporting over the wire, with the decisions of access as it runs; and whoever should not get in."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest

from kernel.errors import Conflict, Denied, Invalid, NotFound, ReadroomError, Unauthenticated
from kernel.events import CaseDeleted
from local.embedded import EmbeddedServers
from local.pki import Pki
from plumbing.db import Database, Transaction
from tests.access.service import CLOCK, serve
from tests.databases import Databases
from tests.reporting.system import ALL, System, a_case, a_user, give, running
from tests.wait import eventually
from wire.access.v1 import access_pb2
from wire.reporting.v1 import reporting_pb2 as pb

FINAL, PRELIMINARY, PRE_READ = (
    access_pb2.READ_TYPE_FINAL,
    access_pb2.READ_TYPE_PRELIMINARY,
    access_pb2.READ_TYPE_PRE_READ,
)


@dataclass
class World:
    """A running reporting, one facility with its people, and one case."""

    system: System
    database: Database[Transaction]
    facility_id: str
    case_id: str
    vos: access_pb2.User

    def acting(self, login: str) -> Any:
        return self.system.acting(login)

    async def lock(self, login: str) -> pb.Lock:
        lock: pb.Lock = (await self.acting(login).Lock(pb.LockRequest(case_id=self.case_id))).lock
        return lock

    async def complete(self, login: str, read_type: Any, text: str) -> pb.Report:
        request = pb.CompleteRequest(case_id=self.case_id, read_type=read_type, text=text)
        report: pb.Report = (await self.acting(login).Complete(request)).report
        return report

    async def sees(self, login: str) -> pb.ListReportsResponse:
        answer: pb.ListReportsResponse = await self.acting(login).ListReports(
            pb.ListReportsRequest(case_id=self.case_id)
        )
        return answer

    async def query(self, sql: str, *values: object) -> list[Any]:
        """Straight from its database; $1 is the case."""
        async with self.database.statements() as transaction:
            return list(await transaction.connection.fetch(sql, UUID(self.case_id), *values))

    async def described(self) -> pb.DescribeReadingResponse:
        stub = self.system.called_by("access", lambda: None)
        return await stub.DescribeReading(pb.DescribeReadingRequest(case_id=self.case_id))


@dataclass
class Hospital:
    """What all tests share: a running reporting, and people who see a facility only once a test says so."""

    system: System
    database: Database[Transaction]
    people: dict[str, access_pb2.User]

    async def north(self) -> World:
        """Another facility with one case; everybody sees it but the operator and the outsider."""
        access, people = self.system.access, self.people
        north = await access.facility("North")
        for login, level, read_types in (
            ("probe", access_pb2.LEVEL_VIEW, []),
            ("vos", access_pb2.LEVEL_REPORT, [FINAL, PRELIMINARY]),
            ("lind", access_pb2.LEVEL_REPORT, [FINAL]),
            ("okafor", access_pb2.LEVEL_VIEW, []),
        ):
            await give(access, people[login], north, level, read_types)
        people["boss"].permissions.add(permission="facility.admin", facility_id=north)
        people["boss"] = await access.save_user(people["boss"], set_permissions=True)
        return World(self.system, self.database, north, await a_case(access, north), people["vos"])


@pytest.fixture(scope="module")
async def hospital(servers: EmbeddedServers, clones: Databases, pki: Pki) -> AsyncIterator[Hospital]:
    # Before anything runs: PostgreSQL makes no database while a client of this very loop is connecting.
    url, access_url = clones.make("reporting"), clones.make("access")
    database = await Database.connect(url, Transaction, clock=CLOCK, new_id=uuid4)
    async for access in serve(servers, access_url, pki):
        async with running(servers, url, access) as system:
            home, nothing = await access.facility("Home"), access_pb2.LEVEL_UNSPECIFIED
            people = {
                login: await a_user(access, login, role, home, nothing)
                for login, role in (
                    ("probe", access_pb2.ROLE_RADIOLOGY_SUPPORT),
                    ("vos", access_pb2.ROLE_RADIOLOGIST),
                    ("lind", access_pb2.ROLE_RADIOLOGIST),
                    ("okafor", access_pb2.ROLE_REFERRING_PHYSICIAN),
                    ("olaf", access_pb2.ROLE_OPERATOR),
                    ("boss", access_pb2.ROLE_ADMINISTRATOR),
                    ("outsider", access_pb2.ROLE_RADIOLOGIST),
                )
            }
            yield Hospital(system, database, people)
    await database.close()


@pytest.fixture
async def world(hospital: Hospital) -> World:
    return await hospital.north()


@pytest.mark.proves("REP-3")
@pytest.mark.proves("ACC-9")
@pytest.mark.proves("ACC-13")
async def test_a_case_is_locked_drafted_completed_and_read_by_its_facility(world: World) -> None:
    lock = await world.lock("vos")
    assert ("vos", "Dr Vos") == (lock.holder_login, lock.holder_name)
    draft = (
        await world.acting("vos").SaveDraft(pb.SaveDraftRequest(case_id=world.case_id, text="nodule"))
    ).draft
    assert ("vos", "Dr Vos", "nodule", False) == (
        draft.author_login,
        draft.author_name,
        draft.text,
        draft.author_only,
    )
    assert (lock, [], []) == _parts(await world.sees("okafor"))

    # The facility supports final reports only until somebody switches another type on.
    with pytest.raises(Denied, match="kept beside your draft, for you alone to see; you still hold the lock"):
        await world.complete("vos", PRELIMINARY, "nodule, 4 mm")
    switched = pb.ActivateReadTypeRequest(facility_id=world.facility_id, read_type=PRELIMINARY, active=True)
    answer = await world.acting("boss").ActivateReadType(switched)
    assert [PRELIMINARY, FINAL] == list(answer.read_types)
    report = await world.complete("vos", PRELIMINARY, "nodule, 4 mm")

    assert (None, [report], []) == _parts(await world.sees("okafor"))
    assert (PRELIMINARY, "Dr Vos", "nodule, 4 mm") == (report.read_type, report.author_name, report.text)
    await world.lock("lind")
    with pytest.raises(Denied):  # preliminary is active, and not among their types
        await world.complete("lind", PRELIMINARY, "x")
    await world.complete("lind", FINAL, "nodule, 5 mm")

    described = await world.described()
    assert (6, pb.DescribeReadingResponse.STATE_FINAL) == (described.version, described.facility.state)
    assert described.facility == described.group
    assert [PRELIMINARY, FINAL] == list(described.facility.read_types)

    async def said() -> bool:
        return 6 == len(await _published(world))

    await eventually(said)


async def test_a_case_whose_images_are_all_held_is_not_completed(world: World) -> None:
    held = await a_case(world.system.access, world.facility_id, held=True)
    vos = world.acting("vos")
    await vos.Lock(pb.LockRequest(case_id=held))

    with pytest.raises(Conflict, match=r"no image of the case is confirmed yet.*kept as a draft"):
        await vos.Complete(pb.CompleteRequest(case_id=held, read_type=FINAL, text="normal"))

    left = await vos.ListReports(pb.ListReportsRequest(case_id=held))
    assert (["normal"], []) == ([draft.text for draft in left.drafts], list(left.reports))
    assert "vos" == left.lock.holder_login
    assert not (await vos.ListReports(pb.ListReportsRequest(case_id=world.case_id))).reports


@pytest.mark.proves("A17", part="a drafted case is told from another")
async def test_it_is_told_whether_anybody_keeps_a_draft(world: World) -> None:
    """Also after a refused completion, and as long as anybody's is left; no side is shown it."""
    await world.lock("vos")
    assert not (await world.described()).drafted
    await world.acting("vos").SaveDraft(pb.SaveDraftRequest(case_id=world.case_id, text="nodule"))
    drafted = await world.described()
    await world.acting("vos").SaveDraft(pb.SaveDraftRequest(case_id=world.case_id, text="nodule, 4 mm"))
    assert drafted == await world.described()
    assert drafted.drafted
    await world.acting("vos").Unlock(pb.UnlockRequest(case_id=world.case_id))

    await world.lock("lind")
    await world.complete("lind", FINAL, "nodule, 5 mm")
    assert (await world.described()).drafted
    await world.lock("vos")
    with pytest.raises(Conflict, match="your text was kept beside your draft"):
        await world.complete("vos", FINAL, "nodule, 6 mm")
    assert (await world.described()).drafted


async def test_the_last_draft_that_is_signed_leaves_none(world: World) -> None:
    await world.lock("vos")
    await world.acting("vos").SaveDraft(pb.SaveDraftRequest(case_id=world.case_id, text="nodule"))
    await world.complete("vos", FINAL, "nodule")

    assert not (await world.described()).drafted


@pytest.mark.proves("REP-7")
@pytest.mark.proves("REP-9")
async def test_a_pre_read_given_in_three_steps_is_read_by_the_group_only(world: World) -> None:
    options = pb.ListReadTypesRequest(facility_id=world.facility_id)
    assert [FINAL] == list((await world.acting("boss").ListReadTypes(options)).read_types)
    switch = pb.ActivateReadTypeRequest(read_type=PRE_READ, active=True)
    with pytest.raises(Denied):
        await world.acting("boss").ActivateReadType(switch)
    await world.acting("olaf").ActivateReadType(switch)
    switch.facility_id = world.facility_id
    answer = await world.acting("boss").ActivateReadType(switch)
    assert [FINAL, PRE_READ] == list(answer.read_types)
    assert [FINAL, PRE_READ] == list((await world.acting("boss").ListReadTypes(options)).read_types)
    await world.lock("vos")
    with pytest.raises(Denied):  # it is an option, and not given to them yet
        await world.complete("vos", PRE_READ, "nodule?")
    access, north, report_level = world.system.access, world.facility_id, access_pb2.LEVEL_REPORT
    olivia = await a_user(access, "olivia", access_pb2.ROLE_REFERRING_PHYSICIAN, north, access_pb2.LEVEL_VIEW)
    with pytest.raises(Invalid):
        await give(access, olivia, north, report_level, read_types=[FINAL, PRE_READ])
    await give(access, world.vos, north, report_level, read_types=[FINAL, PRE_READ])

    await world.lock("vos")
    report = await world.complete("vos", PRE_READ, "nodule?")

    assert (None, [], []) == _parts(await world.sees("okafor"))
    assert [report] == list((await world.sees("lind")).reports)
    described = await world.described()
    assert described.facility == pb.DescribeReadingResponse.Projection()
    assert [PRE_READ] == list(described.group.read_types)
    assert described.group.state == described.facility.state


@pytest.mark.proves("ACC-7")
@pytest.mark.proves("ACC-10")
async def test_a_privilege_that_is_lowered_while_he_reads_leaves_a_draft(world: World) -> None:
    await world.lock("vos")
    await give(world.system.access, world.vos, world.facility_id, access_pb2.LEVEL_DRAFT)
    with pytest.raises(Denied, match="your text was kept as a draft"):
        await world.complete("vos", FINAL, "nodule")

    assert (None, [], ["nodule"]) == _parts(await world.sees("lind"))
    assert (None, [], []) == _parts(await world.sees("okafor"))


@pytest.mark.proves("ACC-12", part="what is completed")
async def test_a_privilege_that_expires_while_he_reads_leaves_a_draft(world: World) -> None:
    await world.lock("vos")
    await give(
        world.system.access, world.vos, world.facility_id, access_pb2.LEVEL_REPORT, [FINAL], "2020-01-01"
    )
    with pytest.raises(Denied, match="your text was kept as a draft"):
        await world.complete("vos", FINAL, "nodule")
    assert (None, [], ["nodule"]) == _parts(await world.sees("vos"))


async def test_a_report_keeps_the_revision_of_access(world: World) -> None:
    await world.lock("vos")
    await world.complete("vos", FINAL, "nodule")
    (row,) = await world.query("select revision from reports where case_id = $1")
    checked = await world.system.access.acting("vos").Check(access_pb2.CheckRequest(case_id=world.case_id))
    assert bool(checked.revision) == bool(row["revision"])


async def test_a_login_is_one_person_however_it_is_written(world: World) -> None:
    await world.lock("VOS")
    await world.acting("vos").RenewLock(pb.RenewLockRequest(case_id=world.case_id))
    await world.complete("Vos", FINAL, "nodule")


# Whoever should not get in

REQUESTS: dict[str, Any] = {
    "Lock": pb.LockRequest,
    "RenewLock": pb.RenewLockRequest,
    "Unlock": pb.UnlockRequest,
    "BreakLock": pb.BreakLockRequest,
    "SaveDraft": lambda case_id: pb.SaveDraftRequest(case_id=case_id, text="x"),
    "Complete": lambda case_id: pb.CompleteRequest(case_id=case_id, text="x", read_type=FINAL),
    "AddAddendum": lambda case_id: pb.AddAddendumRequest(case_id=case_id, report_id=str(uuid4()), text="x"),
    "Reopen": pb.ReopenRequest,
    "ListReports": pb.ListReportsRequest,
}


def _request(verb: str, case_id: str) -> Any:
    make = REQUESTS[verb]
    return make(case_id=case_id)


async def test_a_case_out_of_sight_is_answered_like_one_that_does_not_exist(world: World) -> None:
    await world.lock("vos")
    for verb in REQUESTS:
        answers = [
            await _refusal(getattr(world.acting(login), verb)(_request(verb, case_id)))
            for login, case_id in (
                ("outsider", world.case_id),
                ("vos", str(uuid4())),
                ("olaf", world.case_id),
            )
        ]
        assert {
            (
                NotFound,
                "there is no such case, or you do not see it",
                "case_id",
            )
        } == set(answers), verb


AN_ID = "0190f7a4-8c3e-7c55-9d6e-0d4b1d1c2a3b"


@pytest.mark.parametrize("bad", ["", "x", "0" * 36, f"{AN_ID}\0", f"{{{AN_ID}}}", "../../etc/passwd"])
async def test_what_is_no_id_is_refused_by_name(world: World, bad: str) -> None:
    for verb in REQUESTS:
        word, _, field = await _refusal(getattr(world.acting("vos"), verb)(_request(verb, bad)))
        assert (Invalid, "case_id") == (word, field), verb
    stub = world.system.called_by("access", lambda: None)
    with pytest.raises(Invalid):
        await stub.DescribeReading(pb.DescribeReadingRequest(case_id=bad))


@pytest.mark.parametrize("text", ["", " ", "a\0b", "\x1b]0;x\x07", "x" * 200_001, "\ufeff"])
async def test_what_is_no_text_is_refused_and_nothing_is_kept(world: World, text: str) -> None:
    await world.lock("vos")
    for verb, request in (
        ("SaveDraft", pb.SaveDraftRequest(case_id=world.case_id, text=text)),
        ("Complete", pb.CompleteRequest(case_id=world.case_id, text=text, read_type=FINAL)),
        ("AddAddendum", pb.AddAddendumRequest(case_id=world.case_id, report_id=str(uuid4()), text=text)),
    ):
        word, _, field = await _refusal(getattr(world.acting("vos"), verb)(request))
        assert (Invalid, "text") == (word, field), verb
    assert [] == list((await world.sees("vos")).drafts)


@pytest.mark.parametrize("read_type", [0, 5, -1, 2**31 - 1])
async def test_what_is_no_read_type_is_refused(world: World, read_type: Any) -> None:
    await world.lock("vos")
    with pytest.raises(Invalid, match="read_type"):
        await world.complete("vos", read_type, "x")
    with pytest.raises(Invalid, match="read_type"):
        await world.acting("boss").ActivateReadType(
            pb.ActivateReadTypeRequest(facility_id=world.facility_id, read_type=read_type, active=True)
        )


async def test_an_unknown_facility_is_not_found(world: World) -> None:
    unknown = str(uuid4())
    for request in (
        world.acting("boss").ListReadTypes(pb.ListReadTypesRequest(facility_id=unknown)),
        world.acting("boss").ActivateReadType(
            pb.ActivateReadTypeRequest(facility_id=unknown, read_type=FINAL, active=True)
        ),
    ):
        with pytest.raises(NotFound):
            await request
    for each in ALL[:3]:
        with pytest.raises(Invalid, match="only pre-read"):
            await world.acting("olaf").ActivateReadType(
                pb.ActivateReadTypeRequest(read_type=each, active=True)
            )


async def test_each_method_lets_in_its_callers_only(world: World) -> None:
    case_id = world.case_id
    token = world.system.access.token(login="vos", audience="reporting")
    describe = pb.DescribeReadingRequest(case_id=case_id)
    for peer in ("bff", "ingest", "routing"):
        with pytest.raises(Denied):
            await world.system.called_by(peer, lambda: token).DescribeReading(describe)
        with pytest.raises(Denied):
            await world.system.called_by(peer, lambda: token).ListVersions(pb.ListVersionsRequest())
    for verb in REQUESTS:
        for peer in ("access", "ingest"):
            with pytest.raises(Denied):
                await getattr(world.system.called_by(peer, lambda: token), verb)(_request(verb, case_id))
        with pytest.raises(Unauthenticated):
            await getattr(world.system.called_by("bff", lambda: None), verb)(_request(verb, case_id))
    other = world.system.access.token(login="vos", audience="ingest")
    with pytest.raises(Unauthenticated):
        await world.system.called_by("bff", lambda: other).Lock(pb.LockRequest(case_id=case_id))


async def test_a_lock_is_refused_with_its_holder_and_its_end(world: World) -> None:
    await world.lock("vos")
    with pytest.raises(Conflict, match=r"locked by `Dr Vos` until 20.* UTC"):
        await world.lock("lind")
    with pytest.raises(Conflict):
        await world.acting("lind").Unlock(pb.UnlockRequest(case_id=world.case_id))


async def _refusal(call: Any) -> tuple[type[ReadroomError], str, str | None]:
    with pytest.raises(ReadroomError) as refused:
        await call
    return type(refused.value), refused.value.sentence, refused.value.field


def _parts(seen: pb.ListReportsResponse) -> tuple[pb.Lock | None, list[pb.Report], list[str]]:
    lock = seen.lock if seen.HasField("lock") else None
    return lock, list(seen.reports), [each.text for each in seen.drafts]


async def _published(world: World) -> list[Any]:
    return await world.query(
        "select from outbox where published_at is not null and subject = 'reading.changed.v1'"
        " and payload ->> 'id' = $1::uuid::text"
    )


# Deletion


@pytest.mark.proves("ING-7", part="a fact alone purges nothing that nobody deletes: reports")
async def test_what_nobody_deletes_stays_written_whatever_a_fact_says(world: World) -> None:
    await world.lock("vos")
    await world.complete("vos", FINAL, "a report")

    fact = uuid4()
    await world.system.access.say(CaseDeleted(UUID(world.case_id), 1), event_id=fact)

    async def is_refused() -> bool:
        return bool(await world.query("select $1::uuid from dead_letters where event_id = $2", fact))

    await eventually(is_refused)
    left = await world.query("select text from reports where case_id = $1")
    assert ["a report"] == [row["text"] for row in left]


@pytest.mark.proves("ING-6", part="reports, from the fact to the purge")
async def test_a_deletion_ends_what_is_being_written_and_then_all_that_was(world: World) -> None:
    access = world.system.access
    world.vos.permissions.add(permission="study.delete", facility_id=world.facility_id)
    await access.save_user(world.vos, set_permissions=True)
    await world.lock("vos")
    await world.complete("vos", FINAL, "PLANTED report")
    await world.lock("vos")
    await world.acting("vos").SaveDraft(pb.SaveDraftRequest(case_id=world.case_id, text="PLANTED draft"))

    begin = access_pb2.BeginDeleteRequest(case_id=world.case_id, deletion_id=str(uuid4()))
    await access.acting("vos", "ingest").BeginDelete(begin)

    with pytest.raises(NotFound):
        await world.complete("vos", FINAL, "PLANTED too late")
    for login in ("vos", "lind", "okafor"):
        with pytest.raises(NotFound):
            await world.sees(login)

    await access.say(CaseDeleted(UUID(world.case_id), 1))

    async def texts_left() -> list[str]:
        rows = await world.query(
            "select text from reports where case_id = $1 union select text from drafts where case_id = $1"
        )
        return [row["text"] for row in rows]

    assert {"PLANTED report", "PLANTED draft"} >= set(await texts_left())

    async def is_purged() -> bool:
        return not await texts_left()

    await eventually(is_purged)
    with pytest.raises(NotFound):
        await world.described()


# What access is told


@pytest.mark.proves("A64", part="what reporting tells over the wire")
async def test_access_is_told_whose_draft_waits_who_signed_what_and_how_the_lock_found_it(
    world: World,
) -> None:
    access, told = world.system.access, pb.DescribeReadingResponse
    moore = await a_user(
        access, "moore", access_pb2.ROLE_TRANSCRIPTIONIST, world.facility_id, access_pb2.LEVEL_DRAFT
    )
    await world.lock("vos")
    await world.complete("vos", FINAL, "nodule")
    await world.acting("vos").Reopen(pb.ReopenRequest(case_id=world.case_id))
    await world.lock("moore")
    await world.acting("moore").SaveDraft(pb.SaveDraftRequest(case_id=world.case_id, text="as dictated"))

    described = await world.described()
    group, facility = described.group, described.facility
    assert told.DRAFT_STATE_TRANSCRIBED == group.draft
    assert told.AtLock(state=told.STATE_REOPENED, read_types=[FINAL]) == group.at_lock
    (signed,) = group.reports
    assert (FINAL, "vos", world.vos.user_id) == (signed.read_type, signed.author_login, signed.author_user_id)
    assert signed.completed_at == group.reported_at
    assert (told.DRAFT_STATE_UNSPECIFIED, False) == (facility.draft, facility.HasField("at_lock"))
    assert [signed] == list(facility.reports)
    assert moore.login == group.lock.holder_login
