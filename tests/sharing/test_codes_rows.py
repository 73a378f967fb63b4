"""One-time codes from the draw to the telephone: each test carries a whole row.

The use cases of sharing, with those of notify and a gateway over HTTP behind them.
"""

import hashlib
import hmac
import inspect
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from kernel.errors import Conflict, Denied, Exhausted, Expired, Invalid, ReadroomError, Unavailable
from kernel.language import Language
from kernel.reach import Reach
from services.notify import usecases as notify
from services.notify.channels import TextGateway
from services.notify.rendering import Templates
from services.sharing import main
from services.sharing.domain import State
from services.sharing.otp import Code, Pepper
from services.sharing.wanted import Recipient, check_recipient
from tests.databases import Databases
from tests.notify.builders import LINK_BASE
from tests.notify.system import TextGateway as Server
from tests.notify.system import text_gateway
from tests.sharing import two_factor
from tests.sharing.test_codes_hostile import COUNTS, Cut
from tests.sharing.two_factor import INSTANT, Actor, World, a_number, a_world, tried

HALF_A_MINUTE, TEN_MINUTES, DAY = timedelta(seconds=30), timedelta(minutes=10), timedelta(days=1)


@pytest.fixture(scope="module")
def url(clones: Databases) -> str:
    return clones.make("sharing")


@dataclass
class Texts(two_factor.Texts):
    """Notify's use case; `sent` holds what it was asked to send."""

    codes: notify.Codes | None = None

    async def send(self, mobile_number: str, code: str, language: Language) -> None:
        await super().send(mobile_number, code, language)
        assert self.codes
        await self.codes.send_text(mobile_number, code, language)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with text_gateway() as started:
        yield started


@pytest.fixture
async def worlds(url: str, server: Server) -> AsyncIterator[list[World]]:
    """Two processes of sharing on one database, at one time, which know the same people."""
    texts = Texts()
    async with a_world(url, texts=texts) as one, a_world(url, texts=texts) as two:
        gateway = TextGateway(server.url, "sesame", ["NL"], 1, one.clock)
        texts.codes = notify.Codes(gateway, Templates(LINK_BASE))
        two.access.people = one.access.people
        two.database._clock = one.clock
        yield [one, two]
        await gateway.close()


@pytest.fixture
def world(worlds: list[World]) -> World:
    return worlds[0]


def elsewhere(worlds: list[World], actor: Actor, session: str = "phone") -> Actor:
    """The same person, served by the other process."""
    return worlds[1].acting(actor.login, actor.bucket_id, session)


async def fail(error: type[ReadroomError], *acts: Any) -> None:
    """Each of them."""
    assert [error] * len(acts) == [type(await tried(act)) for act in acts]


@pytest.mark.proves("SEC-9")
async def test_a_code_is_kept_nowhere_and_good_for_ten_minutes_and_one_use(
    worlds: list[World], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = worlds[0]
    compared: list[Any] = []
    compare, numbers = hmac.compare_digest, iter([42, 481_516, 234_217, 108_334])

    def watched(*both: Any) -> bool:
        compared.extend(both)
        return compare(*both)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    monkeypatch.setattr(secrets, "randbelow", lambda end: next(numbers) if end == 10**6 else None)
    monkeypatch.setattr(world.codes, "_rand_below", secrets.randbelow)
    assert "secrets.randbelow" in inspect.getsource(main.build)
    with pytest.raises(Invalid, match="pepper"):
        Pepper("")
    mine, other = await world.bucket(), await world.bucket()

    # It has arrived when the call answers; a digest under the pepper is all that stays.
    assert "000042" == await mine.send()
    assert ["000042" in each["text"] for each in server.taken] == [True]
    (row,) = await world.query("select * from codes where bucket_id = $1", mine.bucket_id)
    message = b"code\0" + mine.bucket_id.bytes + b"phone" + b"000042"
    assert hmac.digest(b"p" * 32, message, hashlib.sha256) == row["otp_digest"]

    # PostgreSQL counts the wrong ones, whichever process compares them, and a new code changes nothing.
    await fail(Denied, mine.redeem("000001"), elsewhere(worlds, mine).redeem("000002"))
    assert row["otp_digest"] in compared
    assert "481516" == await other.send()
    world.clock.pass_by(HALF_A_MINUTE)
    assert "234217" == await mine.send()
    await fail(Denied, mine.redeem("000042"))
    assert 3 == (await world.stored(mine)).wrong_codes

    # To the instant.
    world.clock.pass_by(TEN_MINUTES - HALF_A_MINUTE)
    await fail(Expired, other.redeem("481516"))
    world.clock.pass_by(HALF_A_MINUTE - INSTANT)
    await mine.redeem("234217")
    await fail(Conflict, mine.redeem("234217"))
    await fail(Denied, world.on(mine, "laptop").redeem("234217"))

    # Closed, whatever fails; and nobody tries again to send what was not sent.
    server.status = 503
    asked = server.asked
    await fail(Unavailable, other.send())
    server.status = 200
    assert "108334" == world.texts.sent[-1].code
    await fail(Denied, other.redeem("108334"))
    last, cut = await world.bucket(), Cut(world.database)
    digest = world.pepper.of_code(last.bucket_id, "phone", "151623")
    async with world.database.transaction() as transaction:
        await transaction.save_code(Code(last.bucket_id, "phone", digest, world.clock.now(), 1))
    monkeypatch.setattr(world.codes, "_database", cut)
    cut.next_call(COUNTS, "commit")
    worked = world.pepper.worked
    await fail(Unavailable, last.redeem("151623"))
    assert (asked + 1, 3, worked) == (server.asked, len(server.taken), world.pepper.worked)
    dumped = await world.dumped()
    assert not [code for code in ("000042", "481516", "234217", "108334") if code in dumped]


@pytest.mark.proves("A41")
async def test_five_wrong_codes_in_succession_block_one_bucket_until_it_is_unlocked(
    worlds: list[World], server: Server
) -> None:
    world = worlds[0]
    mine, other = await world.bucket(), await world.bucket()
    nobody = replace(world.access.people[mine.login], mobile_number="")
    with pytest.raises(Invalid, match="two_factor"):
        check_recipient(Recipient(mine.login, two_factor=True), nobody, "sender")
    laptop = world.on(mine, "laptop")

    # Counted across sessions, processes and codes; not, if it was right but too late.
    code = await mine.send()
    await fail(Exhausted, mine.send(), laptop.send())
    await fail(Denied, *(each.redeem(two_factor.wrong(world.texts)) for each in (mine, laptop)))
    await elsewhere(worlds, mine, "tablet").miss()
    world.clock.pass_by(TEN_MINUTES)
    await fail(Expired, mine.redeem(code), mine.redeem(code))
    code = await mine.send()
    await mine.miss()
    assert (State.ACTIVE, 4) == ((await world.stored(mine)).state, (await world.stored(mine)).wrong_codes)

    # A success begins anew; each login session needs a code of its own.
    await mine.redeem(code)
    assert 0 == (await world.stored(mine)).wrong_codes
    await fail(Conflict, mine.send())
    await fail(Denied, laptop.redeem(code))
    await laptop.miss(3)
    world.clock.pass_by(HALF_A_MINUTE)
    right, theirs = await laptop.send(), await other.send()
    await elsewhere(worlds, mine, "tablet").miss()
    assert State.BLOCKED is (await world.stored(mine)).state

    # Not even a right one opens it, none is sent, and time heals nothing. Others are not hit.
    sent = len(server.taken)
    world.clock.pass_by(HALF_A_MINUTE)
    await fail(Denied, laptop.redeem(right), laptop.send(), elsewhere(worlds, mine, "tv").send())
    await other.redeem(theirs)
    world.clock.pass_by(DAY)
    await world.code_repairs.lapse()
    await fail(Denied, laptop.redeem(right), laptop.send())
    assert sent == len(server.taken)
    world.access.permits = {"operator": Reach(everywhere=True)}
    await world.acting("olaf", mine.bucket_id).unblock()
    await laptop.miss(4)
    await laptop.redeem(await laptop.send())


@pytest.mark.proves("SEC-10")
async def test_texts_go_to_registered_numbers_of_listed_countries_and_never_too_many(
    worlds: list[World], server: Server
) -> None:
    world, number = worlds[0], a_number()
    mine, same_number = await world.bucket(number=number), await world.bucket(number=number)
    person = world.access.people[mine.login]

    async def are_refused() -> None:
        """For the number whatever it is for, for the bucket whatever number it is, in any process."""
        await fail(Exhausted, same_number.send(), elsewhere(worlds, same_number).send())
        world.access.people[mine.login] = replace(person, mobile_number=a_number())
        await fail(Exhausted, mine.send(), elsewhere(worlds, mine, "laptop").send())
        world.access.people[mine.login] = person

    began, seconds = world.clock.now(), timedelta(seconds=1)
    for sent_at, next_at in ((0, 30), (30, 60), (60, 600), (600, 630), (1260, 1290), (1920, 86_400)):
        world.clock.at = began + sent_at * seconds
        await mine.send()
        await are_refused()
        world.clock.at = began + next_at * seconds - INSTANT
        await are_refused()
    world.clock.pass_by(INSTANT)
    await same_number.send()
    assert [number] * 7 == [each["to"] for each in server.taken]

    belgian, landline = await world.bucket(number="+32470123456"), await world.bucket(number="+31201234567")
    await fail(Denied, belgian.send(), landline.send())
    assert 7 == server.asked

    # After five failures the gateway is left alone for half a minute; what was not sent counts nowhere.
    server.status = 503
    unlucky = await world.bucket()
    await fail(Unavailable, *(unlucky.send() for _ in range(8)))
    assert 7 + 5 == server.asked
    server.status = 200
    world.clock.pass_by(HALF_A_MINUTE - INSTANT)
    await fail(Unavailable, unlucky.send())
    world.clock.pass_by(INSTANT)
    await unlucky.send()
    assert 8 == len(server.taken)
