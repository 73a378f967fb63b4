"""Somebody who watches a list as a program does, and has what they were told."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from kernel.ids import CaseId
from services.access import answers
from services.access.live import Digests, Event
from services.access.livelists import Watched
from services.access.search import NEWEST_FIRST, Listing
from services.access.watching import Watching
from tests.access.conftest import Access
from wire.access.v1 import access_pb2 as pb


@dataclass
class Viewer:
    """Somebody who watches.

    Attributes:
        rows: what they have on their screen, from top to bottom.
        events: what they were told, tick by tick.
    """

    stream: AsyncGenerator[Event]
    watched: Watched
    rows: dict[CaseId, pb.Case] = field(default_factory=dict)
    told: Digests | None = None
    events: list[Event] = field(default_factory=list)
    coming: "asyncio.Task[Event] | None" = None

    @property
    def cases(self) -> list[CaseId]:
        return list(self.rows)

    async def take(self) -> Event | None:
        """What is ready; None if nothing is. Raises what the stream raises."""
        if self.coming is None:
            self.coming = asyncio.create_task(anext(self.stream))
        for _ in range(20):  # turns of the loop, for what is ready to come through
            if self.coming.done():
                break
            await asyncio.sleep(0)
        if not self.coming.done():
            return None
        event, self.coming = self.coming.result(), None
        self.apply(event)
        return event

    async def first(self) -> Event:
        """What they are told at the beginning."""
        event = await anext(self.stream)
        self.apply(event)
        return event

    def apply(self, event: Event) -> None:
        """As the contract says."""
        self.events.append(event)
        self.told = event.now
        order = [] if event.resync else list(self.rows)
        for gone in event.went:
            order.remove(gone)
        for told in event.rows:
            case = pb.Case.FromString(told.message)
            case_id = next(each for each in event.now if str(each) == case.case_id)
            assert told.appeared != (case_id in order)
            if case_id in order:
                order.remove(case_id)
            self.rows[case_id] = case
            order.insert(0 if told.after is None else order.index(told.after) + 1, case_id)
        self.rows = {case_id: self.rows[case_id] for case_id in order}

    async def close(self) -> None:
        if self.coming is not None:
            self.coming.cancel()
            await asyncio.wait([self.coming])
        await self.stream.aclose()


def watch(
    watching: Watching,
    login: str,
    asked: Listing = NEWEST_FIRST,
    *,
    rows: int = 50,
    session: str = "",
    held: Digests | None = None,
    at_least: int = 0,
) -> Viewer:
    watched = Watched(login, session, asked, rows)
    stream = watching.watch_cases(watched, held, answers.a_message, at_least=at_least)
    return Viewer(stream, watched, dict.fromkeys(held or (), pb.Case()))


async def listed(access: Access, viewer: Viewer) -> list[Any]:
    """The first page of ListCases, as it is told."""
    watched = viewer.watched
    found = await access.questions.list_cases(
        watched.login, None, watched.rows, watched.asked, session=watched.session
    )
    return [pb.Case.FromString(answers.a_message(each)) for each in found]
