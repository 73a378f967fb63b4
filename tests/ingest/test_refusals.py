"""Which refusals are listed, and what becomes of the others."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kernel.clock import MonotonicClock
from kernel.ids import UUID7
from plumbing.db import Database
from services.ingest.domain import Limits, Refusal, RefusalKind
from services.ingest.gateways import Gateways
from services.ingest.refusals import MAX_WINDOWS, STRANGERS_TIMES, WINDOW, RefusalWindows
from services.ingest.store import IngestTransaction
from tests.ingest.builders import NOW, a_gateway

LATER = NOW + WINDOW


def a_refusal(
    cause: str = "unreadable",
    certificate: str = "",
    remote: str = "10.0.0.1:50000",
    kind: RefusalKind = RefusalKind.ASSOCIATION,
) -> Refusal:
    return Refusal(kind, f"it was {cause}", remote, certificate, cause=cause)


def test_each_cause_and_each_certificate_has_a_window_of_its_own() -> None:
    windows = RefusalWindows(per_minute=2)
    garbage = [windows.lists(a_refusal(certificate="a"), NOW) for _ in range(30)]
    assert garbage == [True, True] + [False] * 28
    assert windows.lists(a_refusal("rejected 1,1,3", "a"), NOW)
    assert windows.lists(a_refusal(certificate="b", remote="10.0.0.1:50001"), NOW)
    assert windows.lists(a_refusal(), NOW)
    assert windows.ended(NOW) == []
    (line,) = windows.ended(LATER)
    assert (line.suppressed, line.certificate_sha256, line.sentence) == (
        28,
        "a",
        "it was unreadable (28 more in a minute)",
    )
    assert windows.ended(LATER) == []


def test_a_window_that_is_over_ends_with_the_next_refusal() -> None:
    windows = RefusalWindows(per_minute=1)
    for _ in range(3):
        windows.lists(a_refusal(), NOW)
    assert windows.lists(a_refusal(), LATER)
    assert [line.suppressed for line in windows.ended(LATER)] == [2]


def test_strangers_of_many_addresses_have_a_window_together() -> None:
    windows = RefusalWindows(per_minute=3)
    came = MAX_WINDOWS + 50
    listed = [windows.lists(a_refusal(remote=f"10.{n >> 8}.{n % 256}.1:5"), NOW) for n in range(came)]
    assert sum(listed) == 3 * STRANGERS_TIMES
    assert windows.lists(a_refusal(certificate="a"), NOW)
    lines = windows.ended(LATER)
    assert sum(line.suppressed for line in lines) == came - sum(listed)
    assert len(lines) <= MAX_WINDOWS


REFUSALS = st.builds(
    a_refusal,
    cause=st.sampled_from(["x", "y"]),
    certificate=st.sampled_from(["", "a", "b"]),
    remote=st.sampled_from(["h1:1", "h1:2", "h2:1"]),
)


@given(st.lists(st.tuples(REFUSALS, st.integers(0, 20)), max_size=60))
def test_every_refusal_is_listed_or_counted(came: list[tuple[Refusal, int]]) -> None:
    windows, now, listed, suppressed = RefusalWindows(2), NOW, Counter[str](), 0
    for refusal, seconds in came:
        now += timedelta(seconds=seconds)
        listed["yes"] += windows.lists(refusal, now)
        suppressed += sum(line.suppressed for line in windows.ended(now))
    suppressed += sum(line.suppressed for line in windows.ended(now + WINDOW))
    assert listed["yes"] + suppressed == len(came)


class SettableClock(MonotonicClock):
    """A clock that a test moves."""

    ahead = timedelta()

    def now(self) -> Any:
        return super().now() + self.ahead


async def test_what_is_suppressed_leaves_its_number_in_list_and_audit(
    fresh_database: Callable[[str], str],
) -> None:
    clock = SettableClock()
    database = await Database.connect(
        fresh_database("ingest"), IngestTransaction, clock=clock, new_id=UUID7(clock)
    )
    nobody: Any = None  # no administrator and no association comes in here
    gateways = Gateways(
        database, nobody, nobody, Limits(refusals_per_minute=2), UUID7(clock), clock, lambda: None
    )
    gateway = a_gateway()
    async with database.transaction() as transaction:
        await transaction.insert_gateway(gateway)
    for _ in range(7):
        if listing := gateways.refuse(a_refusal(certificate=gateway.certificate_sha256)):
            await listing
    clock.ahead = WINDOW
    await gateways.prune()
    async with database.statements() as statements:
        reasons = await statements.connection.fetch(
            "select reason, gateway_id from refusals order by refusal_id"
        )
        audited = await statements.connection.fetch("select actor, detail from audit_rows order by id")
    await database.close()
    whose = gateway.gateway_id
    assert [tuple(row) for row in reasons] == [("it was unreadable", whose)] * 2 + [
        ("it was unreadable (5 more in a minute)", whose)
    ]
    assert audited[-1]["actor"] == f"gateway:{whose}"
    assert '"suppressed": 5' in audited[-1]["detail"]
