"""What a peer answers is a word, whatever it answers: nothing that a peer says ends our process.

`status.from_status` makes a word of every status. `of` makes one of an answer that no contract allows: an id
that is none, an enum value that nobody defined, an instant that is missing.
"""

import functools
import inspect
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from google.protobuf.message import Message
from prometheus_client import Counter

from kernel.errors import ReadroomError, Unavailable
from plumbing import held, log

UNEXPECTED = Counter(
    "readroom_unexpected_answers",
    "Answers of other services that no contract allows, by server and what was wrong; alert above 0",
    ["server", "wrong"],
)

MARK = "answers_of"
"""The attribute by which a decorated class is known."""

_log = log.get()


class BadAnswer(Unavailable):
    """A peer has answered, but nothing that its contract allows.

    Unavailable, because the peer is at fault: what was asked for may be had later, when somebody has mended
    the peer or finished its upgrade. A class of its own, because the next question may be answered well.
    """


C = TypeVar("C", bound=type)


def nobody_answers(error: Exception | None) -> bool:
    """Whether the error says that somebody is away, so that the next question may well fail alike."""
    return isinstance(error, Unavailable) and not isinstance(error, BadAnswer)


def unexpected(server_name: str, wrong: str) -> BadAnswer:
    """The word for an answer that should not have been given; it is counted."""
    UNEXPECTED.labels(server_name, wrong).inc()
    return BadAnswer(
        f"`{server_name}` gave an answer that its contract does not allow ({wrong}): "
        f"ask whoever operates the system to look at the log of `{server_name}`"
    )


def of(server_name: str) -> Callable[[C], C]:
    """Decorates a class of which each method asks `server_name` and reads the answer.

    What fails while a method reads an answer becomes a BadAnswer; words pass. A house test demands it of
    every client.
    """

    def decorate(client: C) -> C:
        for name, method in vars(client).items():
            if inspect.iscoroutinefunction(method):
                setattr(client, name, _reading(server_name, method))
        setattr(client, MARK, server_name)
        return client

    return decorate


def _reading(server_name: str, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(method)
    async def read(*args: Any, **named: Any) -> Any:
        try:
            return await method(*args, **named)
        except (ReadroomError, held.WouldWait):  # the second is no fault of the peer
            raise
        except Exception as error:
            _log.exception("an answer cannot be read", peer=server_name, method=method.__qualname__)
            raise unexpected(server_name, "unreadable") from error

    return read


def instant(answer: Message, field: str) -> datetime:
    """The instant in a field of an answer, in UTC; raises ValueError where it is missing or out of range."""
    if not answer.HasField(field):
        raise ValueError(f"`{field}` is missing")
    at: datetime = getattr(answer, field).ToDatetime(UTC)
    return at


def as_many(answers: Any, asked: int) -> Any:
    """The answers, one for each that was asked; raises ValueError where there are more or fewer."""
    if len(answers) != asked:
        raise ValueError(f"{len(answers)} answers to {asked} questions")
    return answers
