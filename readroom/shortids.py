"""Short ids: the end of an id, as a table on a terminal shows it and as somebody types it.

An id begins with the time it was made, so ids of one day begin alike, and the end tells them apart. The ids
that a terminal was shown stand beside its session; a short one means the id among them that ends so.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from kernel.errors import Conflict, NotFound
from plumbing.files import write_private

SHORTEST = 8
"""Hexadecimal digits: two of a thousand ids end alike once in ten thousand lists, and then more are shown."""

REMEMBERED = 5000

ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHORT = re.compile(r"[0-9a-f]{4,12}")


_ENDING = ".shown-ids"
"""The name of no session ends so (`place.py`)."""


def ids_file(session_file: Path) -> Path:
    """Where the ids stand that the terminal of a session was shown."""
    return session_file.with_name(session_file.name + _ENDING)


def is_of_ids(file: Path) -> bool:
    """Whether a file holds shown ids by its name, and so no session."""
    return file.name.endswith(_ENDING)


class ShownIds:
    """The ids that a terminal was shown, newest last, in a file that only its owner can read."""

    def __init__(self, session_file: Path) -> None:
        self._file = ids_file(session_file)

    def short(self, ids: Iterable[str]) -> Mapping[str, str]:
        """Each id with its shortest end that no other shown id has; remembers them."""
        wanted = dict.fromkeys(ids)
        known = [each for each in self._known() if each not in wanted]
        shown = [*known, *wanted][-REMEMBERED:]
        write_private(self._file, "\n".join(shown).encode())
        ends = {digits: _times(shown, digits) for digits in range(SHORTEST, 13)}
        return {each: next((each[-n:] for n in ends if ends[n][each[-n:]] == 1), each) for each in wanted}

    def full(self, text: str) -> str:
        """The id that somebody means; what is no short id stays as it is."""
        if not _SHORT.fullmatch(text):
            return text
        match [each for each in self._known() if each.endswith(text)]:
            case [one]:
                return one
            case []:
                raise NotFound(
                    f"no id that was shown at this terminal ends in `{text}`: list the things again, "
                    "or type the whole id"
                )
            case _:
                raise Conflict(f"several ids end in `{text}`: type more of it")

    def _known(self) -> Sequence[str]:
        try:
            return [line for line in self._file.read_text().split("\n") if ID.fullmatch(line)]
        except (OSError, UnicodeDecodeError):
            return []


def _times(ids: Iterable[str], digits: int) -> Mapping[str, int]:
    times: dict[str, int] = {}
    for each in ids:
        times[each[-digits:]] = times.get(each[-digits:], 0) + 1
    return times
