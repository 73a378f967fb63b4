"""Reads A-ASSOCIATE PDUs (PS3.8 9.3.2, 9.3.3; PS3.7 D.3): one pass over their items, of a bounded number.

Whoever connects chooses these bytes, so the reader copies only what is used and refuses what no sender needs:
the work is the number of items, at most some ten thousand.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct

MAX_ITEMS = 512
"""The application context, a context for each id of one byte, the user information (PS3.8 9.3.2.2), and as
many again that nobody knows: they are ignored (PS3.8 9.3.1)."""

MAX_SYNTAXES = 64
"""Of one context. PS3.6 A names 57 transfer syntaxes of data sets, and a sender may propose them all."""

MAX_USER_ITEMS = 512
"""Roles and extended negotiation take three items for each of 128 SOP classes (PS3.7 D.3.3)."""

FIXED_LENGTH = 68
"""Bytes of the PDU between its header and its items: version, titles, reserved ones (PS3.8 9.3.2)."""

_FIXED = Struct(">HH16s16s32x")
_ITEM = Struct(">BxH")
_APPLICATION_CONTEXT, _CONTEXT_RQ, _CONTEXT_AC, _USER_INFORMATION = 0x10, 0x20, 0x21, 0x50
_ABSTRACT_SYNTAX, _TRANSFER_SYNTAX = 0x30, 0x40
_MAXIMUM_LENGTH, _USER_IDENTITY = 0x51, 0x58
_USER_NAME = 1  # type of the user identity (PS3.7 D.3.3.7.1)
_MAX_IDENTITY_CHARACTERS = 256

Items = Sequence[tuple[int, memoryview]]


class Unreadable(Exception):
    """It is not the A-ASSOCIATE PDU it should be."""


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """A presentation context as it is proposed; the abstract syntax is empty unless there is exactly one."""

    context_id: int
    abstract_syntax_uid: str
    transfer_syntax_uids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Titles:
    """What stands before the items.

    The titles have no padding. In them a byte that no title may hold shows as `\\xNN`.
    """

    protocol_version: int
    called: str
    calling: str


@dataclass(frozen=True, slots=True)
class Request:
    """An A-ASSOCIATE-RQ.

    Attributes:
        identity: primary field of User Identity type 1, at most 256 characters.
        identity_wants_answer: whether the sender wants to hear that it was taken.
    """

    titles: Titles
    application_context: str
    contexts: Sequence[ProposedContext]
    identity: str | None
    identity_wants_answer: bool


def read_titles(fixed: memoryview | bytes) -> Titles:
    """The first `FIXED_LENGTH` bytes after the PDU's header."""
    version, _, called, calling = _FIXED.unpack_from(fixed)
    return Titles(version, _title(called), _title(calling))


def _title(field: bytes) -> str:
    """The title in a field of 16 bytes.

    Some devices write C strings: a NUL ends the title, and rubbish may follow. A field that begins with NUL
    has no title, and shows as a whole.
    """
    title = field.partition(b"\0")[0].strip(b" ") or field.rstrip(b"\0 ")
    return shown(title.decode("latin-1"))


def shown(text: str) -> str:
    """Text that a peer chose, so that it can be listed: what is not printable ASCII shows as `\\xNN`."""
    return "".join(c if " " <= c <= "~" else f"\\x{ord(c):02x}" for c in text)


def read_request(body: memoryview) -> Request:
    """An A-ASSOCIATE-RQ without its header; raises Unreadable."""
    items = _items(_after_titles(body), MAX_ITEMS)
    # The same context twice is one; two of one id leave open what its data sets are.
    contexts = list(dict.fromkeys(_context(value) for kind, value in items if kind == _CONTEXT_RQ))
    if not contexts or len({context.context_id for context in contexts}) != len(contexts):
        raise Unreadable
    identity, wants_answer = None, False
    for kind, value in _user_items(items):
        if kind == _USER_IDENTITY and len(value) >= 4 and value[0] == _USER_NAME:
            identity, wants_answer = _identity(value), bool(value[1])
    return Request(
        titles=read_titles(body),
        application_context=next((_uid(v) for kind, v in items if kind == _APPLICATION_CONTEXT), ""),
        contexts=contexts,
        identity=identity,
        identity_wants_answer=wants_answer,
    )


def read_acceptance(body: memoryview) -> tuple[frozenset[int], int]:
    """The ids that an A-ASSOCIATE-AC accepts, and the longest PDU its sender takes (0: any).

    Raises Unreadable.
    """
    items = _items(_after_titles(body), MAX_ITEMS)
    contexts = [value for kind, value in items if kind == _CONTEXT_AC and len(value) >= 4]
    accepted = frozenset(value[0] for value in contexts if value[2] == 0)
    lengths = [value for kind, value in _user_items(items) if kind == _MAXIMUM_LENGTH and len(value) == 4]
    return accepted, int.from_bytes(lengths[0], "big") if lengths else 0


def _after_titles(body: memoryview) -> memoryview:
    if len(body) < FIXED_LENGTH:
        raise Unreadable
    return body[FIXED_LENGTH:]


def _items(data: memoryview, most: int) -> Items:
    found: list[tuple[int, memoryview]] = []
    at = 0
    while at < len(data):
        if len(data) - at < _ITEM.size or len(found) == most:
            raise Unreadable
        kind, length = _ITEM.unpack_from(data, at)
        at += _ITEM.size
        if length > len(data) - at:
            raise Unreadable
        found.append((kind, data[at : at + length]))
        at += length
    return found


def _user_items(items: Items) -> Items:
    value = next((value for kind, value in items if kind == _USER_INFORMATION), memoryview(b""))
    return _items(value, MAX_USER_ITEMS)


def _context(value: memoryview) -> ProposedContext:
    if len(value) < 4:
        raise Unreadable
    syntaxes = _items(value[4:], 1 + MAX_SYNTAXES)
    abstract = [_uid(uid) for kind, uid in syntaxes if kind == _ABSTRACT_SYNTAX]
    return ProposedContext(
        value[0],
        abstract[0] if len(abstract) == 1 else "",
        tuple(_uid(uid) for kind, uid in syntaxes if kind == _TRANSFER_SYNTAX),
    )


def _identity(value: memoryview) -> str:
    length = int.from_bytes(value[2:4], "big")
    return bytes(value[4 : 4 + length]).decode("utf-8", "replace")[:_MAX_IDENTITY_CHARACTERS]


def _uid(value: memoryview) -> str:
    return bytes(value).decode("ascii", "replace").strip("\0 ")
