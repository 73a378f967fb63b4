"""Lanes: one worker each, nothing is lost, and the newest stands for the older ones only."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from kernel.events import CasePurged, Fact, StudyChanged, StudyReceived
from plumbing.lanes import Held, Lane, Lanes, covers

facts = st.builds(
    lambda kind, number, version: kind(UUID(int=number), version),
    st.sampled_from([StudyReceived, StudyChanged]),
    st.integers(1, 3),
    st.integers(1, 6),
)
arrivals = st.lists(st.one_of(facts, st.integers(0, 7)), max_size=60)
"""A fact that comes, or a worker (by number) that ends its work."""


@given(arrivals, st.integers(0, 20))
def test_each_fact_is_in_work_once_alone_in_its_lane_and_behind_a_newer_one(
    arriving: list[Fact | int], room: int
) -> None:
    lanes: Lanes[int] = Lanes(most_parked=room)
    working: list[Lane[int]] = []
    worked: list[int] = []
    entered: list[int] = []

    def end(lane: Lane[int]) -> None:
        newest, *older = lane.in_work
        assert all(covers(newest.fact, each.fact) for each in older)
        worked.extend(each.message for each in lane.in_work)
        if not lanes.advance(lane):
            working.remove(lane)

    for number, step in enumerate(arriving):
        if isinstance(step, int):
            if working:
                end(working[step % len(working)])
        elif lanes.parks(step):
            entered.append(number)
            if lane := lanes.enter(Held(step, UUID(int=number), number)):
                working.append(lane)
        assert len({lane.in_work[0].fact.id for lane in working}) == len(working)
        assert sum(len(group) for lane in working for group in lane.parked) <= room
    while working:
        end(working[0])
    assert sorted(worked) == entered


def test_a_fact_that_says_something_else_is_not_covered() -> None:
    case = UUID(int=1)
    assert covers(CasePurged(case, 2, "routing"), CasePurged(case, 1, "routing"))
    assert not covers(CasePurged(case, 2, "routing"), CasePurged(case, 1, "sharing"))
    assert not covers(CasePurged(case, 1, "routing"), CasePurged(case, 2, "routing"))
    assert not covers(StudyChanged(case, 2), StudyReceived(case, 1))
