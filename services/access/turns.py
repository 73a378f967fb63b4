"""Turns: a few at once, and never all of them one user's; who asks for much waits for themselves alone."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """Lets a few at once do something that takes time; used by one event loop."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._of_one_user = max(1, at_once - 1)
        self._under_way: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # who has waited longest first

    @asynccontextmanager
    async def of(self, login: str) -> AsyncIterator[None]:
        """Waits for a turn of this user's: before those of whoever has more of them under way."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(login, deque()).append(turn)
        self._give()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._forget(login, turn)
            else:
                self._end(login)
            raise
        try:
            yield
        finally:
            self._end(login)

    def _give(self) -> None:
        while self._under_way.total() < self._at_once:
            may = (each for each in self._waiting if self._under_way[each] < self._of_one_user)
            login = min(may, key=self._under_way.__getitem__, default=None)
            if login is None:
                return
            turn = self._waiting[login].popleft()
            self._forget(login)
            if turn.cancelled():  # whoever waited has gone, and has not run since
                continue
            self._under_way[login] += 1
            turn.set_result(None)

    def _forget(self, login: str, turn: "asyncio.Future[None] | None" = None) -> None:
        """Whoever still waits for another turn stands behind the others; `turn` is given up."""
        waiting = self._waiting.pop(login, deque())
        if turn is not None and turn in waiting:
            waiting.remove(turn)
        if waiting:
            self._waiting[login] = waiting

    def _end(self, login: str) -> None:
        self._under_way[login] -= 1
        if not self._under_way[login]:
            del self._under_way[login]
        self._give()
