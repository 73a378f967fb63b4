"""One-time codes, without any storage: making them, judging tries, how many may be sent."""

import itertools
import secrets
from collections import Counter
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import Invalid
from kernel.ids import BucketId
from services.sharing.otp import (
    JUDGED_WITHIN,
    LIFE,
    LIMITS,
    Code,
    Pepper,
    Redeemed,
    Tries,
    Verdict,
    checked_code,
    new_code,
    next_text_at,
)
from tests.clocks import NOON

INSTANT = timedelta(microseconds=1)
BUCKET, OTHER = BucketId(UUID(int=1)), BucketId(UUID(int=2))
PEPPER = Pepper("p" * 32)
CONTACT = 3


def a_code(code: str = "012345", *, session: str = "phone", lapsed: bool = False) -> Code:
    return Code(BUCKET, session, PEPPER.of_code(BUCKET, session, code), NOON, CONTACT, lapsed)


def judged(
    code: Code | None,
    guess: str = "012345",
    now: datetime = NOON,
    *,
    bucket_id: BucketId = BUCKET,
    session: str = "phone",
    contact_version: int = CONTACT,
) -> Verdict:
    return PEPPER.judge(code, Redeemed(bucket_id, session, contact_version), guess, now)


@pytest.mark.proves("SEC-9", part="six digits from the randomness that is given")
def test_a_code_is_six_digits_whatever_the_number() -> None:
    asked = []

    def rand_below(end: int) -> int:
        asked.append(end)
        return [0, 42, 999_999][len(asked) - 1]

    assert ["000000", "000042", "999999"] == [new_code(rand_below) for _ in range(3)]
    assert [10**6] * 3 == asked


def test_no_code_is_likelier_than_another() -> None:
    firsts = Counter(new_code(secrets.randbelow)[0] for _ in range(5000))

    assert set("0123456789") == set(firsts)
    assert max(firsts.values()) < 2 * min(firsts.values())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "12345",
        "1234567",
        " 12345",
        "12345\n",
        "123456\n",
        "abcdef",
        "-12345",
        "１２３４５６",
        "١٢٣٤٥٦",
        "12\x00456",
    ],
)
def test_what_cannot_be_a_code_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(Invalid, match=r"^a code has six digits \(`code`\)$") as refused:
        checked_code(text)
    assert "code" == refused.value.field


# Judging


def test_the_code_that_was_sent_is_right_and_every_other_wrong() -> None:
    assert judged(a_code()) is Verdict.RIGHT
    assert {Verdict.WRONG} == {
        judged(a_code(), f"{number:06}") for number in range(0, 10**6, 991) if number != 12345
    }


@pytest.mark.proves("SEC-9", part="10 minutes")
@pytest.mark.proves("R11", part="of codes")
@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        (NOON, Verdict.RIGHT),
        (NOON + LIFE - INSTANT, Verdict.RIGHT),
        (NOON + LIFE, Verdict.EXPIRED),
        (NOON + timedelta(days=365), Verdict.EXPIRED),
        (NOON - INSTANT, Verdict.EXPIRED),  # the clock was set back: for how long it would live is not known
    ],
)
def test_a_code_lives_ten_minutes_to_the_instant(now: datetime, verdict: Verdict) -> None:
    assert timedelta(minutes=10) == LIFE
    assert verdict is judged(a_code(), now=now)


@pytest.mark.parametrize("contact_version", [CONTACT - 1, CONTACT + 1])
def test_a_right_code_that_went_to_another_contact_is_neither_right_nor_wrong(contact_version: int) -> None:
    assert judged(a_code(), contact_version=contact_version) is Verdict.OUTDATED
    assert judged(a_code(lapsed=True), contact_version=contact_version) is Verdict.OUTDATED
    assert judged(a_code(), "543210", contact_version=contact_version) is Verdict.WRONG


@pytest.mark.proves("R11", part="of codes")
def test_a_code_once_seen_expired_stays_so_when_the_clock_goes_back() -> None:
    assert judged(a_code(lapsed=True), now=NOON) is Verdict.EXPIRED


@pytest.mark.parametrize("now", [NOON, NOON + LIFE])
def test_an_expired_code_is_no_excuse_for_a_wrong_one(now: datetime) -> None:
    assert judged(a_code(), "543210", now) is Verdict.WRONG


@pytest.mark.parametrize("guess", ["000000", "012345"])
def test_without_a_code_every_guess_is_wrong(guess: str) -> None:
    assert judged(None, guess) is Verdict.WRONG


def test_a_code_is_right_for_its_bucket_and_its_login_session_only() -> None:
    assert judged(a_code(), bucket_id=OTHER) is Verdict.WRONG
    assert judged(a_code(), session="laptop") is Verdict.WRONG
    assert judged(a_code(session="laptop"), session="laptop") is Verdict.RIGHT


@pytest.mark.proves("SEC-9", part="a keyed digest")
def test_a_digest_tells_nothing_without_the_pepper() -> None:
    theirs = Pepper("q" * 32)

    assert PEPPER.of_code(BUCKET, "s", "012345") != theirs.of_code(BUCKET, "s", "012345")
    assert PEPPER.of_number("+31612345678") != theirs.of_number("+31612345678")
    assert 32 == len(PEPPER.of_code(BUCKET, "s", "012345"))
    assert "otp_digest" not in repr(a_code())


@given(
    first=st.tuples(st.uuids(), st.text(max_size=8), st.from_regex(r"\A[0-9]{6}\Z")),
    second=st.tuples(st.uuids(), st.text(max_size=8), st.from_regex(r"\A[0-9]{6}\Z")),
)
def test_no_two_codes_share_a_digest(first: tuple[UUID, str, str], second: tuple[UUID, str, str]) -> None:
    digests = [
        PEPPER.of_code(BucketId(bucket_id), session, code) for bucket_id, session, code in (first, second)
    ]

    assert (first == second) == (digests[0] == digests[1])


def test_a_number_never_has_the_digest_of_a_code() -> None:
    as_number = (BUCKET.bytes + b"s" + b"012345").decode("latin-1")

    assert PEPPER.of_code(BUCKET, "s", "012345") != PEPPER.of_number(as_number)


@pytest.mark.parametrize("secret", ["", "p" * 31])
def test_without_a_pepper_worth_the_name_nothing_starts(secret: str) -> None:
    with pytest.raises(Invalid, match="the pepper is too short: expected at least 32 characters"):
        Pepper(secret)


# Tries


def tried(*verdicts: Verdict, tries: Tries | None = None) -> Tries:
    """After one try at a time."""
    tries = tries or Tries()
    for verdict in verdicts:
        assert tries.is_room
        tries = tries.count(NOON).after(verdict)
    return tries


RIGHT, WRONG, EXPIRED, OUTDATED = Verdict.RIGHT, Verdict.WRONG, Verdict.EXPIRED, Verdict.OUTDATED


@pytest.mark.proves("SHR-9", part="five in succession, and no four")
@pytest.mark.parametrize(
    ("verdicts", "wrong"),
    [
        ([], 0),
        ([WRONG] * 4, 4),
        ([WRONG] * 5, 5),
        ([WRONG, RIGHT, WRONG], 1),
        ([WRONG] * 4 + [RIGHT] + [WRONG] * 4, 4),
        ([EXPIRED] * 9, 0),
        ([OUTDATED] * 9, 0),
        ([WRONG, EXPIRED, WRONG, EXPIRED], 2),
    ],
)
def test_wrong_codes_in_succession_are_counted(verdicts: list[Verdict], wrong: int) -> None:
    tries = tried(*verdicts)

    assert (wrong, wrong) == (tries.wrong, tries.counted)
    assert (wrong == 5) == tries.block == (not tries.is_room)


def test_a_try_whose_judging_failed_was_wrong() -> None:
    tries = tried(WRONG, WRONG).count(NOON)

    for now, wrong in (
        (NOON - INSTANT, 2),
        (NOON, 2),
        (NOON + JUDGED_WITHIN - INSTANT, 2),
        (NOON + JUDGED_WITHIN, 3),
    ):
        assert (3, wrong) == (tries.settled(now).counted, tries.settled(now).wrong)
    assert Tries() == Tries().settled(NOON)


def test_four_that_are_wrong_beside_one_that_is_right_block_nothing() -> None:
    tries = Tries()
    for _ in range(5):
        tries = tries.count(NOON)
    assert not tries.is_room

    for verdict in (WRONG, WRONG, RIGHT, WRONG, WRONG):
        tries = tries.after(verdict)
        assert not tries.block
    assert (2, 2) == (tries.counted, tries.wrong)


@given(st.lists(st.sampled_from([*Verdict, "try", "try", "try", "lose", "wait"]), max_size=60))
def test_in_whatever_order_they_are_judged_no_more_than_five_are_without_a_success(acts: list[Any]) -> None:
    """A try is counted if there is room, then judged, or lost to a failure; time passes."""
    tries, now, being_judged, judged_wrong = Tries(), NOON, 0, 0
    for act in acts:
        match act:
            case "try" if tries.settled(now).is_room:
                tries = tries.settled(now).count(now)
                being_judged += 1
            case Verdict() if being_judged and not tries.block:
                tries = tries.after(act)
                being_judged -= 1
                judged_wrong = {WRONG: judged_wrong + 1, RIGHT: 0}.get(act, judged_wrong)
            case "lose" if being_judged:
                being_judged -= 1
            case "wait" if not being_judged:
                now += JUDGED_WITHIN
        assert 5 >= tries.counted >= tries.wrong >= judged_wrong
        assert tries.block or tries.counted >= being_judged + tries.wrong


# How many


def seconds(*numbers: float) -> list[datetime]:
    return [NOON + timedelta(seconds=number) for number in numbers]


@pytest.mark.proves("SEC-10", part="how many in which time")
@pytest.mark.parametrize(
    ("sent", "now", "next_at"),
    [
        ([], 0, None),
        ([0], 0, 30),
        ([0], 29.999999, 30),
        ([0], 30, None),
        ([0, 30, 60], 90, 600),  # three in ten minutes
        ([0, 30, 60], 600, None),
        ([0, 30, 60, 600], 630, None),  # 30, 60 and 600 are three, but 30 has just left the ten minutes
        ([0, 31, 60, 600], 630, 631),
        ([0, 600, 1200, 1800, 2400, 3000], 3600, 86_400),  # six in a day
        ([0, 600, 1200, 1800, 2400, 3000], 86_400, None),
        ([0, 600, 1200, 1800, 2400, 86_390], 86_400, 86_420),  # of several limits the last to end
        ([3600], 0, 3630),  # the clock was set back by an hour: it opens nothing
    ],
)
def test_texts_are_limited(sent: list[float], now: float, next_at: float | None) -> None:
    expected = None if next_at is None else NOON + timedelta(seconds=next_at)

    for order in itertools.islice(itertools.permutations(sent), 24):
        assert expected == next_text_at(seconds(*order), NOON + timedelta(seconds=now))


@given(st.lists(st.integers(0, 200_000), min_size=1, max_size=60))
def test_whoever_asks_whenever_he_likes_never_gets_more(asked: list[int]) -> None:
    sent: list[datetime] = []
    for at in seconds(*sorted(asked)):
        if next_text_at(sent, at) is None:
            sent.append(at)

    for most, within in LIMITS:
        for start in sent:
            assert most >= sum(start <= each < start + within for each in sent)


@given(st.lists(st.integers(0, 100_000), max_size=12), st.integers(0, 100_000))
def test_the_next_text_may_be_sent_exactly_when_it_is_said(sent: list[int], now: int) -> None:
    next_at = next_text_at(seconds(*sent), seconds(now)[0])

    if next_at is not None:
        assert next_text_at(seconds(*sent), next_at - INSTANT) is not None
        assert next_text_at(seconds(*sent), next_at) is None
