"""A worklist that shows what changes, for as long as somebody looks."""

import asyncio
import shutil
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

import click

from kernel.errors import Unavailable
from readroom import rows, show
from readroom.client import Readroom
from readroom.show import Output, clock
from wire.access.v1.access_pb2 import Case, WatchCasesRequest, WatchCasesResponse

MAX_ROWS, DEFAULT_ROWS = 200, 50
AGAIN_S = 1.0
"""After access did not answer."""
LONGEST_S = 600
"""A stream; access ends it before."""

_AROUND = 4
"""Lines of the terminal that are no rows."""


class Screen(Protocol):
    """Where a list is shown."""

    def told(self, answer: WatchCasesResponse) -> None: ...
    def is_away(self) -> None: ...


class Rows:
    """The rows of a list, as they were told."""

    def __init__(self) -> None:
        self.cases: list[Case] = []

    def tell(self, answer: WatchCasesResponse) -> None:
        """Takes away what went, then puts each row where it belongs."""
        if answer.resync:
            self.cases.clear()
        moved = {*answer.went, *(row.case.case_id for row in answer.rows)}
        self.cases = [case for case in self.cases if case.case_id not in moved]
        for row in answer.rows:
            places = {case.case_id: place for place, case in enumerate(self.cases, start=1)}
            self.cases.insert(places.get(row.after_case_id, 0), row.case)


class Table:
    """On a terminal: the list itself, shown anew with each change."""

    def __init__(self, out: Output, columns: Sequence[str] | None) -> None:
        self._out, self._columns = out, columns
        self._rows = Rows()

    def told(self, answer: WatchCasesResponse) -> None:
        self._rows.tell(answer)
        count = len(self._rows.cases)
        self._show(f"{count} {'case' if count == 1 else 'cases'} at {_now()}")

    def is_away(self) -> None:
        self._show(f"not live since {_now()}: Readroom does not answer, and is asked again")

    def _show(self, state: str) -> None:
        room = max(1, shutil.get_terminal_size().lines - _AROUND)
        click.clear()
        rows.show(self._out, self._rows.cases[:room], self._columns)
        more = len(self._rows.cases) - room
        click.echo(f"\n{state}{f', {more} more below' if more > 0 else ''}; Ctrl-C ends")


class Lines:
    """Elsewhere: what changes, a line for each."""

    def __init__(self, out: Output, columns: Sequence[str] | None) -> None:
        self._out, self._columns = out, columns
        self._rows = Rows()

    def told(self, answer: WatchCasesResponse) -> None:
        known = {case.case_id for case in self._rows.cases}
        self._rows.tell(answer)
        for case_id in sorted(known - {case.case_id for case in self._rows.cases}):
            self._out.event("went", case_id, {"case_id": case_id})
        table = rows.table(self._out, self._columns)
        for row in answer.rows:
            event = "changed" if row.case.case_id in known else "appeared"
            self._out.event(event, show.line(table, row.case), show.as_object(table, row.case))

    def is_away(self) -> None:
        self._out.event("away", "Readroom does not answer, and is asked again", {})


async def watch(
    readroom: Readroom, out: Output, request: WatchCasesRequest, columns: Sequence[str] | None
) -> None:
    """Shows the list until Ctrl-C."""
    on_terminal = sys.stdout.isatty() and not out.as_json
    screen: Screen = Table(out, columns) if on_terminal else Lines(out, columns)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, ended.set)
    telling, ending = asyncio.create_task(_tell(readroom, request, screen)), loop.create_task(ended.wait())
    try:
        await asyncio.wait({telling, ending}, return_when=asyncio.FIRST_COMPLETED)
        if telling.done():
            telling.result()
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        for task in (telling, ending):
            task.cancel()
        await asyncio.wait({telling, ending})


async def _tell(readroom: Readroom, request: WatchCasesRequest, screen: Screen) -> None:
    """Goes on with the last cursor where a stream has ended; raises what the first one refuses."""
    while True:
        try:
            async for answer in readroom.access.WatchCases(request, timeout=LONGEST_S):
                request.cursor = answer.cursor
                screen.told(answer)
        except Unavailable:
            if not request.cursor:
                raise
            screen.is_away()
            await asyncio.sleep(AGAIN_S)


def _now() -> str:
    return clock(datetime.now(UTC))
