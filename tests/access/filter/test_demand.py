"""What a filter demands is weaker than the filter, whatever the filter and the case."""

from collections import Counter
from datetime import timedelta
from random import Random
from typing import Any

from services.access.filter.demand import ANYTHING, Demand, Range, demand_of
from services.access.filter.reader import Reader
from tests.access.filter import naive
from tests.access.filter.cases import NOW, Case, draw_case, row
from tests.access.filter.draw import draw_filter
from tests.access.filter.test_agreement import READERS


def meets(demand: Demand, case: Case, stored: dict[str, Any], reader: Reader) -> bool:
    """Whether a case has what is demanded, as the index stores it."""
    side = "group" if reader.is_of_group else "facility"
    status = stored[f"status_{side}"]
    return (
        not demand.nothing
        and (not demand.unread or status not in (None, "READ") or stored["locked_by"] != "")
        and (demand.assignees is None or stored["assignee_id"] in demand.assignees)
        and (demand.facilities is None or stored["facility_id"] in demand.facilities)
        and lies_in(demand.received, stored["received_at"])
        and (demand.studied is None or lies_in(demand.studied, stored.get("study_day")))
    )


def lies_in(range_: Range[Any], value: Any) -> bool:
    if range_ == Range():
        return True
    return (
        value is not None
        and (range_.first is None or range_.first <= value)
        and (range_.last is None or value <= range_.last)
    )


def test_whatever_satisfies_a_filter_has_what_it_demands() -> None:
    random = Random(11)
    demanded: Counter[str] = Counter()
    for _ in range(1500):
        expression = draw_filter(random, depth=random.randint(0, 3))
        reader = random.choice(READERS)
        demand = demand_of(expression, reader, NOW)
        demanded.update(name for name in Demand.__slots__ if getattr(demand, name) != getattr(ANYTHING, name))
        if demand == ANYTHING:
            continue
        for case in (draw_case(random) for _ in range(20)):
            if naive.holds(expression, case, reader, NOW) is True:
                assert meets(demand, case, row(case), reader), (expression, case, demand)
    assert demanded.keys() == set(Demand.__slots__), "each of them was demanded"


def test_a_range_without_an_end_stays_without_it_around_another() -> None:
    first, last = NOW, NOW + timedelta(days=1)

    assert Range(first, None) == Range(first, None).around(Range(first, last))
    assert Range(first, last) == Range(first, None).within(Range(None, last))
