"""What a recipient does with one-time codes, and who ends a block: the use cases on a real PostgreSQL."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from kernel.errors import Conflict, Denied, Expired, Invalid, NotFound, Unauthenticated, Unavailable
from kernel.events import ShareBlocked, ShareOpened
from kernel.ids import BucketId, CaseId
from kernel.language import Language
from kernel.reach import Reach
from plumbing.db import Database
from services.sharing import events
from services.sharing.asking import active_user
from services.sharing.domain import Change, State
from services.sharing.otp import JUDGED_WITHIN, LIFE, Redeemed
from services.sharing.store import SharingTransaction
from tests.databases import Databases
from tests.sharing.test_codes_hostile import Cut
from tests.sharing.two_factor import (
    INSTANT,
    NORTH,
    SOUTH,
    World,
    a_number,
    a_world,
    at_once,
    tried,
    wrong,
)

BLOCKED = "the share is blocked after five wrong codes"


@pytest.fixture(scope="module")
def url(clones: Databases) -> str:
    return clones.make("sharing")


@pytest.fixture
async def world(url: str) -> AsyncIterator[World]:
    async with a_world(url) as made:
        yield made


# Sending and entering


@pytest.mark.proves("SHR-8")
@pytest.mark.proves("NTF-3", part="to whom, and what it holds")
@pytest.mark.proves("A57", part="a redeemed code registers the login session")
async def test_the_code_that_came_by_text_opens_the_bucket_in_this_login_session(world: World) -> None:
    number = a_number()
    mine = await world.bucket(number=number)

    ends_at = await world.codes.send_code(mine.login, "phone", mine.bucket_id)
    (text,) = world.texts.sent
    received = await mine.redeem(text.code)

    assert (number, Language.NL) == (text.mobile_number, text.language)
    assert world.clock.now() + timedelta(minutes=10) == ends_at
    assert [(mine.bucket_id, "phone")] == world.access.registered
    assert (False, False) == (received.code_needed, received.withheld)
    assert world.clock.now() == received.bucket.opened_at
    assert [(ShareOpened.subject, 2)] == await world.facts(mine)
    assert [(mine.login, "code.sent", "done"), (mine.login, "code.redeemed", "done")] == await world.audited(
        mine
    )


async def test_to_redeem_asks_access_who_acts_and_tells_it_of_the_session_and_no_more(url: str) -> None:
    """Who acts is asked before a try is counted; what they see comes back when it is registered."""
    cuts: list[Cut] = []

    def counting(database: Database[SharingTransaction]) -> Cut:
        cuts.append(Cut(database))
        return cuts[0]

    async with a_world(url, cut=counting) as world:
        mine = await world.bucket()
        code = await mine.send()
        (shared,) = await world.query(
            "select case_id from share_cases join buckets using (share_id) where bucket_id = $1",
            mine.bucket_id,
        )
        world.access.shown = [CaseId(shared["case_id"])]
        world.access.asked, cuts[0].opened = [], 0

        received = await mine.redeem(code)

        assert ["users", "register"] == world.access.asked
        assert 3 == cuts[0].opened
        assert (False, (shared["case_id"],)) == (received.withheld, received.share.case_ids)
        assert received.bucket.opened_at


@pytest.mark.proves("A57", part="in each login session")
async def test_every_login_session_needs_a_code_of_its_own(world: World) -> None:
    phone = await world.bucket()
    laptop = world.on(phone, "laptop")
    code = await phone.send()

    assert isinstance(await tried(laptop.redeem(code)), Denied)
    await phone.redeem(code)
    async with world.database.transaction() as transaction:
        for session, code_needed in (("phone", False), ("laptop", True)):
            user = await active_user(world.access, phone.login)
            received = await transaction.received_bucket(phone.bucket_id, user, session)
            assert received is not None
            assert (code_needed, code_needed) == (received.code_needed, received.withheld)
            (listed,) = await transaction.received(user, session, None, 10)
            assert code_needed is listed.code_needed
    await laptop.redeem(await world.next_code(laptop))
    assert [(phone.bucket_id, "phone"), (phone.bucket_id, "laptop")] == world.access.registered


@pytest.mark.proves("SEC-9", part="single use")
async def test_a_code_works_once(world: World) -> None:
    phone = await world.bucket()
    code = await phone.send()
    await phone.redeem(code)

    with pytest.raises(Conflict, match="a code was entered in this login session already"):
        await phone.redeem(code)
    with pytest.raises(Conflict, match="a code was entered in this login session already"):
        await phone.send()
    with pytest.raises(Denied, match="the code is wrong"):
        await world.on(phone, "laptop").redeem(code)
    assert [] == await world.query("select from codes where bucket_id = $1", phone.bucket_id)


async def test_a_code_sent_twice_at_once_opens_once_and_counts_nothing(world: World) -> None:
    """One that comes before access has accepted the session repeats that; later ones find it entered."""
    phone = await world.bucket()
    code = await phone.send()

    errors = await at_once(*(phone.redeem(code) for _ in range(4)))

    assert {None, Conflict} >= {error and type(error) for error in errors}
    assert None in errors
    assert [(ShareOpened.subject, 2)] == await world.facts(phone)
    assert 0 == (await world.stored(phone)).wrong_codes
    assert (0, 0) == await _tries(world, phone.bucket_id)


async def test_two_sessions_that_ask_at_different_times_each_keep_their_code(world: World) -> None:
    phone = await world.bucket()
    laptop = world.on(phone, "laptop")
    code_on_phone = await phone.send()
    code_on_laptop = await world.next_code(laptop)

    await phone.redeem(code_on_phone)
    await laptop.redeem(code_on_laptop)


async def test_another_code_replaces_the_one_before(world: World) -> None:
    mine = await world.bucket()
    first, second = await mine.send(), await world.next_code(mine)

    assert isinstance(await tried(mine.redeem(first)), Denied)
    await mine.redeem(second)


@pytest.mark.parametrize("text", ["", "12345", "1234567", "abcdef", "１２３４５６"])
async def test_what_cannot_be_a_code_is_no_try(world: World, text: str) -> None:
    mine = await world.bucket()

    with pytest.raises(Invalid, match="six digits"):
        await mine.redeem(text)
    assert (0, 0) == await _tries(world, mine.bucket_id)


@pytest.mark.proves("R11", part="of codes")
async def test_a_code_works_till_the_last_instant_of_its_ten_minutes(world: World) -> None:
    early, late = await world.bucket(), await world.bucket()
    codes = [await early.send(), await late.send()]
    world.clock.pass_by(LIFE - INSTANT)

    await early.redeem(codes[0])
    world.clock.pass_by(INSTANT)
    with pytest.raises(Expired, match="the code has expired: ask for another one"):
        await late.redeem(codes[1])


@pytest.mark.proves("A41", part="an expired but otherwise right code does not count")
async def test_an_expired_code_never_counts_a_wrong_one_always_does(world: World) -> None:
    mine = await world.bucket()
    code = await mine.send()
    world.clock.pass_by(LIFE)

    await mine.miss(2)
    assert [Expired] * 7 == [type(await tried(mine.redeem(code))) for _ in range(7)]
    assert 2 == (await world.stored(mine)).wrong_codes
    await mine.redeem(await mine.send())


@pytest.mark.proves("R11", part="of codes")
@pytest.mark.parametrize("seen_by", ["a try", "the sweeper", "nobody"])
async def test_a_clock_that_is_set_back_revives_no_code(world: World, seen_by: str) -> None:
    mine = await world.bucket()
    code = await mine.send()
    sent_at = world.clock.now()
    world.clock.pass_by(LIFE)
    if seen_by == "a try":
        assert isinstance(await tried(mine.redeem(code)), Expired)
    if seen_by == "the sweeper":
        await world.code_repairs.lapse()

    world.clock.at = sent_at - INSTANT if seen_by == "nobody" else sent_at + LIFE / 2
    assert isinstance(await tried(mine.redeem(code)), Expired)


# Five wrong ones


@pytest.mark.proves("SHR-9")
@pytest.mark.proves("A41", part="across sessions and newly sent codes")
@pytest.mark.proves("SEC-9", part="a new code does not reset the counter")
async def test_five_wrong_codes_block_in_whatever_sessions_and_for_whatever_codes(world: World) -> None:
    phone = await world.bucket()
    laptop = world.on(phone, "laptop")
    await phone.send()
    errors = [*await phone.miss(2), *await laptop.miss()]
    right = await world.next_code(phone)
    errors += await laptop.miss()
    assert State.ACTIVE is (await world.stored(phone)).state
    errors += await phone.miss()

    assert [Denied] * 5 == [type(error) for error in errors]
    assert "the code is wrong: after 1 more the share is blocked" == str(errors[3])
    assert (
        "the code is wrong, for the fifth time in succession: the share is blocked; an administrator of "
        "the sending facility can unblock it" == str(errors[4])
    )
    blocked = await world.stored(phone)
    assert (State.BLOCKED, 5, 3, 3) == (
        blocked.state,
        blocked.wrong_codes,
        blocked.version,
        blocked.accepted_version,
    )
    assert [Change(phone.bucket_id, 3, False, None)] == world.access.changes
    assert [(ShareBlocked.subject, 3)] == await world.facts(phone)
    assert ("share.blocked", "done") == (await world.audited(phone))[-1][1:]
    assert 5 == sum(action == "code.wrong" for _, action, _ in await world.audited(phone))

    with pytest.raises(Denied, match=BLOCKED):
        await phone.redeem(right)
    texts = len(world.texts.sent)
    with pytest.raises(Denied, match=BLOCKED):
        await world.next_code(phone)
    assert texts == len(world.texts.sent)


async def test_four_wrong_codes_block_nothing_and_a_right_one_begins_anew(world: World) -> None:
    phone = await world.bucket()
    laptop = world.on(phone, "laptop")
    code = await phone.send()
    await phone.miss(4)
    await phone.redeem(code)
    assert 0 == (await world.stored(phone)).wrong_codes

    await laptop.miss(4)
    await laptop.redeem(await world.next_code(laptop))
    assert State.ACTIVE is (await world.stored(phone)).state


async def test_guesses_count_also_where_no_code_was_ever_sent(world: World) -> None:
    mine = await world.bucket()

    await mine.miss(5)
    assert State.BLOCKED is (await world.stored(mine)).state


@pytest.mark.proves("A40", part="a block hits one recipient")
async def test_a_block_hits_nobody_else(world: World) -> None:
    mine, other = await world.bucket(), await world.bucket()
    code = await other.send()
    await mine.miss(5)

    await other.redeem(code)


# Unblocking


@pytest.mark.proves("SHR-10")
@pytest.mark.proves("A42")
@pytest.mark.parametrize(
    ("permission", "permit"),
    [
        ("operator", Reach(everywhere=True)),
        ("share.admin", Reach(everywhere=True)),
        ("share.admin", Reach(facilities=frozenset({SOUTH, NORTH}))),
    ],
)
async def test_a_service_desk_or_the_sending_facility_unblocks(
    world: World, permission: str, permit: Reach
) -> None:
    mine = await world.bucket()
    code = await mine.send()
    await mine.miss(5)
    world.access.permits = {permission: permit}

    _, bucket = await world.acting("ada", mine.bucket_id).unblock()

    assert (State.ACTIVE, 0, 4) == (bucket.state, bucket.wrong_codes, bucket.version)
    assert Change(mine.bucket_id, 4, True, None) == world.access.changes[-1]
    assert ("ada", "share.unblocked", "done") == (await world.audited(mine))[-1]
    assert isinstance(await tried(mine.redeem(code)), Denied)  # it is from before
    await mine.miss(3)
    await mine.redeem(await world.next_code(mine))


@pytest.mark.proves("A42", part="nobody else, and not the recipient")
async def test_nobody_else_unblocks(world: World) -> None:
    mine = await world.bucket()
    await mine.miss(5)
    access = world.access

    access.permits = {"share.admin": Reach(facilities=frozenset({SOUTH}))}
    for login in ("stranger", "recipient-of-another"):
        with pytest.raises(NotFound, match="no such share"):
            await world.acting(login, mine.bucket_id).unblock()
    with pytest.raises(Denied, match=r"you need the permission `share\.admin` at the facility of the cases"):
        await world.acting("sender", mine.bucket_id).unblock()
    access.permits = {"operator": Reach(everywhere=True), "share.admin": Reach(everywhere=True)}
    with pytest.raises(Denied, match="you cannot unblock a share that was sent to you"):
        await mine.unblock()
    with pytest.raises(NotFound, match="no such share"):
        await world.acting("ada", BucketId(uuid4())).unblock()
    assert State.BLOCKED is (await world.stored(mine)).state
    assert {("sender", "share.unblocked", "refused"), (mine.login, "share.unblocked", "refused")} <= set(
        await world.audited(mine)
    )


@pytest.mark.proves("A42", part="after a case has moved, the facility that it is at now")
async def test_a_case_that_moved_is_unblocked_where_it_is_now(world: World) -> None:
    mine = await world.bucket()
    await mine.miss(5)
    world.access.owner = SOUTH

    world.access.permits = {"share.admin": Reach(facilities=frozenset({NORTH}))}
    with pytest.raises(NotFound, match="no such share"):
        await world.acting("ada", mine.bucket_id).unblock()
    world.access.permits = {"share.admin": Reach(facilities=frozenset({SOUTH}))}
    await world.acting("ada", mine.bucket_id).unblock()
    assert State.ACTIVE is (await world.stored(mine)).state


@pytest.mark.parametrize("state", [State.ACTIVE, State.EXPIRED, State.REVOKED, State.PENDING])
async def test_only_what_is_blocked_is_unblocked(world: World, state: State) -> None:
    mine = await world.bucket(state=state)
    world.access.permits = {"operator": Reach(everywhere=True)}

    assert isinstance(await tried(world.acting("ada", mine.bucket_id).unblock()), Conflict | Expired)
    assert state is (await world.stored(mine)).state


# Access is away


async def test_a_block_is_told_until_access_has_accepted_it(world: World) -> None:
    mine = await world.bucket()
    world.access.failing = Unavailable("access does not answer")
    await mine.miss(5)
    assert (State.BLOCKED, 2) == (
        (await world.stored(mine)).state,
        (await world.stored(mine)).accepted_version,
    )

    assert isinstance(await tried(events.tell_access(world.repairs)), Unavailable)
    world.access.failing = None
    await events.tell_access(world.repairs)
    assert Change(mine.bucket_id, 3, False, None) in world.access.changes
    assert 3 == (await world.stored(mine)).accepted_version


@pytest.mark.parametrize("who", ["the timer", "the recipient"])
async def test_a_login_session_is_registered_as_soon_as_access_answers(world: World, who: str) -> None:
    mine = await world.bucket()
    code = await mine.send()
    world.access.failing = Unavailable("access does not answer")
    with pytest.raises(Unavailable, match="the code was right, but the share does not open yet: try again"):
        await mine.redeem(code)
    assert [] == world.access.registered

    world.access.failing = None
    if who == "the timer":
        await events.register(world.code_repairs)
    else:
        assert not (await mine.redeem(code)).withheld
    assert (mine.bucket_id, "phone") in world.access.registered
    assert isinstance(await tried(mine.redeem(code)), Conflict)


async def test_a_session_that_access_refuses_for_good_keeps_no_other_from_its_turn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await world.bucket(), await world.bucket()
    world.access.failing = Unavailable("access does not answer")
    for bucket in (first, second):
        assert isinstance(await tried(bucket.redeem(await bucket.send())), Unavailable)
    world.access.failing = None
    register = world.access.register

    async def refusing(redeemed: Redeemed) -> None:
        if redeemed.bucket_id == first.bucket_id:
            raise Invalid("no such session", field="session")
        await register(redeemed)

    monkeypatch.setattr(world.access, "register", refusing)
    await events.register(world.code_repairs)

    assert [(second.bucket_id, "phone")] == world.access.registered
    assert 0 == await events.register(world.code_repairs)


@pytest.mark.parametrize("session", ["", "s" * 129, "a\tb"])
async def test_a_session_that_access_would_not_take_is_refused_at_once(world: World, session: str) -> None:
    mine = await world.bucket()
    there = world.on(mine, session)

    with pytest.raises(Invalid, match="the login session must be 1 to 128 printable characters"):
        await there.send()
    with pytest.raises(Invalid, match="the login session must be"):
        await there.redeem("123456")
    assert ([], (0, 0)) == (world.texts.sent, await _tries(world, mine.bucket_id))


async def test_a_bucket_that_was_blocked_meanwhile_is_not_opened_by_trying_again(world: World) -> None:
    mine = await world.bucket()
    code = await mine.send()
    world.access.failing = Unavailable("access does not answer")
    await tried(mine.redeem(code))
    await world.on(mine, "laptop").miss(5)
    world.access.failing = None

    with pytest.raises(Denied, match=BLOCKED):
        await mine.redeem(code)


@pytest.mark.proves("A57", part="what has ended forgets its sessions")
async def test_what_has_ended_forgets_its_sessions_and_what_is_blocked_does_not(world: World) -> None:
    expiring = await world.bucket(ends_at=world.clock.now() + timedelta(hours=1))
    blocked = await world.bucket()
    for bucket in (expiring, blocked):
        await bucket.redeem(await bucket.send())

    await world.on(blocked, "laptop").miss(5)
    world.clock.pass_by(timedelta(hours=1))
    await world.repairs.expire()
    await events.tell_access(world.repairs)

    ids = [expiring.bucket_id, blocked.bucket_id]
    rows = await world.query("select bucket_id from sessions where bucket_id = any($1)", ids)
    assert [blocked.bucket_id] == [row["bucket_id"] for row in rows]
    told = {each.bucket_id: each.ended for each in world.access.changes}
    assert [True, False] == [told[each] for each in ids]


# Who is not meant


async def test_a_bucket_without_two_factor_or_number_has_no_codes(world: World) -> None:
    plain, unreachable = await world.bucket(two_factor=False), await world.bucket()
    person = world.access.people[unreachable.login]
    world.access.people[unreachable.login] = type(person)(
        person.id, person.login, person.name, True, person.language
    )

    with pytest.raises(Conflict, match="the share asks for no code"):
        await plain.send()
    with pytest.raises(Conflict, match="the share asks for no code"):
        await plain.redeem("123456")
    with pytest.raises(Conflict, match="you have no registered mobile number"):
        await unreachable.send()
    assert [] == world.texts.sent


@pytest.mark.proves("SEC-11", part="to anybody else a bucket is unknown, with its code too")
async def test_to_anybody_but_its_recipient_a_bucket_is_unknown(world: World) -> None:
    mine, other = await world.bucket(), await world.bucket()
    code = await mine.send()
    await mine.miss(4)
    ended = world.clock.now() + timedelta(hours=1)
    unknown = [
        world.acting(other.login, mine.bucket_id),
        world.acting("sender", mine.bucket_id),
        world.acting(mine.login, BucketId(uuid4())),
        *[await world.bucket(state=state) for state in (State.PENDING, State.REVOKED, State.EXPIRED)],
        await world.bucket(ends_at=ended),
        await world.bucket(ends_at=ended, state=State.BLOCKED),
    ]
    world.clock.at = ended
    before = await _tries(world, mine.bucket_id)

    errors = [await tried(act) for each in unknown for act in (each.send(), each.redeem(code))]

    assert {(NotFound, "there is no such share, or you do not see it", "bucket_id")} == {
        (type(error), error.sentence, error.field) for error in errors if error
    }
    assert 2 * len(unknown) == len(errors)
    assert before == await _tries(world, mine.bucket_id)
    assert 1 == len(world.texts.sent)


async def test_who_is_no_active_user_gets_and_redeems_no_code(world: World) -> None:
    mine = await world.bucket()
    code = await mine.send()
    person = world.access.people.pop(mine.login)

    assert isinstance(await tried(mine.redeem(code)), Unauthenticated)
    world.access.people[mine.login] = replace(person, active=False)
    world.clock.pass_by(timedelta(minutes=1))
    assert isinstance(await tried(mine.redeem(code)), Unauthenticated)
    assert isinstance(await tried(mine.send()), Unauthenticated)
    assert 1 == len(world.texts.sent)
    assert (0, 0) == await _tries(world, mine.bucket_id)


@pytest.mark.proves("SEC-9", part="kept as a keyed digest only")
@pytest.mark.proves("NTF-3", part="stored nowhere")
async def test_neither_code_nor_number_is_kept_or_logged(
    world: World, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    number = a_number()
    mine = await world.bucket(number=number)
    codes = [await mine.send(), await world.next_code(mine)]
    guess = wrong(world.texts)
    errors = [await tried(mine.redeem(guess)) for _ in range(2)]
    world.texts.failing = Unavailable("down")
    errors.append(await tried(world.next_code(mine)))
    codes.append(world.texts.sent[-1].code)
    world.texts.failing = None
    await mine.redeem(codes[1])

    dumped = await world.dumped()
    assert str(mine.bucket_id) in dumped
    told = [dumped, *map(repr, errors), caplog.text, *capsys.readouterr()]
    for secret in (number, number[3:], *(f'"{code}"' for code in codes), *(f",{code}," for code in codes)):
        assert not any(secret in each for each in told)


async def test_five_tries_of_which_one_was_never_judged_block_in_the_end(world: World) -> None:
    mine = await world.bucket()
    await mine.miss(4)
    async with world.database.transaction() as transaction:  # a process was killed after it had counted
        tries = await transaction.tries(mine.bucket_id)
        await transaction.save_tries(mine.bucket_id, tries.count(transaction.now))
    code = wrong(world.texts)

    with pytest.raises(Denied, match=BLOCKED):
        await mine.redeem(code)
    world.clock.pass_by(JUDGED_WITHIN - INSTANT)
    await world.code_repairs.block()
    assert State.ACTIVE is (await world.stored(mine)).state
    world.clock.pass_by(INSTANT)
    await world.code_repairs.block()
    assert (State.BLOCKED, 5) == ((await world.stored(mine)).state, (await world.stored(mine)).wrong_codes)
    assert [(ShareBlocked.subject, 3)] == await world.facts(mine)


async def _tries(world: World, bucket_id: BucketId) -> tuple[int, int]:
    """Those counted, and those judged wrong."""
    async with world.database.transaction() as transaction:
        tries = await transaction.tries(bucket_id)
    return tries.counted, tries.wrong
