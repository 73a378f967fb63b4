"""What access hears: from routing, ingest and reporting; and what it does by the clock."""

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Any

from prometheus_client import Gauge, Histogram

from kernel.errors import Unavailable
from kernel.events import (
    CaseDeleted,
    CaseMoved,
    CasePlaced,
    CaseUndistributed,
    FacilityChanged,
    Fact,
    ReadingChanged,
    StudyChanged,
    StudyReceived,
)
from kernel.ids import CaseId, FacilityId, StudyId
from plumbing import log, timers
from plumbing.hearing import Hearing
from plumbing.leases import Lease
from services.access.deletion import Deletions
from services.access.describing import Describing
from services.access.domain import Facility
from services.access.filtering import Filters
from services.access.indexing import CaseIndex, Snapshots
from services.access.moves import Moves
from services.access.reading import Reading
from services.access.received import ReceivedStudy
from services.access.watching import TICK_S, Watching

SETTLE_EVERY_S = 2
FORGET_EVERY_S = 60
LOOK_EVERY_S = 3600
"""At filters, and at each start: what one says changes with a version of ours, and with nothing else."""

BROKEN_FILTERS = Gauge(
    "readroom_access_broken_filters", "Filters that no longer parse and hide everything; alert above 0"
)

_FILTERS_AT_ONCE = 500


def hearings(index: CaseIndex, deletions: Deletions) -> Sequence[Hearing[Any, Any]]:
    """For each fact heard: whom to ask, and what to do with the answer."""

    async def fetch_case(fact: Fact) -> Snapshots:
        return await index.fetch_case(CaseId(fact.id))

    async def index_case(transaction: Any, fact: Fact, snapshots: Snapshots) -> None:
        await index.index_case(transaction, CaseId(fact.id), snapshots)

    async def fetch_study(fact: Fact) -> ReceivedStudy | None:
        return await index.fetch_study(StudyId(fact.id), fact.version)

    async def index_study(transaction: Any, _fact: Fact, study: ReceivedStudy | None) -> None:
        await index.index_study(transaction, study)

    async def fetch_reading(fact: Fact) -> Reading | None:
        return await index.fetch_reading(CaseId(fact.id))

    async def index_reading(transaction: Any, _fact: Fact, reading: Reading | None) -> None:
        await index.index_reading(transaction, reading)

    async def fetch_facility(fact: Fact) -> Facility | None:
        return await index.fetch_facility(FacilityId(fact.id))

    async def index_facility(transaction: Any, _fact: Fact, facility: Facility | None) -> None:
        await index.index_facility(transaction, facility)

    async def must_be_told(fact: Fact) -> None:
        await deletions.must_be_told(CaseId(fact.id))

    async def purge(transaction: Any, fact: Fact, _nothing: None) -> None:
        await deletions.purge(transaction, CaseId(fact.id), fact.version)

    return [
        *(Hearing(fact, fetch_case, index_case) for fact in (CasePlaced, CaseUndistributed, CaseMoved)),
        # A study is told before its case: what is received is heard here first, and concerns no case yet.
        *(
            Hearing(fact, fetch_study, index_study, concerns=lambda study: study is not None)
            for fact in (StudyReceived, StudyChanged)
        ),
        Hearing(ReadingChanged, fetch_reading, index_reading),
        Hearing(FacilityChanged, fetch_facility, index_facility),
        Hearing(CaseDeleted, must_be_told, purge),
    ]


DESCRIBE_EVERY_S = 600
"""Between two rounds over what is outdated."""
DROP_LEFT_RECORDS_EVERY_S = 24 * 3600
_SHARE = 4
"""For each second of deriving again the database and ingest have this many seconds for others."""

OUTDATED = Gauge(
    "readroom_access_outdated_cases", "Cases that are to be derived again; at most 100,000 are counted"
)
BLIND = Gauge(
    "readroom_access_text_index_blind",
    "Alert above 0: the locale of the database hides letters beyond ASCII from the index of texts",
)

_log = log.get()


async def describe(describing: Describing, lease: Lease) -> None:
    """One round: derives again what is outdated, unless another process does.

    Raises Unavailable where something failed. It stops where nothing went, for then somebody is away; the
    next round goes on from there.
    """
    if not await lease.hold():
        OUTDATED.set(0)
        return
    OUTDATED.set(await describing.count())
    failed = 0
    while await lease.hold():
        began = time.monotonic()
        marked = await describing.mark()
        cases = await describing.next()
        undone = await timers.each("describe", cases, describing.describe)
        failed += len(undone)
        OUTDATED.dec(len(cases) - len(undone))
        if (not marked and not cases) or (undone and len(undone) == len(cases)):
            break
        await asyncio.sleep(_SHARE * (time.monotonic() - began))
    OUTDATED.set(await describing.count())
    await lease.give_back()
    if failed:
        raise Unavailable(f"{failed} cases could not be derived again: the log tells of each")


async def drop_left_records(describing: Describing, lease: Lease) -> None:
    """Drops the patient records that the version before left without a case."""
    after = None
    while await lease.hold():
        after = await describing.drop_left_records(after)
        if after is None:
            await lease.give_back()
            return


async def look_at_locale(describing: Describing) -> None:
    """Tells of a database whose locale knows the letters of ASCII only."""
    blind = not await describing.sees_letters()
    BLIND.set(blind)
    if blind:
        _log.warning(
            "the locale of access's database knows the letters of ASCII only, so that names in other letters "
            "are found slowly: make a database with the builtin locale C.UTF-8 and restore into it"
        )


WATCHERS = Gauge("readroom_access_watched_lists", "Lists that somebody watches at this process; 1000 at most")
DISTINCT = Gauge("readroom_access_watched_sights", "How many of the watched lists are distinct")
TICK = Histogram(
    "readroom_access_watch_tick_seconds",
    "From the beginning of a tick until all who watch were told; ticks are 0.25 s apart",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)


async def watch(watching: Watching, tick_s: float = TICK_S) -> None:
    """Ticks for as long as the process lives, at fixed instants; what fails is tried at the next one."""
    loop = asyncio.get_running_loop()
    next_at, failed = loop.time(), False
    try:
        while True:
            next_at += tick_s * max(1, math.ceil((loop.time() - next_at) / tick_s))
            await asyncio.sleep(next_at - loop.time())
            with timers.surviving("watch", quiet=failed) as attempt:
                await watching.tick()
            failed = attempt.failed
            WATCHERS.set(watching.watchers)
            DISTINCT.set(watching.lists)
            if watching.watchers:
                TICK.observe(loop.time() - next_at)
    finally:
        await watching.close()


async def forget_changes(watching: Watching, lease: Lease) -> None:
    """Forgets the changes that nobody asks for any more, unless another process does."""
    while await lease.hold():
        if not await watching.forget_changes():
            await lease.give_back()
            return


async def settle(moves: Moves) -> int:
    """Settles the moves of which nothing was heard; answers how many there were."""
    begun = await moves.unsettled()
    await timers.each("settle-moves", begun, moves.settle)
    return len(begun)


async def look_at(filters: Filters) -> int:
    """Counts the filters that no longer parse (A15); answers how many there are."""
    broken, after = 0, ""
    while True:
        found, after = await filters.broken(after, _FILTERS_AT_ONCE)
        broken += len(found)
        if not after:
            break
    BROKEN_FILTERS.set(broken)
    return broken
