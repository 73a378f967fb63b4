"""The queue's rules, without a clock, a disk or a network."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.queue import TRANSITIONS, Backoff, Event, Illegal, Outcome, State, after, outcome


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_what_is_not_in_the_table_is_illegal(state: State, event: Event) -> None:
    if (state, event) in TRANSITIONS:
        assert after(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(Illegal, match=f"{event} while {state}"):
            after(state, event)


def test_what_has_ended_stays_so() -> None:
    assert not [state for state, _ in TRANSITIONS if state in (State.DONE, State.FAILED)]


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (0x0000, Outcome.ACKNOWLEDGED),
        (0x0001, Outcome.ACKNOWLEDGED),
        (0xB000, Outcome.ACKNOWLEDGED),
        (0xB007, Outcome.ACKNOWLEDGED),
        (0xA700, Outcome.WAITING),
        (0xA701, Outcome.WAITING),
        (0x0110, Outcome.WAITING),
        (0xA900, Outcome.REFUSED),
        (0xC000, Outcome.REFUSED),
        (0x0117, Outcome.REFUSED),
        (0x0122, Outcome.REFUSED),
        (0x0124, Outcome.REFUSED),
        (0xFE00, Outcome.REFUSED),
        (0xFFFF, Outcome.REFUSED),
    ],
)
def test_a_status_means(status: int, meaning: Outcome) -> None:
    assert outcome(status) is meaning


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_pauses_grow_to_a_limit_and_chance_takes_at_most_half(failures: int, chance: float) -> None:
    pause = Backoff(1.0, 30.0, lambda: chance).pause_s(failures)
    assert 0.5 <= pause <= 30
    assert pause <= Backoff(1.0, 30.0, lambda: 0.0).pause_s(failures)
    assert Backoff(1.0, 30.0, lambda: 0.0).pause_s(failures) == min(30.0, 2.0 ** min(failures - 1, 10))
