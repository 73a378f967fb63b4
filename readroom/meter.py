"""The progress bar of a fetch, on standard error and only where that is a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from readroom.fetch import Meter


class Bar:
    """A `Meter` drawn by rich; several fetches in turn add up."""

    def __init__(self, progress: Progress, title: str) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=None, arrived=0, expected="…")
        self._length = self._expected = self._arrived = 0

    def expect(self, instances: int, length: int) -> None:
        self._expected += instances
        self._length += length
        self._progress.update(self._task, total=self._length, expected=self._expected)

    def arrived(self, length: int) -> None:
        self._progress.advance(self._task, length)

    def complete(self) -> None:
        self._arrived += 1
        self._progress.update(self._task, arrived=self._arrived)


@contextmanager
def bar(title: str, console: Console | None = None) -> Iterator[Meter]:
    """Shows a bar of bytes and instances while the block runs."""
    console = console or Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[arrived]} of {task.fields[expected]} instances"),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield Bar(progress, title)
