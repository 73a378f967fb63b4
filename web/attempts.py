"""How often somebody may be wrong: limits on passwords and codes, by account and by address.

A try counts before it is judged, so that many at once are no more than many in a row. The counts are of this
process and lost with it. They slow guessing down; nothing else rests on them.
"""

from collections import OrderedDict, deque
from datetime import datetime, timedelta

from kernel.clock import Clock
from kernel.errors import Exhausted

WINDOW = timedelta(minutes=1)
_REMEMBERED = 10_000
"""Accounts and addresses; beyond, the one longest ago is forgotten."""


class Attempts:
    """Counts the tries of the last minute that were not right, by key."""

    def __init__(self, limit: int, clock: Clock) -> None:
        self._limit = limit
        self._clock = clock
        self._failures: OrderedDict[str, deque[datetime]] = OrderedDict()

    def begin(self, key: str) -> None:
        """Counts one more; raises Exhausted if there were too many."""
        failures = self._recent(key)
        if len(failures) >= self._limit:
            raise Exhausted("there were too many wrong attempts: wait for a minute, then try again")
        failures.append(self._clock.now())
        self._failures[key] = failures
        self._failures.move_to_end(key)
        if len(self._failures) > _REMEMBERED:
            self._failures.popitem(last=False)

    def was_right(self, key: str) -> None:
        """The last one does not count."""
        if failures := self._failures.get(key):
            failures.pop()

    def _recent(self, key: str) -> deque[datetime]:
        failures = self._failures.get(key, deque(maxlen=self._limit))
        begin = self._clock.now() - WINDOW
        while failures and failures[0] <= begin:
            failures.popleft()
        return failures
