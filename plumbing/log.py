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
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import Enum
from functools import lru_cache
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from kernel.dicom import INDEXED_ATTRIBUTES
from kernel.errors import ReadroomError

REDACTED = "[redacted]"

TEXT_KEYS = frozenset(
    """
    event level timestamp service logger exception request_id
    method peer remote address listener word field
    how kind state reason cause
    subject consumer stream event_id task
    calling_ae_title called_ae_title gateway study transfer pack seal uid advice
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
    asyncpg.SyntaxOrAccessError,
)

bound = structlog.contextvars.bound_contextvars
"""Every line logged within carries what is bound, beside what was bound around it."""


def redact(_logger: WrappedLogger | None, _method: str, event: EventDict) -> EventDict:
    """Replaces what may not be logged; see the module."""
    return {key: _redacted(key, value) for key, value in event.items()}


@lru_cache(maxsize=1024)
def _is_suspect(key: str) -> bool:
    flat = key.replace("_", "").lower()
    return key not in TEXT_KEYS and (flat in _PERSONAL or _SUSPECT.search(flat) is not None)


def _redacted(key: str, value: object) -> object:
    if type(value) is str and key in TEXT_KEYS and len(value) <= _MAX_CHARACTERS:
        return value  # nearly always
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


def _kind(error: BaseException) -> str:
    hints = [
        f"{name}={value}"
        for name in ("errno", "sqlstate", "constraint_name")
        if (value := getattr(error, name, None)) is not None
    ]
    message = f": {error}" if isinstance(error, _OUTSPOKEN) else ""
    return " ".join([f"{type(error).__module__}.{type(error).__qualname__}{message}", *hints])


def _describe_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    given = event.pop("exc_info", None)
    error = sys.exception() if given is True else given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        event["exception"] = describe(error)
    return event


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")


class _Output:
    """Where lines go, and in which shape: JSON, until `configure` finds a terminal."""

    def __init__(self) -> None:
        self.service = ""
        self.render: Processor = _to_json
        self.line: Callable[[str], None] = _to_stderr

    def write(self, line: str) -> None:
        self.line(line)

    debug = info = warning = error = critical = write


def _to_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()


_output = _Output()


def _add_service(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {"service": _output.service, **event}


def _render(logger: WrappedLogger, method: str, event: EventDict) -> Any:
    return _output.render(logger, method, event)


def get() -> FilteringBoundLogger:
    """A logger. Whatever the process did or did not set up, its lines are redacted."""
    logger: FilteringBoundLogger = structlog.wrap_logger(
        _output,
        processors=[
            structlog.contextvars.merge_contextvars,
            _add_service,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _describe_exception,
            redact,
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    return logger


class _FromLibraries(logging.Handler):
    """Lines of the libraries: the sentence as they wrote it, without the values they put into it."""

    def emit(self, record: logging.LogRecord) -> None:
        get().log(record.levelno, str(record.msg), logger=record.name, exc_info=record.exc_info)


def to(line: Callable[[str], None]) -> None:
    """From now on lines go there, as JSON."""
    _output.line, _output.render = line, _to_json


def configure(service: str) -> None:
    """Names this process in its lines, shapes them for a person where stderr is a terminal, and takes the
    libraries' lines in, warnings and above."""
    _output.service = service
    _output.render = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else _to_json
    logging.basicConfig(handlers=[_FromLibraries()], level=logging.WARNING, force=True)
