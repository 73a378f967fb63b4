"""The life of a delivery as a table, and its pauses."""

from datetime import timedelta

import pytest

from kernel.delivery import AFTER, HELD_FOR, LONGEST_PAUSE, Event, State, is_given_up, pause
from tests.clocks import NOON


def test_nothing_leads_back_to_waiting_but_the_servers_word_or_an_operator() -> None:
    """Else what is of unknown fate would be sent a second time."""
    back = {(was, event) for (was, event), state in AFTER.items() if state is State.WAITING}

    assert {
        (State.WAITING, Event.AWAY),
        (State.WAITING, Event.LATER),
        (State.UNKNOWN, Event.LATER),
        (State.UNKNOWN, Event.RESEND),
        (State.DEAD, Event.RESEND),
    } == back


def test_what_was_sent_or_cancelled_stays_so() -> None:
    assert not {was for was, _ in AFTER} & {State.SENT, State.CANCELLED}


def test_only_what_was_begun_can_be_taken_or_lost() -> None:
    assert {State.UNKNOWN} == {was for was, event in AFTER if event in (Event.TAKEN, Event.LOST)}


@pytest.mark.parametrize(
    ("tried_for_s", "pause_s"),
    [(-60, 1), (0, 1), (1, 1), (2, 2), (8, 8), (1799, 1799), (1800, 1800), (86_400, 1800)],
)
def test_the_pause_is_as_long_as_it_has_been_tried_within_bounds(tried_for_s: int, pause_s: int) -> None:
    assert timedelta(seconds=pause_s) == pause(NOON, NOON + timedelta(seconds=tried_for_s))


def test_it_is_given_up_after_48_hours_to_the_instant() -> None:
    end = NOON + timedelta(hours=48)

    assert not is_given_up(NOON, end - timedelta(microseconds=1))
    assert is_given_up(NOON, end)


def test_an_attempt_holds_its_delivery_for_less_than_the_longest_pause() -> None:
    """A delivery that would have to wait longer than that is taken for one whose clock was set back."""
    assert HELD_FOR < LONGEST_PAUSE
