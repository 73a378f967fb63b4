"""Codes under attack and under failure: guesses at once, a database that goes away, answers that tell."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from kernel.errors import Conflict, Denied, Invalid, NotFound, Unavailable
from kernel.events import ShareBlocked
from kernel.ids import BucketId
from kernel.language import Language
from local.pki import Pki
from plumbing import rpc
from plumbing.db import Database
from services.sharing.clients import NotifyClient
from services.sharing.codes import Texts
from services.sharing.domain import State
from services.sharing.otp import JUDGED_WITHIN, Code, Verdict
from services.sharing.store import SharingTransaction
from tests.databases import Databases
from tests.sharing import two_factor
from tests.sharing.hearing import Heard, HeardTransaction
from tests.sharing.two_factor import Actor, WatchedPepper, World, a_world, at_once, tried, wrong
from wire.access.v1 import access_pb2
from wire.notify.v1 import notify_pb2, notify_pb2_grpc

CONNECTIONS = 25


@pytest.fixture(scope="module")
def url(clones: Databases) -> str:
    return clones.make("sharing")


@pytest.fixture
async def world(url: str) -> AsyncIterator[World]:
    async with a_world(url) as made:
        yield made


# At once


@pytest.fixture
async def replicas(url: str) -> AsyncIterator[list[World]]:
    """Two processes on one database, with 50 open connections together."""
    pepper = WatchedPepper()
    async with AsyncExitStack() as worlds:
        both = [
            await worlds.enter_async_context(a_world(url, pool_size=CONNECTIONS, pepper=pepper))
            for _ in range(2)
        ]
        async with AsyncExitStack() as connections:
            for each in both:
                for _ in range(CONNECTIONS):
                    await connections.enter_async_context(each.database.statements())
        yield both


def everywhere(replicas: list[World], actor: Actor, guesses: list[str]) -> list[Any]:
    """These guesses, spread over both."""
    acting = [each.acting(actor.login, actor.bucket_id) for each in replicas]
    return [acting[number % 2].redeem(guess) for number, guess in enumerate(guesses)]


@pytest.mark.proves("SHR-9", part="of 50 who guess at once five are compared")
@pytest.mark.proves("SEC-9", part="the counter of 5 lives in PostgreSQL")
async def test_of_fifty_guesses_at_once_five_are_compared(replicas: list[World]) -> None:
    world = replicas[0]
    mine = await world.bucket()
    code = await mine.send()
    guesses = [f"{number:06}" for number in range(51) if f"{number:06}" != code][:50]

    errors = await at_once(*everywhere(replicas, mine, guesses))

    assert [Verdict.WRONG] * 5 == world.pepper.judged
    assert {Denied} == {type(error) for error in errors}
    assert 5 == sum("the code is wrong" in str(error) for error in errors)
    assert (State.BLOCKED, 5) == ((await world.stored(mine)).state, (await world.stored(mine)).wrong_codes)
    assert [(ShareBlocked.subject, 3)] == await world.facts(mine)
    assert isinstance(await tried(mine.redeem(code)), Denied)
    assert 5 == len(world.pepper.judged)


@pytest.mark.parametrize("position", [0, 3, 25])
async def test_a_right_code_among_them_wins_only_before_five_others(
    replicas: list[World], position: int
) -> None:
    world = replicas[0]
    mine = await world.bucket()
    code = await mine.send()
    guesses = [wrong(world.texts)] * 49
    guesses.insert(position, code)

    errors = await at_once(*everywhere(replicas, mine, guesses))

    judged = world.pepper.judged
    before = judged.index(Verdict.RIGHT) if Verdict.RIGHT in judged else len(judged)
    assert 5 >= before
    assert 5 >= len(judged) - before - 1
    opened = (mine.bucket_id, "phone") in [each for one in replicas for each in one.access.registered]
    assert opened is (Verdict.RIGHT in judged) is (None in errors)


@pytest.mark.proves("SEC-10", part="exact under parallel requests")
async def test_of_many_who_ask_two_processes_at_once_one_is_sent_a_code(replicas: list[World]) -> None:
    mine = await replicas[0].bucket()
    replicas[1].access.people = replicas[0].access.people

    await at_once(*(replicas[number % 2].acting(mine.login, mine.bucket_id).send() for number in range(20)))

    assert 1 == len(replicas[0].texts.sent) + len(replicas[1].texts.sent)


# A database that goes away


@dataclass
class Cut:
    """A database that kills its own connection at one transaction of each call: as it begins or commits."""

    database: Database[SharingTransaction]
    at: int = 0
    when: str = "begin"
    opened: int = 0

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[SharingTransaction]:
        self.opened += 1
        is_cut = self.opened == self.at
        async with self.database.transaction() as transaction:
            if is_cut and self.when == "begin":
                await self._kill(transaction.connection)
            yield transaction
            if is_cut and self.when == "commit":
                await self._kill(transaction.connection)

    def audited(self, actor: str, action: str, object_: str) -> AbstractAsyncContextManager[None]:
        return self.database.audited(actor, action, object_)

    async def _kill(self, connection: Any) -> None:
        async with self.database.statements() as other:
            pid = connection.get_server_pid()
            await other.connection.execute("select pg_terminate_backend($1, 1000)", pid)

    def next_call(self, at: int, when: str) -> None:
        self.at, self.when, self.opened = at, when, 0


@pytest.fixture
async def failing(url: str) -> AsyncIterator[tuple[World, Cut]]:
    cuts: list[Cut] = []

    def cut(database: Database[SharingTransaction]) -> Cut:
        cuts.append(Cut(database))
        return cuts[0]

    async with a_world(url, cut=cut) as made:
        yield made, cuts[0]


COUNTS, JUDGES = 1, 2


@pytest.mark.proves("SHR-9", part="a failure after counting gives no free try")
@pytest.mark.parametrize("when", ["begin", "commit"])
async def test_a_failure_after_counting_gives_nobody_a_free_try(
    failing: tuple[World, Cut], when: str
) -> None:
    world, cut = failing
    mine = await world.bucket()
    code = await mine.send()
    errors = []
    for guess in (code, wrong(world.texts), code, code, code):
        cut.next_call(JUDGES, when)
        errors.append(await tried(mine.redeem(guess)))

    assert {(Unavailable, "the database does not answer")} == {(type(each), str(each)) for each in errors}
    cut.next_call(0, "")
    with pytest.raises(Denied, match="blocked after five wrong codes"):
        await mine.redeem(code)
    assert [] == world.access.registered
    assert 5 >= len(world.pepper.judged)

    world.clock.pass_by(JUDGED_WITHIN)
    await world.code_repairs.block()
    assert (State.BLOCKED, 5) == ((await world.stored(mine)).state, (await world.stored(mine)).wrong_codes)


async def test_after_fewer_failures_the_right_code_is_still_good(failing: tuple[World, Cut]) -> None:
    world, cut = failing
    mine = await world.bucket()
    code = await mine.send()
    for _ in range(4):
        cut.next_call(JUDGES, "commit")
        await tried(mine.redeem(code))
    cut.next_call(0, "")

    await mine.redeem(code)
    world.clock.pass_by(JUDGED_WITHIN)
    await world.code_repairs.block()
    assert State.ACTIVE is (await world.stored(mine)).state


@pytest.mark.parametrize("when", ["begin", "commit"])
async def test_what_could_not_be_counted_is_not_compared(failing: tuple[World, Cut], when: str) -> None:
    world, cut = failing
    mine = await world.bucket()
    code = await mine.send()
    for _ in range(7):
        cut.next_call(COUNTS, when)
        assert isinstance(await tried(mine.redeem(code)), Unavailable)

    assert 0 == world.pepper.worked
    assert [] == world.access.registered


KEEPS = 3


@pytest.mark.parametrize("when", ["begin", "commit"])
async def test_a_code_that_could_not_be_kept_does_not_work_and_its_text_counts(
    failing: tuple[World, Cut], when: str
) -> None:
    world, cut = failing
    mine = await world.bucket()
    cut.next_call(KEEPS, when)

    assert isinstance(await tried(mine.send()), Unavailable)
    cut.next_call(0, "")
    assert isinstance(await tried(mine.redeem(world.texts.sent[0].code)), Denied)
    assert "too many codes" in str(await tried(mine.send()))


async def test_a_text_that_could_not_be_counted_is_not_sent(failing: tuple[World, Cut]) -> None:
    world, cut = failing
    mine = await world.bucket()
    for at in (1, 2):
        cut.next_call(at, "commit")
        assert isinstance(await tried(mine.send()), Unavailable)

    assert [] == world.texts.sent


async def test_an_unsent_text_that_cannot_be_taken_back_counts(failing: tuple[World, Cut]) -> None:
    world, cut = failing
    mine = await world.bucket()
    world.texts.failing = Conflict("the text gateway does not answer")
    cut.next_call(KEEPS, "begin")

    with pytest.raises(Unavailable, match="the text message could not be sent: try again"):
        await mine.send()
    cut.next_call(0, "")
    assert "too many codes" in str(await tried(mine.send()))


# What an answer tells


@pytest.fixture
async def heard(url: str) -> AsyncIterator[World]:
    async with a_world(url, transaction=HeardTransaction) as made:
        yield made


async def work_of(world: World, act: Any) -> tuple[str, list[str], int]:
    """What an act answers, its statements, and how often a digest was made and compared."""
    Heard.said, worked = [], world.pepper.worked
    error = await tried(act)
    return repr(error), Heard.said, world.pepper.worked - worked


@pytest.mark.proves("A41", part="while blocked a right code fails like a wrong one")
async def test_while_blocked_a_right_code_takes_the_same_work_as_a_wrong_one(heard: World) -> None:
    Heard.said = []
    mine = await heard.bucket()
    await mine.miss(4)
    code = await mine.send()
    await mine.miss()
    async with heard.database.transaction() as transaction:  # as if the code had not been voided
        digest = heard.pepper.of_code(mine.bucket_id, "phone", code)
        await transaction.save_code(Code(mine.bucket_id, "phone", digest, heard.clock.now(), 1))

    right = await work_of(heard, mine.redeem(code))
    wrong_ = await work_of(heard, mine.redeem(wrong(heard.texts)))

    assert wrong_ == right
    assert 1 == right[2]
    assert "blocked after five wrong codes" in right[0]


@pytest.mark.proves("SEC-11", part="somebody else's, ended and absent ones alike")
async def test_somebody_elses_bucket_takes_the_same_work_as_an_absent_one(heard: World) -> None:
    Heard.said = []
    mine = await heard.bucket()
    code = await mine.send()
    blocked = await heard.bucket()
    await blocked.miss(5)

    acts: list[Callable[[Actor], Any]] = [
        lambda actor: actor.redeem(code),
        lambda actor: actor.send(),
        lambda actor: actor.unblock(),
    ]
    for act in acts:
        absent = await work_of(heard, act(heard.acting("eve", BucketId(uuid4()))))
        assert "NotFound('there is no such share, or you do not see it')" == absent[0]
        for there in (mine, blocked):
            assert absent == await work_of(heard, act(heard.acting("eve", there.bucket_id)))


# The port and its client


class Notify(notify_pb2_grpc.NotifyServiceServicer):
    """Notify as far as sharing asks it."""

    def __init__(self, texts: two_factor.Texts) -> None:
        self.texts = texts

    async def SendText(  # noqa: N802
        self, request: notify_pb2.SendTextRequest, context: Any
    ) -> notify_pb2.SendTextResponse:
        language = Language(access_pb2.Language.Name(request.language).removeprefix("LANGUAGE_").lower())
        await self.texts.send(request.mobile_number, request.code, language)
        return notify_pb2.SendTextResponse()


@pytest.fixture(params=["fake", "client"])
async def port(request: pytest.FixtureRequest, pki: Pki) -> AsyncIterator[tuple[Texts, two_factor.Texts]]:
    """What hands texts over, and what has come of them."""
    texts = two_factor.Texts()
    if request.param == "fake":
        yield texts, texts
        return
    server = rpc.Server("notify", "127.0.0.1:0", pki.tls("notify"), None)
    servicer = Notify(texts)  # type: ignore[abstract]  # the contract has more methods than sharing asks
    server.add(notify_pb2_grpc.add_NotifyServiceServicer_to_server, servicer, "wire.notify.v1.NotifyService")
    channel = rpc.connect(f"127.0.0.1:{await server.start()}", "notify", pki.tls("sharing"))
    yield NotifyClient(channel), texts
    await channel.close()
    await server.stop(0.1)


@pytest.mark.parametrize("language", Language)
async def test_a_text_is_handed_over_as_it_was_given(
    port: tuple[Texts, two_factor.Texts], language: Language
) -> None:
    client, texts = port

    await client.send("+31612345678", "012345", language)

    assert [two_factor.Text("+31612345678", "012345", language)] == texts.sent


@pytest.mark.parametrize(
    "error", [Unavailable("?"), Conflict("down"), Invalid("no"), Denied("no"), NotFound("no")]
)
async def test_why_a_text_was_not_sent_is_told(
    port: tuple[Texts, two_factor.Texts], error: Exception
) -> None:
    client, texts = port
    texts.failing = error  # type: ignore[assignment]

    with pytest.raises(type(error)):
        await client.send("+31612345678", "012345", Language.EN)
