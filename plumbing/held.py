"""Whoever holds a connection of the database waits for nobody else.

A pool has few connections. If one is held across a call, the slowness of whoever is called becomes ours: a
handful of such calls, and nobody here gets a connection any more. So `db.py` notes each connection that it
hands out, and what calls somebody else (`rpc.py`, `bus.py`) refuses while one is held. The refusal is a fault
of ours, never of a caller: the tests find it.
"""

from contextvars import ContextVar


class Connection:
    """Within this a connection is held. A task that is begun meanwhile sees the same note of it."""

    __slots__ = ("_before", "is_held")

    def __enter__(self) -> None:
        self._before = _last.get()
        self.is_held = True
        _last.set(self)

    def __exit__(self, *_: object) -> None:
        self.is_held = False
        _last.set(self._before)


_last: ContextVar[Connection | None] = ContextVar("held", default=None)


class WouldWait(RuntimeError):
    """A fault of ours: somebody would be asked while a connection is held."""


def refuse_to_wait(call: str) -> None:
    """Raises WouldWait while a connection is held."""
    note = _last.get()
    if note is not None and note.is_held:
        raise WouldWait(
            f"`{call}` would be called while a connection of the database is held: call before the "
            "transaction opens, or after it has ended"
        )
