"""Memory and turns of requests for images: who waits, who is refused, and what is given back."""

import threading

import pytest

from kernel.errors import Exhausted, Unavailable
from services.ingest.allowance import Budget, Turns

SOON_S = 0.02
GIVEN_UP_S = 10.0


@pytest.mark.proves("SEC-5", part="memory of answers by DICOMweb")
def test_nobody_holds_more_than_there_is() -> None:
    budget = Budget(100, wait_s=SOON_S)
    with budget.held(60):
        with pytest.raises(Unavailable, match="later"):
            budget.take(41)
        budget.take(40)
        budget.give(40)
    with pytest.raises(Unavailable, match="too large"):
        budget.take(101)
    budget.take(100)


def test_whoever_waits_gets_what_is_given_back() -> None:
    budget, held, given = Budget(100, wait_s=GIVEN_UP_S), threading.Event(), threading.Event()

    def another() -> None:
        with budget.held(80):
            held.set()
            given.wait(GIVEN_UP_S)

    thread = threading.Thread(target=another)
    thread.start()
    assert held.wait(GIVEN_UP_S)
    threading.Timer(SOON_S, given.set).start()
    budget.take(50)
    thread.join(GIVEN_UP_S)


def test_a_user_has_so_many_turns_whatever_others_have() -> None:
    turns = Turns(2, wait_s=SOON_S)
    with turns.one("ada"), turns.one("ada"), turns.one("grace"):
        with pytest.raises(Exhausted, match="under way"), turns.one("ada"):
            pass
        with turns.one("grace"):
            pass
    with turns.one("ada"), turns.one("ada"):
        pass
