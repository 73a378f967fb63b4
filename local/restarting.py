"""Starts again what ended by itself, later each time: what dies at once would otherwise take the machine."""

import time
from collections.abc import Callable

from kernel.errors import ReadroomError
from local.system import LocalSystem

FIRST_S, LONGEST_S = 1.0, 30.0
CALM_S = 60.0
"""What ran for so long has recovered, and the next end of it is a first one."""


class BackOff:
    """How long to wait before each part is started again.

    Args:
        now: seconds of a clock that never goes back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._last: dict[str, tuple[float, float]] = {}

    def next_s(self, name: str) -> float:
        """Twice as long as the last time, unless the part has run calmly since it was started."""
        started_at, waited_s = self._last.get(name, (float("-inf"), 0.0))
        is_calm = self._now() - started_at >= CALM_S
        wait_s = FIRST_S if is_calm else min(waited_s * 2, LONGEST_S)
        self._last[name] = self._now() + wait_s, wait_s
        return wait_s


def keep_running(
    system: LocalSystem, tell: Callable[[str], None], wait: Callable[[float], None] = time.sleep
) -> None:
    """Starts again each part that ends by itself, until an exception ends this."""
    back_off = BackOff()
    while True:
        name, reason = system.wait_for_an_ended_part()
        wait_s = back_off.next_s(name)
        tell(f"{reason}\n  {name} is started again in {wait_s:g} s")
        wait(wait_s)
        try:
            system.start_again(name)
        except ReadroomError as error:
            tell(error.sentence)
        else:
            tell(f"  {name} runs again")
