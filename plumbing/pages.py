"""Pages of a list: how many items, where the next one begins, and the opaque token that says so.

The token is the position of the page's last item, so a page costs the same however late it is, and items
that come meanwhile move nothing.
"""

import base64
import binascii
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, is_dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from kernel.errors import Invalid

DEFAULT_SIZE = 100
MAX_SIZE = 500
MAX_TOKEN_CHARACTERS = 2048
"""The longest position is a text of 64 characters, each of which folds to at most 3 of 4 bytes, and an id."""

MAX_PAGE_BYTES = 3 << 20
"""What the rows of a page take at most; a channel takes an answer of `rpc.MAX_RESPONSE_BYTES`, 4 MiB."""

_ROW_HEAD_BYTES = 6  # field number and length of a row, in the encoding of the wire


class Row(Protocol):
    """A row of a page as the wire has it."""

    def ByteSize(self) -> int: ...  # noqa: N802


class Request(Protocol):
    """Asks for a page of a list."""

    @property
    def page_size(self) -> int: ...
    @property
    def page_token(self) -> str: ...


Item = TypeVar("Item")
R = TypeVar("R", bound=Row)
Position = TypeVar("Position")


@dataclass(frozen=True, slots=True)
class Asked(Generic[Position]):
    """The page that is asked for.

    Attributes:
        after: the position of the last item before it; None: it is the first page.
        limit: how many items to look for: one more than the page tells that there are more.
    """

    after: Position | None
    limit: int

    def rows(
        self, found: Sequence[Item], position: Callable[[Item], Position], row: Callable[[Item], R]
    ) -> tuple[list[R], str]:
        """The page of what was found as rows, and the token of the next one."""
        return fit(found, self.limit - 1, position, row)


def asked(
    request: Request, kind: type[Position], *, default: int = DEFAULT_SIZE, most: int = MAX_SIZE
) -> Asked[Position]:
    """The page that a request asks for; raises Invalid.

    Args:
        kind: of a position.
        default, most: items on a page.
    """
    limit = min(size(request.page_size, default), most) + 1
    return Asked(after(request.page_token, kind), limit)


def size(asked: int, default: int = DEFAULT_SIZE) -> int:
    """Items on the page; raises Invalid if that is too many."""
    if not 0 <= asked <= MAX_SIZE:
        raise Invalid(f"`page_size` is out of range: expected 1 to {MAX_SIZE}", field="page_size")
    return asked or default


def cut(found: Sequence[Item], limit: int, position: Callable[[Item], object]) -> tuple[Sequence[Item], str]:
    """The page, and the token of the next one if `found` holds more than the page."""
    page = found[:limit]
    if len(found) == len(page):
        return page, ""
    return page, token(position(page[-1]))


def token(position: object) -> str:
    """The token of the page that begins after a position."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode()


def fit(
    found: Sequence[Item], limit: int, position: Callable[[Item], object], row: Callable[[Item], R]
) -> tuple[list[R], str]:
    """The page as rows, and the token of the next one if `found` holds more than the page.

    A page ends early where its rows would not fit into one answer. A row has a bound of its own, far below.
    """
    rows = fitting(found[:limit], row)
    _, next_token = cut(found, len(rows), position)
    return rows, next_token


def fitting(found: Iterable[Item], row: Callable[[Item], R], room: int = MAX_PAGE_BYTES) -> list[R]:
    """Rows of the first items, as many as have room, and one at least."""
    rows: list[R] = []
    for item in found:
        made = row(item)
        room -= made.ByteSize() + _ROW_HEAD_BYTES
        if room < 0 and rows:
            break
        rows.append(made)
    return rows


def after(token: str, kind: type[Position]) -> Position | None:
    """The position in a token, None for the first page; raises Invalid for what is no token of ours."""
    if not token:
        return None
    try:
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise ValueError
        position = base64.b64decode(token, altchars=b"-_", validate=True)
        found = msgspec.json.decode(position, type=kind)
        if not all(map(_could_be_ours, _parts(found))):
            raise ValueError
        return found
    except (ValueError, binascii.Error, msgspec.DecodeError) as error:
        raise Invalid("`page_token` is not one of ours", field="page_token") from error


def _parts(position: Any) -> Iterable[object]:
    if isinstance(position, tuple):
        return position
    if is_dataclass(position) and not isinstance(position, type):
        return astuple(position)
    return (position,)


def _could_be_ours(part: object) -> bool:
    """Whether the database takes it: no NUL in a text, and no instant but in UTC, as every one of ours is."""
    if isinstance(part, datetime):
        return part.utcoffset() == timedelta()
    return not (isinstance(part, str) and "\0" in part)
