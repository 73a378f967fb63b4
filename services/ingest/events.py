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
from plumbing.bus import Hearing
from services.ingest.deletion import ASKED_FOR, Deletions
from services.ingest.purgerecord import DoomedFile
from services.ingest.usecases import CHANGES_S, PRUNE_S, Associations, Gateways, Studies

LOOK_S = 1.0
"""How often deletions are looked after."""

OVERDUE = Gauge("readroom_ingest_deletions_overdue", "Alert: deletions not confirmed within ten minutes")
TRANSFERS_REFUSED = Counter(
    "readroom_ingest_transfers_refused", "Announcements of gateways that announce too many"
)
CUT = Counter("readroom_ingest_streams_cut", "Streams of images that ended because sight did", ["word"])

_log = log.get()


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


async def look_after_studies(studies: Studies, gateways: Gateways, associations: Associations) -> None:
    """Looks after studies and associations for as long as the service lives."""
    loop = asyncio.get_running_loop()
    due = pruned = loop.time()
    while True:
        everything = loop.time() >= due
        studies.woken.clear()
        if everything:
            due = loop.time() + CHANGES_S
        with timers.surviving("upkeep") as attempt:
            await upkeep(studies, everything=everything)
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


async def upkeep(studies: Studies, *, everything: bool = True) -> None:
    """Seals released packs, tells changes, settles what is quiet."""
    ends = await studies.tell(everything=everything)
    await timers.each("seal packs", ends, lambda pack_id: studies.seal(pack_id, ends[pack_id]))
    if everything:
        await studies.settle()
