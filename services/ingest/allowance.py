"""What all requests for images may hold together, and what each user may ask at once."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from kernel.errors import Exhausted, Unavailable

WAIT_S = 2.0
"""A request waits so long for memory, or for its turn."""
BUDGET_BYTES = 512 << 20
"""Of heads that are being read, and of answers that are not in files, over all requests."""
TURNS = 64
"""Requests of one user under way: a viewer asks for all series of a study at once."""


class Budget:
    """Bytes of memory that requests take and give back."""

    def __init__(self, total: int = BUDGET_BYTES, wait_s: float = WAIT_S) -> None:
        self.total = total
        self._left = total
        self._wait_s = wait_s
        self._given = threading.Condition()

    def take(self, count: int) -> None:
        """Waits for so many bytes; raises Unavailable if they are not to be had in time, or ever."""
        if count > self.total:
            raise Unavailable("the answer is too large: ask for less at a time, or fetch whole instances")
        with self._given:
            if not self._given.wait_for(lambda: self._left >= count, self._wait_s):
                raise Unavailable("too much is being served at once: ask again later")
            self._left -= count

    def give(self, count: int) -> None:
        with self._given:
            self._left += count
            self._given.notify_all()

    @contextmanager
    def held(self, count: int) -> Iterator[None]:
        self.take(count)
        try:
            yield
        finally:
            self.give(count)


class Turns:
    """How many requests of each user are under way."""

    def __init__(self, most: int = TURNS, wait_s: float = WAIT_S) -> None:
        self._most = most
        self._wait_s = wait_s
        self._under_way: Counter[str] = Counter()
        self._ended = threading.Condition()

    @contextmanager
    def one(self, login: str) -> Iterator[None]:
        """A turn of this user; raises Exhausted if they have none left for too long."""
        with self._ended:
            if not self._ended.wait_for(lambda: self._under_way[login] < self._most, self._wait_s):
                raise Exhausted(f"you have {self._most} requests under way: ask again when one has ended")
            self._under_way[login] += 1
        try:
            yield
        finally:
            with self._ended:
                self._under_way[login] -= 1
                if not self._under_way[login]:
                    del self._under_way[login]
                self._ended.notify_all()
