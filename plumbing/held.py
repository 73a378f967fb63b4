"""Whoever holds a connection of the database waits for nobody else.

A pool has few connections. If one is held across a call, the slowness of whoever is called becomes ours: a
handful of such calls, and nobody here gets a connection any more. So `db.py` notes each connection that it
hands out, and what calls somebody else (`rpc.py`, `bus.py`) refuses while one is held. The refusal is a fault
of ours, never of a caller: the tests find it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class _Note:
    """That a connection was handed out. A task that was begun meanwhile sees the same note."""

    held = True


_last: ContextVar[_Note | None] = ContextVar("held", default=None)


@contextmanager
def connection() -> Iterator[None]:
    """Within this a connection is held."""
    before, note = _last.get(), _Note()
    _last.set(note)
    try:
        yield
    finally:
        note.held = False
        _last.set(before)


def refuse_to_wait(call: str) -> None:
    """Raises RuntimeError while a connection is held."""
    note = _last.get()
    if note is not None and note.held:
        raise RuntimeError(
            f"`{call}` would be called while a connection of the database is held: call before the "
            "transaction opens, or after it has ended"
        )
