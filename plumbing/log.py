"""Structured logs: JSON, or lines for a person at a terminal; never patient data (SEC-12).

`with bound(...)` once where a request begins; every line within it carries what was bound. The redaction
works from an allow-list: text passes under the keys of `TEXT_KEYS` only, numbers, booleans and our own ids
under every key that does not sound like a person or a secret. An exception is told by its kind and place:
its message may quote what it choked on.
"""

import logging
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import lru_cache
from types import MappingProxyType
from uuid import UUID

import msgspec

from kernel.dicom import INDEXED_ATTRIBUTES
from kernel.errors import ReadroomError

REDACTED = "[redacted]"

TEXT_KEYS = frozenset(
    """
    event level timestamp service logger exception request_id
    method peer remote address listener word field
    how kind state reason cause
    subject consumer stream event_id task
    calling_ae_title called_ae_title gateway study transfer pack seal uid advice files
    """.split()  # noqa: SIM905 - reads as the list it is
)
"""The keys under which text is logged. Add a key only if what stands under it can never tell of a patient."""

# A key that holds an indexed attribute, or sounds like a person's data or a secret, hides whatever it holds.
_PERSONAL = frozenset(a.keyword.lower() for a in INDEXED_ATTRIBUTES) - {"modality", "seriesnumber"}
_SUSPECT = re.compile(r"patient|birth|accession|physician|password|secret|token|privatekey|authorization|otp")
_PLAIN = (int, float, UUID, datetime, timedelta, type(None))
_MAX_CHARACTERS = 2000

# Their messages name what is in the code, never a value that came from outside.
_OUTSPOKEN = (
    ReadroomError,
    TypeError,
    AttributeError,
    NameError,
    ImportError,
    NotImplementedError,
)
_OUTSPOKEN_OF_ASYNCPG = "SyntaxOrAccessError"  # by name: a process that has no asyncpg logs too

_bound: ContextVar[Mapping[str, object]] = ContextVar("bound", default=MappingProxyType({}))


class bound:  # noqa: N801  used as a function
    """Every line logged within the block carries these, beside what was bound around it."""

    __slots__ = ("_before", "_more")

    def __init__(self, **more: object) -> None:
        self._more = more

    def __enter__(self) -> None:
        self._before = _bound.set({**_bound.get(), **self._more})

    def __exit__(self, *_: object) -> None:
        _bound.reset(self._before)


def redact(line: Mapping[str, object]) -> dict[str, object]:
    """Replaces what may not be logged; see the module."""
    return {
        key: value  # nearly always
        if type(value) is str and key in TEXT_KEYS and len(value) <= _MAX_CHARACTERS
        else _redacted(key, value)
        for key, value in line.items()
    }


@lru_cache(maxsize=1024)
def _is_suspect(key: str) -> bool:
    flat = key.replace("_", "").lower()
    return key not in TEXT_KEYS and (flat in _PERSONAL or _SUSPECT.search(flat) is not None)


def _redacted(key: str, value: object) -> object:
    if _is_suspect(key):
        return REDACTED
    if isinstance(value, _PLAIN) or (isinstance(value, Enum) and not isinstance(value, str)):
        return value
    if isinstance(value, str) and key in TEXT_KEYS:
        return value if len(value) <= _MAX_CHARACTERS or key == "exception" else value[:_MAX_CHARACTERS]
    return REDACTED


def describe(error: BaseException) -> str:
    """The error, its causes, and the places they passed, innermost last; no local variable, no value."""
    told: list[str] = []
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        passed = traceback.extract_tb(link.__traceback__)
        told.append("\n".join([_kind(link), *(f"  {at.filename}:{at.lineno} {at.name}" for at in passed)]))
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return "\ncaused by ".join(told)


def _is_outspoken(error: BaseException) -> bool:
    kinds = type(error).__mro__
    return isinstance(error, _OUTSPOKEN) or any(kind.__name__ == _OUTSPOKEN_OF_ASYNCPG for kind in kinds)


def _kind(error: BaseException) -> str:
    hints = [
        f"{name}={value}"
        for name in ("errno", "sqlstate", "constraint_name")
        if (value := getattr(error, name, None)) is not None
    ]
    message = f": {error}" if _is_outspoken(error) else ""
    return " ".join([f"{type(error).__module__}.{type(error).__qualname__}{message}", *hints])


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _to_json(line: Mapping[str, object]) -> str:
    return msgspec.json.encode(line, enc_hook=str).decode()


class _Output:
    """Where lines go, and in which shape: JSON, until `configure` finds a terminal."""

    def __init__(self) -> None:
        self.service = ""
        self.render: Callable[[Mapping[str, object]], str] = _to_json
        self.line: Callable[[str], None] = _to_stderr

    def write(self, level: str, event: str, more: Mapping[str, object], error: object = None) -> None:
        line = {"service": self.service, **_bound.get(), "event": event, **more}
        line["level"], line["timestamp"] = level, datetime.now(UTC)
        if isinstance(error, BaseException):
            line["exception"] = describe(error)
        self.line(self.render(redact(line)))


_output = _Output()


class Logger:
    """Writes lines: a sentence, and values under the keys that `redact` lets pass.

    `exc_info` is an error to tell of. One line is one step, because each call that is served writes one.
    """

    def info(self, event: str, **more: object) -> None:
        _output.write("info", event, more)

    def warning(self, event: str, *, exc_info: object = None, **more: object) -> None:
        _output.write("warning", event, more, exc_info)

    def error(self, event: str, *, exc_info: object = None, **more: object) -> None:
        _output.write("error", event, more, exc_info)

    def exception(self, event: str, **more: object) -> None:
        """With the error that is being handled."""
        _output.write("error", event, more, sys.exception())


_logger = Logger()


def get() -> Logger:
    """The logger. Whatever the process did or did not set up, its lines are redacted."""
    return _logger


class _FromLibraries(logging.Handler):
    """Lines of the libraries: the sentence as they wrote it, without the values they put into it."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        _output.write(record.levelname.lower(), str(record.msg), {"logger": record.name}, error)


def _for_a_person() -> Callable[[Mapping[str, object]], str]:
    from structlog.dev import ConsoleRenderer  # costs a process that logs to a file 0.1 s of its start

    render = ConsoleRenderer()
    return lambda line: str(render(None, str(line["level"]), dict(line)))


def to(line: Callable[[str], None]) -> None:
    """From now on lines go there, as JSON."""
    _output.line, _output.render = line, _to_json


def configure(service: str) -> None:
    """Names this process in its lines, shapes them for a person where stderr is a terminal, and takes the
    libraries' lines in, warnings and above."""
    _output.service = service
    _output.render = _for_a_person() if sys.stderr.isatty() else _to_json
    logging.basicConfig(handlers=[_FromLibraries()], level=logging.WARNING, force=True)
