"""How a bucket may stand, until when, in which language, by which link; what a share must say."""

import itertools
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import Conflict, Expired, Invalid, ReadroomError
from kernel.ids import BucketId, CaseId, UserId
from kernel.language import Language
from services.sharing.domain import Act, Rights, State, User, most_allowing
from services.sharing.links import Links, link_digest
from services.sharing.otp import MAX_WRONG_CODES
from services.sharing.validity import (
    THE_DEFAULT,
    Policy,
    Validity,
    a_month_after,
    end_for,
    end_of,
    last_day_before,
)
from services.sharing.wanted import (
    MAX_CASES,
    MAX_MESSAGE_CHARACTERS,
    MAX_REASON_CHARACTERS,
    Preferences,
    Recipient,
    check,
    check_recipient,
    language_of,
    preferences_of,
)
from tests.clocks import NOON
from tests.sharing.builders import LATER, NORTH, a_bucket, a_wish

EN, NL, FR, DE = Language


# How a bucket stands

P, A, B, E, R = State.PENDING, State.ACTIVE, State.BLOCKED, State.EXPIRED, State.REVOKED
TABLE = {
    # pending, active, blocked, expired, revoked
    Act.GRANT: (A, None, None, None, None),
    Act.BLOCK: (None, B, None, None, None),
    Act.UNBLOCK: (None, None, A, None, None),
    Act.SHORTEN: (P, A, B, None, None),
    Act.LENGTHEN: (None, A, B, A, None),
    Act.EXPIRE: (None, None, None, E, None),
    Act.REVOKE: (R, R, R, R, R),
}


@pytest.mark.parametrize(("act", "state"), list(itertools.product(Act, State)))
def test_what_becomes_of_a_bucket_is_a_table(act: Act, state: State) -> None:
    bucket = a_bucket(
        state=state, ends_at=NOON if state is E else LATER, wrong_codes=5 * (state is B), version=7
    )
    becomes = TABLE[act][list(State).index(state)]
    if becomes is None:
        with pytest.raises((Conflict, Expired)):
            bucket.after(act, NOON)
    else:
        after = bucket.after(act, NOON)
        assert (becomes, 8) == (after.state, after.version)


@pytest.mark.proves("R11", part="of a share, by the clock alone")
@pytest.mark.parametrize("state", [A, B])
def test_a_bucket_ends_at_the_very_instant(state: State) -> None:
    bucket = a_bucket(state=state)

    assert state is bucket.stands(LATER - timedelta(microseconds=1))
    assert E is bucket.stands(LATER)
    assert state is replace(bucket, ends_at=None).stands(LATER)


@pytest.mark.proves("A41", part="a renewal ends no block")
def test_what_was_blocked_when_it_expired_is_blocked_when_it_is_renewed() -> None:
    blocked = a_bucket(state=A, wrong_codes=MAX_WRONG_CODES).after(Act.BLOCK, NOON)

    expired = blocked.after(Act.EXPIRE, LATER)
    begun = replace(expired, accepted_version=expired.version).lengthening(LATER)
    renewed = begun.lengthened(LATER + timedelta(days=1), LATER)

    assert (E, B) == (expired.state, renewed.state)
    assert A is renewed.after(Act.UNBLOCK, LATER).state


@pytest.mark.parametrize("state", State)
def test_access_is_told_to_show_what_is_active_and_nothing_else(state: State) -> None:
    assert (state is A) == a_bucket(state=state).change.open


def test_a_bucket_that_changed_while_it_was_granted_is_told_again() -> None:
    pending = a_bucket()
    shortened = pending.shortened(NOON, NOON - timedelta(days=1))

    assert 1 == pending.granted().accepted_version == pending.granted().version
    assert (2, 1) == (shortened.granted().version, shortened.granted().accepted_version)
    with pytest.raises(Conflict):
        pending.after(Act.REVOKE, NOON).granted()


@pytest.mark.proves("A46", part="what is shared on")
def test_what_is_shared_on_is_the_bucket_that_allows_most() -> None:
    """Without a code before more rights, these before a later end; of equal ones the oldest."""
    read, write = Rights.READ_REPORT, Rights.WRITE_REPORT
    ids = [BucketId(UUID(int=number)) for number in range(1, 7)]
    ranked = [
        (a_bucket(id=ids[1], ends_at=None), write),
        (a_bucket(id=ids[2], ends_at=None), write),
        (a_bucket(id=ids[0], ends_at=LATER), write),
        (a_bucket(id=ids[5], ends_at=None), read),
        (a_bucket(id=ids[4], ends_at=NOON), read),
        (a_bucket(id=ids[3], ends_at=None, two_factor=True), write),
    ]

    for rest in (ranked[begin:] for begin in range(len(ranked))):
        assert all(most_allowing(each) is rest[0][0] for each in itertools.permutations(rest))
    assert most_allowing([]) is None


# Until when


@pytest.mark.proves("A47", part="one month")
@pytest.mark.parametrize(
    ("day", "month_after"),
    [
        ("2026-11-01", "2026-12-01"),
        ("2026-12-15", "2027-01-15"),
        ("2027-01-31", "2027-02-28"),
        ("2028-01-30", "2028-02-29"),
        ("2026-10-31", "2026-11-30"),
    ],
)
def test_one_month_is_the_same_day_or_the_last(day: str, month_after: str) -> None:
    assert date.fromisoformat(month_after) == a_month_after(date.fromisoformat(day))


@pytest.mark.parametrize(
    ("day", "time_zone", "instant"),
    [
        (date(2026, 11, 1), "UTC", "2026-11-02T00:00:00+00:00"),
        (date(2026, 11, 1), "Europe/Amsterdam", "2026-11-01T23:00:00+00:00"),
        (date(2026, 7, 1), "Europe/Amsterdam", "2026-07-01T22:00:00+00:00"),
        (date(2026, 10, 24), "Europe/Amsterdam", "2026-10-24T22:00:00+00:00"),  # the night of the change
        (date(2026, 10, 25), "Europe/Amsterdam", "2026-10-25T23:00:00+00:00"),
        (date(2026, 11, 1), "Pacific/Kiritimati", "2026-11-01T10:00:00+00:00"),
        (date(9999, 12, 30), "Pacific/Honolulu", "9999-12-31T10:00:00+00:00"),
    ],
)
def test_a_share_ends_when_its_last_day_ends_at_the_sending_facility(
    day: date, time_zone: str, instant: str
) -> None:
    assert datetime.fromisoformat(instant) == end_of(day, time_zone)
    assert day == last_day_before(end_of(day, time_zone), time_zone)


def test_the_day_is_that_of_the_sending_facility() -> None:
    """On Kiritimati it is the next day already, so today here is a day that has passed there."""
    with pytest.raises(Invalid):
        end_for(Validity("2026-11-01"), Policy(NORTH), "Pacific/Kiritimati", NOON, None)


@pytest.mark.proves("A47", part="a policy does not contradict itself")
@pytest.mark.parametrize(
    ("field", "policy"),
    [
        ("", {}),
        ("", {"default_days": 7, "maximum_days": 7, "unlimited_allowed": False}),
        ("default_days", {"default_days": 8, "maximum_days": 7, "unlimited_allowed": False}),
        ("unlimited_allowed", {"maximum_days": 7}),
        ("default_days", {"default_days": -1}),
        ("maximum_days", {"maximum_days": 36_501}),
    ],
)
def test_a_policy_that_contradicts_itself_is_refused(field: str, policy: dict[str, Any]) -> None:
    assert field == refused(lambda: Policy(NORTH, **policy).check())


@given(
    st.integers(946_684_800, 4_102_444_800).map(lambda second: datetime.fromtimestamp(second, UTC)),
    st.integers(0, 400),
    st.integers(0, 400),
    st.sampled_from(["UTC", "Europe/Amsterdam", "Pacific/Kiritimati", "America/Sao_Paulo"]),
)
def test_the_default_is_never_more_than_the_maximum(
    now: datetime, default_days: int, maximum_days: int, time_zone: str
) -> None:
    policy = Policy(NORTH, default_days, maximum_days)
    ends_at = end_for(THE_DEFAULT, policy, time_zone, now, None)

    assert ends_at is not None
    assert ends_at > now
    last_day = last_day_before(ends_at, time_zone)
    assert ends_at == end_for(Validity(last_day.isoformat()), policy, time_zone, now, None)


# What a share must say


def refused(act: Any) -> str:
    """The field that is refused, empty if none is."""
    try:
        act()
    except Invalid as error:
        return error.field or "?"
    return ""


ONE = CaseId(UUID(int=1))


@pytest.mark.parametrize(
    ("field", "wish"),
    [
        ("", {}),
        ("case_ids", {"case_ids": []}),
        ("case_ids", {"case_ids": [CaseId(UUID(int=each)) for each in range(MAX_CASES + 1)]}),
        ("case_ids", {"case_ids": [ONE, ONE]}),
        ("recipients", {"recipients": []}),
        ("", {"recipients": [Recipient(each) for each in "abc"]}),
        ("recipients", {"recipients": [Recipient(each) for each in "abcd"]}),
        ("recipients", {"recipients": [Recipient("rita"), Recipient("RITA")]}),
        ("recipients", {"recipients": [Recipient("rita\n")]}),
        ("recipients", {"recipients": [Recipient("r" * 129)]}),
        ("rights", {"rights": None}),
        ("patient_agreed", {"patient_agreed": False}),
        ("anonymize", {"anonymize": True}),
        ("reason", {"reason": ""}),
        ("reason", {"reason": " \t\n\u2003"}),
        ("", {"reason": "ü" * MAX_REASON_CHARACTERS}),
        ("reason", {"reason": "x" * (MAX_REASON_CHARACTERS + 1)}),
        ("reason", {"reason": "a\nb"}),
        ("reason", {"reason": "a\0b"}),
        ("", {"message": "Bonjour,\n\nvoilà 胸部 👩‍⚕️"}),
        ("", {"message": "x" * MAX_MESSAGE_CHARACTERS}),
        ("message", {"message": "x" * (MAX_MESSAGE_CHARACTERS + 1)}),
        ("message", {"message": "a\r\nBcc: everybody"}),
        ("message", {"message": "a\x1b[2J"}),
        ("message", {"message": "a\x85b"}),
    ],
)
@pytest.mark.proves("SHR-13")
@pytest.mark.proves("SHR-14", part="it is mandatory")
@pytest.mark.proves("SHR-19", part="it is asked for")
@pytest.mark.proves("A50", part="recipients and reason")
@pytest.mark.proves("A58", part="refused until the lens exists")
def test_what_a_share_must_say(field: str, wish: dict[str, Any]) -> None:
    assert field == refused(lambda: check(a_wish(**wish), max_recipients=3))


RITA = User(UserId(uuid4()), "rita", "Dr Rita", True, NL, "rita@example.org", "+31612345678")


@pytest.mark.parametrize(
    ("field", "recipient", "user"),
    [
        ("", Recipient("rita", two_factor=True, send_mail=True), RITA),
        ("recipients", Recipient("rita"), None),
        ("recipients", Recipient("rita"), replace(RITA, active=False)),
        ("recipients", Recipient("vos"), replace(RITA, login="vos")),
        ("two_factor", Recipient("rita", two_factor=True), replace(RITA, mobile_number="")),
        ("send_mail", Recipient("rita", send_mail=True), replace(RITA, email="")),
        ("", Recipient("rita"), replace(RITA, mobile_number="", email="")),
    ],
)
@pytest.mark.proves("SHR-8", part="only with a registered number")
@pytest.mark.proves("SHR-11", part="only with an address")
def test_with_whom_and_how_can_be_shared(field: str, recipient: Recipient, user: User | None) -> None:
    assert field == refused(lambda: check_recipient(recipient, user, "vos"))


@pytest.mark.proves("SHR-15", part="the default")
@pytest.mark.proves("SHR-16", part="the default")
@pytest.mark.proves("A48")
@pytest.mark.parametrize(
    ("languages", "language"),
    [
        ([], EN),
        ([FR], FR),
        ([NL, FR], NL),
        ([NL, FR, FR], FR),
        ([NL, FR, DE], NL),
        ([FR, NL, NL, FR], FR),
        ([DE, NL, NL, FR], DE),
    ],
)
def test_the_language_is_that_of_the_majority_else_of_the_first(
    languages: list[Language], language: Language
) -> None:
    assert language is language_of(languages)


@pytest.mark.proves("SHR-26", part="what is kept")
def test_what_was_chosen_for_one_is_what_the_next_share_begins_with() -> None:
    assert Preferences(True, False) == preferences_of([Recipient("rita"), Recipient("rob", two_factor=True)])
    assert Preferences() == preferences_of([Recipient("rita")])


# Links


@pytest.mark.proves("SEC-11", part="256 bits of which only the digest is stored")
def test_a_link_is_made_from_the_secret_and_looked_up_by_its_digest() -> None:
    links, bucket_id = Links("s" * 32), BucketId(uuid4())
    text = links.text(bucket_id)

    assert 43 == len(text)
    assert text == Links("s" * 32).text(bucket_id)
    assert len({text, links.text(BucketId(uuid4())), Links("t" * 32).text(bucket_id)}) == 3
    assert links.stored(bucket_id) == link_digest(text)
    assert text.encode() not in links.stored(bucket_id)


def test_every_refusal_is_a_new_error() -> None:
    """A raised exception carries a traceback: a constant must not be raised twice."""
    errors: list[ReadroomError] = []
    for _ in range(2):
        with pytest.raises(Conflict) as raised:
            a_bucket(state=R).after(Act.BLOCK, NOON)
        errors.append(raised.value)
    assert errors[0] is not errors[1]
