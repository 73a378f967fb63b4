"""The one table between the words of `kernel.errors` and gRPC's status codes, in both directions.

Each status that a peer answers becomes a word; what no server of ours says on purpose becomes a BadAnswer.
"""

import grpc

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
    code_of,
)
from plumbing import answers

CODES: dict[type[ReadroomError], grpc.StatusCode] = {
    Invalid: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    Denied: grpc.StatusCode.PERMISSION_DENIED,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    Conflict: grpc.StatusCode.ABORTED,
    Expired: grpc.StatusCode.FAILED_PRECONDITION,
    Exhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
}
"""One code a word, so that a code is enough to know the word again."""

_WORDS = {code: word for word, code in CODES.items()}

FIELD_KEY = "readroom-field"
"""Trailing metadata of every error of ours: the field at fault, or empty."""

# A sentence travels in a header, and gRPC refuses headers of more than 8 KiB.
_MAX_SENTENCE_CHARACTERS = 1000


def word(error: BaseException) -> ReadroomError | None:
    """The error as a word, if there is one for it: a part that does not answer is Unavailable."""
    if isinstance(error, ReadroomError):
        return error
    # Whoever has no database never needs it: the command line starts faster without.
    import asyncpg

    away = TimeoutError, ConnectionError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError
    if isinstance(error, away):
        return Unavailable("a part of the system does not answer")
    return None


def to_status(error: ReadroomError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str]]]:
    """Code, details and trailing metadata."""
    field = (error.field or "").encode("ascii", "replace").decode()
    return code_of(error, CODES), error.sentence[:_MAX_SENTENCE_CHARACTERS], ((FIELD_KEY, field),)


class TooLarge(Exhausted):
    """A message passed the limit. A class of its own, because the same message passes it again."""


_LARGER = "message larger than max"
"""What gRPC says of a message that passes the limit; a limit on calls has the same code."""

_DOES_NOT_ANSWER = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,  # the server ends, and with it its calls
}


def from_status(error: grpc.aio.AioRpcError, server_name: str) -> ReadroomError:
    """The word the server said, or the one for what came between; whatever it is, it is a word."""
    fields = [value for name, value in error.trailing_metadata() or () if name == FIELD_KEY]
    said = _WORDS.get(error.code())
    if len(fields) == 1 and said is not None:
        return said(error.details() or "", field=str(fields[0]) or None)
    if error.code() in _DOES_NOT_ANSWER:
        return Unavailable(f"`{server_name}` does not answer")
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        if _LARGER in (error.details() or ""):
            return TooLarge(f"a message to or from `{server_name}` is too large")
        return Exhausted(f"`{server_name}` has reached a limit: ask again later")
    return answers.unexpected(server_name, error.code().name)
