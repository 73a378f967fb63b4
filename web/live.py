"""Rows that change on the screen: what a list tells, as far as the page does not show it already.

Whoever looks at a list is told by access, which alone knows what they see (WatchCases). Of what it tells only
what the page shows is compared and sent: a change that shows nowhere is silent, and when something is sent
says nothing of what caused it. A stream tells at fixed intervals that it lives.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from kernel.errors import Exhausted, NotFound, ReadroomError
from kernel.ids import parse_id
from web import words
from web.asked import Asked, House, News, Page
from wire.access.v1 import access_pb2 as pb

ROWS = 50
"""Of a page, and that are followed: WatchCases follows the first page of a list."""

COLUMNS = (
    "facility_name",
    "received_at",
    "patient_name",
    "patient_id",
    "patient_birth_date",
    "patient_sex",
    "study_date",
    "study_time",
    "study_description",
    "referring_physician_name",
    "modalities_in_study",
    "modalities_left_out",
    "instance_count",
    "study_status_id",
    "undistributed",
    "lock_holder_name",
    "reported_read_types",
    "another_patient_held",
    "images_since_report",
    "assignee_login",
    "priority",
    "may",
    "waits_for",
    "waits_since",
    "prior_count",
)
"""What a row shows."""

_FOLLOWED = {"case_id", *COLUMNS} - {"prior_count"}
"""The count of priors is no part of a row that is followed: other cases change it."""

BEAT_S = 2.0
"""A stream tells that it lives, and looks whether its session does."""

LASTS_S = 150.0
"""Then a page asks anew, and access is asked whether its person may still act."""

MOST = 1000
MOST_OF_A_SESSION = 8
_AT_ONCE = 10
_DIGEST_BYTES = 6


def digest_of(case: pb.Case) -> str:
    """Equal for two rows that look the same at the same time."""
    shown = pb.Case()
    shown.CopyFrom(case)
    for each, _ in case.ListFields():
        if each.name not in _FOLLOWED:
            shown.ClearField(each.name)  # type: ignore[arg-type]
    return hashlib.blake2b(shown.SerializeToString(deterministic=True), digest_size=_DIGEST_BYTES).hexdigest()


def row_of(case: pb.Case, now: datetime, zone: str) -> Page:
    """A row of the list, as its page shows it."""
    return Page("worklist/row.html", {"case": case, "now": now, "zone": zone, **AROUND})


AROUND: Mapping[str, Any] = {"words": words, "digest_of": digest_of}
"""What the template of a row uses beside the case."""


MOST_HELD = 4 * ROWS
"""Rows that a page says it shows: the pages that its script builds. Access is asked about no more of them."""

Held = dict[str, str]
"""Digests of the rows that a page shows, by case, in the order in which access told them."""


def held_of(text: str) -> Held:
    """What a page says that it shows: `ID:DIGEST` for each row. Whatever is none is not shown."""
    held = {}
    for each in text.split(",", MOST_HELD)[:MOST_HELD]:
        case_id, _, digest = each.partition(":")
        with suppress(ReadroomError):
            held[str(parse_id(case_id, "held"))] = digest
    return held


@dataclass
class Shown:
    """What one page shows of a list, and what it has to be told.

    Attributes:
        held: what it shows of these rows, in the order in which it was told. A row that others pushed down is
            told once more, if the person still sees it, and is none of them then.
        zone: in which its times are.
    """

    house: House
    held: Held
    zone: str

    async def told(self, cases: Sequence[pb.Case], now: datetime, *, is_whole: bool) -> News | None:
        """What it does not show yet of the rows that are now; None: nothing.

        `is_whole`: whether the list ends with these rows; then no other is further down.
        """
        current = {each.case_id: digest_of(each) for each in cases}
        news = {each.case_id: each for each in cases if self.held.get(each.case_id) != current[each.case_id]}
        left = [case_id for case_id in self.held if case_id not in current]
        unsure = () if is_whole else self._further_down(left, current)
        still = await self._described(unsure)
        news |= {key: each for key, each in still.items() if self.held[key] != digest_of(each)}
        gone = [case_id for case_id in left if case_id not in still]
        if not news and not gone and list(current) == list(self.held):
            return None
        self.held = current
        rows = {key: row_of(each, now, self.zone) for key, each in news.items()}
        return News({"order": list(current), "gone": gone}, rows)

    def _further_down(self, left: Sequence[str], current: Mapping[str, str]) -> Sequence[str]:
        """Those that nothing follows which is still there: others may have pushed them down."""
        order = list(self.held)
        last = max((order.index(each) for each in current if each in self.held), default=-1)
        return [each for each in left if order.index(each) > last]

    async def _described(self, case_ids: Sequence[str]) -> dict[str, pb.Case]:
        """Of these the cases that the person still sees, as they are now."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def describe(case_id: str) -> pb.Case | None:
            request = pb.DescribeCaseRequest(case_id=case_id, columns=COLUMNS)
            async with gate:
                try:
                    return (await self.house.services.access.DescribeCase(request)).case
                except NotFound:
                    return None

        found = await asyncio.gather(*map(describe, case_ids))
        return {each.case_id: each for each in found if each is not None}


async def follow(
    asked: Asked, request: pb.WatchCasesRequest, shown: Shown, *, lasts_s: float = LASTS_S
) -> AsyncGenerator[News]:
    """Tells a page what changes, until its session ends or is locked, or it has to ask anew.

    Raises Exhausted where too many are followed, and what WatchCases raises.
    """
    key, streams = asked.signed_in.session_id, asked.house.streams
    if streams[key] >= MOST_OF_A_SESSION or streams.total() >= MOST:
        raise Exhausted("too many lists are followed: close one of them")
    streams[key] += 1
    try:
        async for news in _followed(asked, request, shown, lasts_s):
            yield news
    finally:
        streams[key] -= 1
        if not streams[key]:
            del streams[key]


async def _followed(
    asked: Asked, request: pb.WatchCasesRequest, shown: Shown, lasts_s: float
) -> AsyncGenerator[News]:
    house, time = asked.house, asyncio.get_running_loop().time
    began = time()
    beats_at = began + BEAT_S
    mirror, is_first = Mirror(), True
    changes = house.services.access.WatchCases(request)
    coming = asyncio.ensure_future(anext(aiter(changes)))
    leaving = asyncio.ensure_future(house.leaving.wait())
    try:
        while time() < began + lasts_s and not leaving.done():
            await asyncio.wait(
                [coming, leaving], timeout=beats_at - time(), return_when=asyncio.FIRST_COMPLETED
            )
            if time() >= beats_at:
                if why := await house.sessions.ended(asked.signed_in, house.lock_after):
                    yield News({"end": why})
                    return
                yield BEAT  # whatever comes meanwhile, which may show nowhere
                beats_at += BEAT_S * ((time() - beats_at) // BEAT_S + 1)
            if not coming.done():
                continue
            mirror.take(coming.result())
            coming = asyncio.ensure_future(anext(aiter(changes)))
            now = asked.now + timedelta(seconds=time() - began)
            news = await shown.told(mirror.cases, now, is_whole=len(mirror.cases) < ROWS)
            if news or is_first:
                yield news or BEAT
            is_first = False
    except StopAsyncIteration:  # access wants to be asked anew
        pass
    finally:
        leaving.cancel()
        coming.cancel()
        with suppress(asyncio.CancelledError, StopAsyncIteration, ReadroomError):
            await coming
        await cast("AsyncGenerator[pb.WatchCasesResponse]", changes).aclose()
    yield News({"end": "again"})


BEAT = News({"beat": True})


class Mirror:
    """The rows that access has told, from top to bottom."""

    def __init__(self) -> None:
        self._cases: dict[str, pb.Case] = {}

    @property
    def cases(self) -> list[pb.Case]:
        return list(self._cases.values())

    def take(self, event: pb.WatchCasesResponse) -> None:
        """As its contract says: away with what went, then each row to its place, in the order told."""
        order = [] if event.resync else list(self._cases)
        cases = self._cases | {each.case.case_id: each.case for each in event.rows}
        order = [each for each in order if each not in {*event.went}]
        for each in event.rows:
            if each.case.case_id in order:
                order.remove(each.case.case_id)
            after = each.after_case_id
            order.insert(order.index(after) + 1 if after in order else 0, each.case.case_id)
        self._cases = {case_id: cases[case_id] for case_id in order}
