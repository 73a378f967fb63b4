"""Who gives way, and who still gets in (SEC-3)."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from plumbing.places import Places, Room


@dataclass(eq=False)
class Caller:
    silent: bool = True


def test_the_oldest_silent_one_of_the_address_gives_way() -> None:
    places: Places[Caller] = Places(Room(handshakes_per_address=3))
    speaking, first, second, elsewhere = Caller(silent=False), Caller(), Caller(), Caller()
    assert places.enter(elsewhere, "b") is None
    assert [places.enter(each, "a") for each in (speaking, first, second)] == [None] * 3
    newcomers = [Caller(silent=False) for _ in range(4)]
    assert [places.enter(each, "a") for each in newcomers] == [first, second, speaking, newcomers[0]]
    assert places.settle(first, "anybody") is False


def test_the_oldest_silent_one_of_all_gives_way_when_many_addresses_come() -> None:
    places: Places[Caller] = Places(Room(handshakes=3))
    waiting = [Caller() for _ in range(3)]
    for number, each in enumerate(waiting):
        places.enter(each, str(number))
    assert places.enter(Caller(), "new") is waiting[0]
    places.leave(waiting[1])
    assert places.enter(Caller(), "another") is None


GREEDY = st.lists(st.sampled_from("abcdefgh"), max_size=60)


@given(GREEDY)
def test_whoever_has_none_finds_a_place_while_one_is_left(callers: list[str]) -> None:
    room = Room(connections=16, connections_per_peer=6, connections_reserved=4)
    places: Places[Caller] = Places(room)
    open_: dict[str, int] = dict.fromkeys("abcdefgh", 0)
    for peer in callers:
        caller = Caller()
        places.enter(caller, "nat")
        settled = places.settle(caller, peer)
        free = 16 - sum(open_.values())
        assert settled == (open_[peer] < 6 and free > (4 if open_[peer] else 0))
        open_[peer] += settled
        if not settled:
            places.leave(caller)
    # Up to three greedy ones never keep another out.
    if sum(number > 0 for number in open_.values()) <= 3:
        newcomer = Caller()
        places.enter(newcomer, "nat")
        assert places.settle(newcomer, "z")
