"""What ingest hears: that a service has purged a deleted case (A60). What it stores depends on nobody.

And what it does by the clock: it sees to studies and to deletions. It tells of streams that were cut.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from prometheus_client import Counter, Gauge

from kernel.errors import ReadroomError
from kernel.events import CasePurged
from kernel.ids import CaseId, StudyId
from plumbing import log, timers
from plumbing.hearing import Hearing
from plumbing.leases import HELD_FOR, Lease
from services.ingest.deletion import ASKED_FOR, Deletions
from services.ingest.describing import Describing
from services.ingest.gateways import PRUNE_S, Associations, Gateways
from services.ingest.purgerecord import DoomedFile
from services.ingest.usecases import CHANGES_S, Studies
from services.ingest.writers import Writer

LOOK_S = 1.0
"""How often deletions are looked after."""
BEHIND_S = 0.1
"""How soon a change is looked at again that was not due: another process has told of its study within a
second."""
COUNT_S = 30.0
"""How often what waits to be described again is counted."""
REST_S = 600.0
"""From the end of one round of describing to the next: only what could not be read is left then."""

OVERDUE = Gauge("readroom_ingest_deletions_overdue", "Alert: deletions not confirmed within ten minutes")
TRANSFERS_REFUSED = Counter(
    "readroom_ingest_transfers_refused", "Announcements of gateways that announce too many"
)
CUT = Counter("readroom_ingest_streams_cut", "Streams of images that ended because sight did", ["word"])

_log = log.get()


DESCRIBED_AGAIN = Counter(
    "readroom_ingest_studies_described_again", "Studies whose parts were described again, or tried to be"
)
UNHELD = Gauge(
    "readroom_ingest_unheld_volumes",
    "Alert: volumes of packs that no process holds: what is there cannot be read",
)
UNDESCRIBED = Gauge(
    "readroom_ingest_parts_undescribed", "Parts that wait to be described again, counted up to 100,000"
)


def hearings(deletions: Deletions) -> Sequence[Hearing[Any, Any]]:
    """Routing is asked what it has purged. The others confirm for themselves, which only they can (`by`)."""

    async def fetch(fact: Any) -> Sequence[StudyId]:
        return await deletions.fetch_purge(fact)

    async def confirm(transaction: Any, fact: Any, study_ids: Sequence[StudyId]) -> None:
        await deletions.confirm(transaction, fact, study_ids)

    return [Hearing(CasePurged, fetch, confirm)]


async def look_after_deletions(deletions: Deletions) -> None:
    """Goes on with deletions for as long as the service lives."""
    while True:
        deletions.woken.clear()
        await resume(deletions)
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await deletions.woken.wait()


async def resume(deletions: Deletions, *, asked_for: timedelta = ASKED_FOR) -> None:
    """Goes on with the deletions that are not closed, as far as database, disk and access let it."""
    with timers.surviving("remove rows of purged studies"):
        await deletions.purge_rest()
    with timers.surviving("unlink purged files"):
        if files := await deletions.doomed_files():
            await deletions.forget_files(await asyncio.to_thread(_unlink, deletions, files))
    with timers.surviving("tell deletions again"):
        await deletions.tell_again()
    with timers.surviving("close deletions"):
        OVERDUE.set(await deletions.close())
    with timers.surviving("ask access for deletions"):
        asked = await deletions.unanswered(asked_for)
        await timers.each("ask access for deletions", asked, deletions.ask_again)


def _unlink(deletions: Deletions, files: Sequence[DoomedFile]) -> Sequence[DoomedFile]:
    """Answers those that are gone: one that stays keeps no other."""
    removed = []
    for file in files:
        with timers.surviving("unlink purged files", pack=file.pack_id):
            deletions.unlink(file)
            removed.append(file)
    return removed


def stream_cut(case_id: CaseId, why: ReadroomError) -> None:
    """A stream of images has ended because sight did, or could not be checked."""
    CUT.labels(type(why).__name__).inc()
    _log.warning("a stream of images is cut", case=str(case_id), cause=why.sentence, exc_info=why.__cause__)


async def look_after_studies(
    studies: Studies, writer: Writer, gateways: Gateways, associations: Associations
) -> None:
    """Looks after studies and associations for as long as the service lives."""
    loop = asyncio.get_running_loop()
    due = pruned = loop.time()
    while True:
        everything = loop.time() >= due
        studies.woken.clear()
        if everything:
            due = loop.time() + CHANGES_S
        with timers.surviving("upkeep") as attempt:
            await upkeep(studies, writer, everything=everything)
            if studies.is_behind:
                due = min(due, loop.time() + BEHIND_S)
        if everything:
            with timers.surviving("abort associations that ended"):
                await gateways.abort_ended(associations)
            with timers.surviving("save contacts"):
                await gateways.save_contacts()
        if loop.time() >= pruned:
            pruned = loop.time() + PRUNE_S
            with timers.surviving("prune"):
                await gateways.prune()
        if attempt.failed:
            due = loop.time() + CHANGES_S  # facts and seals wait; the next second tries again
            await asyncio.sleep(0.1)
        # Not `wait_for`: before Python 3.12 it turns a late cancellation into a time-out.
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, due - loop.time())):
                await studies.woken.wait()


async def describe_again(describing: Describing, lease: Lease, per_second: int) -> None:
    """Describes studies again, so many a second, for as long as the service lives.

    What could not be read has its turn again with the next round.
    """
    after: StudyId | None = None
    pause = 0.0
    try:
        while True:
            with timers.surviving("describe studies again") as attempt:
                after, pause = await describe_next(describing, lease, after, per_second)
            await asyncio.sleep(timers.RETRY_S if attempt.failed else pause)
    finally:
        with timers.surviving("give back the lease of describing"):
            await lease.give_back()


async def describe_next(
    describing: Describing, lease: Lease, after: StudyId | None, limit: int
) -> tuple[StudyId | None, float]:
    """The study behind which the next turn begins, and the seconds until then."""
    if not await lease.hold():
        return after, HELD_FOR.total_seconds()
    found = await describing.undescribed(after, limit)
    await timers.each("describe a study again", found, describing.describe_again)
    DESCRIBED_AGAIN.inc(len(found))
    return (found[-1], 1.0) if found else (None, REST_S)


async def renew(writer: Writer) -> None:
    """Renews the lease of this process, ends those that have run out, and tells which volumes nobody
    holds."""
    UNHELD.set(await writer.renew())


async def count_undescribed(describing: Describing) -> None:
    """Tells how much waits."""
    UNDESCRIBED.set(await describing.count())


async def upkeep(studies: Studies, writer: Writer, *, everything: bool = True) -> None:
    """Tells changes, seals released packs and trims their files, settles what is quiet."""
    await studies.tell(everything=everything)
    with timers.surviving("trim packs"):
        await writer.trim()
    if everything:
        await studies.settle()
