"""How long the machine has been up: a clock that no step of the wall clock reaches."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Uptime:
    """The boot of a machine, and the seconds since it, sleep included.

    Attributes:
        boot_id: names the boot; seconds of two boots cannot be compared.
        seconds: answers how many have passed.
    """

    boot_id: str
    seconds: Callable[[], float]


def of_this_machine() -> Uptime:
    """Read the kernel's own boot id and clock."""
    return Uptime(_BOOT_ID.read_text().strip(), lambda: time.clock_gettime(time.CLOCK_BOOTTIME))
