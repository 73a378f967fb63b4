"""Messages between a process and one that it started: frames over a pair of sockets, msgpack in each.

The started process asks and tells from many threads (`Upward`); the one that started it answers on its event
loop and tells too (`Downward`). Values are checked against types when they are read, on both sides. What
crosses an error is its word: an answer that is no word of `kernel.errors` is Unavailable.
"""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from struct import Struct
from typing import Any, TypeVar

import msgspec

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
from plumbing import log

R = TypeVar("R")

_LENGTH = Struct("<L")
_MAX_BYTES = 4 << 20  # a description takes a few kilobytes
_WORDS: Mapping[str, type[ReadroomError]] = {
    each.__name__: each
    for each in (Invalid, NotFound, Denied, Unauthenticated, Conflict, Expired, Exhausted, Unavailable)
}
_TOLD = 0

_log = log.get()


class _Frame(msgspec.Struct, array_like=True):
    """A question, its answer, or what is told.

    Attributes:
        number: of the question; 0: nobody answers.
        name: of the question or of what is told; of an answer, the word of the error, or nothing.
    """

    number: int
    name: str
    values: msgspec.Raw


def _packed(number: int, name: str, values: object) -> bytes:
    frame = msgspec.msgpack.encode(_Frame(number, name, msgspec.Raw(msgspec.msgpack.encode(values))))
    return _LENGTH.pack(len(frame)) + frame


def _length(head: bytes) -> int:
    length: int = _LENGTH.unpack(head)[0]
    if length > _MAX_BYTES:
        raise ConnectionError("a frame is too long")
    return length


class _Waiting:
    def __init__(self) -> None:
        self.answered = threading.Event()
        self.frame: _Frame | None = None


class Upward:
    """The link of a started process to the one that started it; `ask` and `tell` from any thread."""

    def __init__(self, connection: socket.socket, told: Mapping[str, Callable[..., None]]) -> None:
        """`told`: what to do when something is told, by its name; quick, in the thread of `serve`."""
        connection.setblocking(True)
        self._socket = connection
        self._told = told
        self._sending, self._numbering = threading.Lock(), threading.Lock()
        self._last = 0
        self._waiting: dict[int, _Waiting] = {}

    def ask(self, name: str, answer: type[R] | Any, seconds: float, *values: object) -> R:
        """What the other process answers, as a value of the type `answer`.

        Raises its word, and Unavailable if it takes longer than `seconds` or is gone.
        """
        waiting = _Waiting()
        with self._numbering:
            self._last += 1
            number = self._last
            self._waiting[number] = waiting
        try:
            self._send(_packed(number, name, values))
            if not waiting.answered.wait(seconds):
                raise Unavailable("no answer in time")
        finally:
            self._waiting.pop(number, None)
        frame = waiting.frame
        assert frame is not None
        if frame.name:
            sentence, field = msgspec.msgpack.decode(frame.values, type=tuple[str, str | None])
            raise _WORDS.get(frame.name, Unavailable)(sentence, field=field)
        value: R = msgspec.msgpack.decode(frame.values, type=answer)
        return value

    def tell(self, name: str, *values: object) -> None:
        """Tells something. If the other process is gone, nothing happens: this one is about to end."""
        with suppress(Unavailable):
            self._send(_packed(_TOLD, name, values))

    def serve(self) -> None:
        """Reads what comes until the other process is gone."""
        reading = self._socket.makefile("rb")
        with suppress(OSError):
            while len(head := reading.read(_LENGTH.size)) == _LENGTH.size:
                frame = msgspec.msgpack.decode(reading.read(_length(head)), type=_Frame)
                if frame.number == _TOLD:
                    self._told[frame.name](*msgspec.msgpack.decode(frame.values))
                elif (waiting := self._waiting.get(frame.number)) is not None:
                    waiting.frame = frame
                    waiting.answered.set()

    def _send(self, frame: bytes) -> None:
        try:
            with self._sending:
                self._socket.sendall(frame)
        except OSError as error:
            raise Unavailable("the service is stopping") from error


@dataclass(frozen=True, slots=True)
class Question:
    """What a started process may ask.

    Attributes:
        values: the type of the tuple of values.
        answer: answers on the event loop.
        seconds: how long that may take; then the answer is Unavailable.
    """

    values: Any
    answer: Callable[..., Awaitable[object]]
    seconds: float


@dataclass(frozen=True, slots=True)
class Told:
    """What a started process may tell; `hear` is quick, on the event loop."""

    values: Any
    hear: Callable[..., None]


class Downward:
    """The link to a process that was started; on the event loop, but `tell` from any thread."""

    def __init__(self, connection: socket.socket, questions: Mapping[str, Question | Told]) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._questions = questions
        self._loop = asyncio.get_running_loop()
        self._writer: asyncio.StreamWriter | None = None
        self._answering: set[asyncio.Task[None]] = set()

    async def serve(self, *first: object) -> None:
        """Tells first what `tell` would, and answers until the other process is gone.

        Raises msgspec.ValidationError or KeyError for what is no question.
        """
        reader, self._writer = await asyncio.open_unix_connection(sock=self._socket)
        try:
            self._send(_packed(_TOLD, str(first[0]), first[1:]))
            with suppress(asyncio.IncompleteReadError, OSError):
                while True:
                    length = _length(await reader.readexactly(_LENGTH.size))
                    self._take(msgspec.msgpack.decode(await reader.readexactly(length), type=_Frame))
        finally:
            self._writer.close()

    def tell(self, name: str, *values: object) -> None:
        """Tells the other process something, if it is still there."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._send, _packed(_TOLD, name, values))

    def _send(self, frame: bytes) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(frame)

    def _take(self, frame: _Frame) -> None:
        question = self._questions[frame.name]
        values = msgspec.msgpack.decode(frame.values, type=question.values)
        if isinstance(question, Told):
            try:
                question.hear(*values)
            except Exception:
                _log.exception("what a started process told could not be heard")
            return
        task = asyncio.create_task(self._answer(frame.number, question, values))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, number: int, question: Question, values: tuple[object, ...]) -> None:
        try:
            async with asyncio.timeout(question.seconds):
                answer = _packed(number, "", await question.answer(*values))
        except ReadroomError as error:
            answer = _packed(number, _word(error), (error.sentence, error.field))
        except TimeoutError:
            answer = _packed(number, "Unavailable", ("no answer in time", None))
        except Exception:
            _log.exception("a question of a started process could not be answered")
            answer = _packed(number, "Unavailable", ("unexpected error, see the log", None))
        self._send(answer)


def _word(error: ReadroomError) -> str:
    return next(name for name, word in _WORDS.items() if isinstance(error, word))
