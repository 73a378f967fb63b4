"""The one table between the words of `kernel.errors` and exit codes."""

from kernel.errors import (
    Conflict,
    Denied,
    Exhausted,
    Expired,
    Invalid,
    NotFound,
    ReadroomError,
    Unauthenticated,
    Unavailable,
)


class Incomplete(ReadroomError):
    """What arrived is not all of it, or not what was announced."""


UNEXPECTED = 1
USAGE = 2  # click's own code for a command line it cannot read
INTERRUPTED = 130  # 128 and the number of SIGINT, as shells have it

EXIT_CODES: dict[type[ReadroomError], int] = {
    Invalid: USAGE,
    NotFound: 3,
    Denied: 4,
    Unauthenticated: 5,
    Conflict: 6,
    Expired: 6,
    Unavailable: 7,
    Exhausted: 7,
    Incomplete: 8,
}
