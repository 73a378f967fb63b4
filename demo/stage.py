"""How the demo tells its story, and how it makes sure that the story is true."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

T = TypeVar("T")

_LOOK_EVERY_S = 0.02


class Unproven(Exception):
    """What the story says is not so."""


class Stage:
    """Tells sentences with times; a sentence is told only once it has proved true."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.checks = 0
        self._began = time.perf_counter()
        self._where = "before the first step"

    @property
    def where(self) -> str:
        """The step the story is at."""
        return self._where

    def step(self, number: int, title: str) -> None:
        """Begins one of the steps."""
        self._where = f"step {number}"
        self.console.print(f"\n[bold]{number}  {escape(title)}[/bold]  [dim]at {self.seconds:.1f} s[/dim]")

    def tell(self, sentence: str) -> None:
        """Says something that needs no proof."""
        self.console.print(Padding(f"[dim]{escape(sentence)}[/dim]", (0, 0, 0, 5), expand=False))

    def side_by_side(self, columns: Mapping[str, Sequence[str]]) -> None:
        """Shows what several people obtain, a column for each."""
        table = Table(*map(escape, columns), box=None, padding=(0, 3, 0, 0), header_style="bold", expand=True)
        for column in table.columns:
            column.ratio = 1
        table.add_row(*("\n".join(map(escape, lines)) for lines in columns.values()))
        self.console.print(Padding(table, (0, 0, 0, 5)))

    def check(self, truth: object, sentence: str, after_s: float | None = None) -> None:
        """Tells the sentence if it is true; raises Unproven if not."""
        if not truth:
            raise Unproven(sentence)
        self.checks += 1
        took = "" if after_s is None else f" [cyan]after {after_s:.2f} s[/cyan]"
        self.console.print(f"   [green]✓[/green] {escape(sentence)}{took}", soft_wrap=True)

    async def until(
        self,
        seen: Callable[[], Awaitable[T | None]],
        sentence: str,
        *,
        within_s: float = 10.0,
        since: float = 0.0,
    ) -> T:
        """Waits until `seen` answers something true, tells after how long, and answers it.

        The time counts from `since`, or from now. Raises Unproven when it takes longer than `within_s`.
        """
        asked = time.perf_counter()
        while True:
            found = await seen()
            now = time.perf_counter()
            if found:
                self.check(True, sentence, now - asked)
                return found
            if now - asked > within_s:
                raise Unproven(f"{sentence}: not so within {within_s:.0f} s")
            await asyncio.sleep(_LOOK_EVERY_S)

    @property
    def seconds(self) -> float:
        """Since the story began."""
        return time.perf_counter() - self._began
