"""What stands in files that others replace while a process runs: certificates, authorities, passwords.

A change is taken up a second later at most, by whoever connects then, and whole or not at all: of a pair
that is half written, or that does not belong together, the one before still counts. Open connections stay.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kernel.errors import Invalid
from plumbing import log

T = TypeVar("T")

LOOK_S = 1.0
"""Between two looks at the files."""

_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"

_log = log.get()

_Stamp = Sequence[tuple[object, ...]]


class Renewed(Generic[T]):
    """What is made of some files, made anew when one of them has changed; used by any thread.

    Attributes:
        unreadable: whether the files are not as they were, and nothing can be made of them.
    """

    def __init__(self, files: Callable[[], Iterable[Path]], make: Callable[[], T]) -> None:
        """Makes it, and raises whatever `make` raises.

        Args:
            files: which they are now.
            make: reads them. It raises OSError, ValueError or Invalid where they are not whole.
        """
        self.unreadable = False
        self._files = files
        self._make = make
        self._looking = threading.Lock()
        self._seen = self._stamp()
        self._value = make()
        self._look_at = time.monotonic() + LOOK_S
        _known.add(self)

    def __call__(self) -> T:
        """What counts now. Equal files give the same object."""
        if time.monotonic() >= self._look_at:
            self.look()
        return self._value

    @property
    def files(self) -> Sequence[Path]:
        """Which they are now."""
        return tuple(self._files())

    def look(self) -> None:
        """Looks whether the files have changed, and reads them then."""
        if not self._looking.acquire(blocking=False):
            return  # somebody else looks just now
        try:
            self._look_at = time.monotonic() + LOOK_S
            self._take_up()
        finally:
            self._looking.release()

    def _take_up(self) -> None:
        try:
            stamp = self._stamp()
            if stamp == self._seen:
                self.unreadable = False
                return
            value = self._make()
            if stamp != self._stamp():
                return  # somebody is writing: the next look
        except (OSError, ValueError, Invalid) as error:
            if not self.unreadable:
                # Not what the error says: it may quote what could not be read.
                cause = getattr(error, "reason", None) or type(error).__name__
                _log.error(
                    "files have changed and are not whole: those before still count",
                    files=self._named(),
                    cause=cause,
                )
            self.unreadable = True
            return
        self._value, self._seen, self.unreadable = value, stamp, False
        _log.info("files have changed and are taken up", files=self._named())

    def _named(self) -> str:
        return ", ".join(sorted({path.name for path in self.files}))

    def _stamp(self) -> _Stamp:
        found = []
        for path in self.files:
            status = path.stat()  # of what a link leads to: Kubernetes replaces a link
            found.append((path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
        return found


_known: "WeakSet[Renewed[Any]]" = WeakSet()


Text = str | Callable[[], str]
"""A text, or what answers it as it is now."""


def asked(text: Text) -> Callable[[], str]:
    """Answers the text as it is now."""
    return text if callable(text) else lambda: text


def whole_certificates(path: Path) -> bytes:
    """The certificates in a file in PEM; raises Invalid where one of them is cut off, or there is none."""
    content = path.read_bytes()
    if not content.count(_BEGIN) == content.count(_END) > 0:
        raise Invalid(f"`{path.name}` holds no whole certificate")
    return content


class RenewedCollector(Collector):
    """Tells of each file when the first certificate in it ends, and whether it has changed and is not whole.

    Who asks also lets the files be looked at: a process that nobody calls finds what is wrong too.
    """

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The same without a value."""
        return self._families()

    def collect(self) -> Iterator[Metric]:
        ends, unreadable = self._families()
        found: dict[str, bool] = {}
        for each in list(_known):
            each.look()
            for path in each.files:
                found[path.name] = found.get(path.name, False) or each.unreadable
                with suppress(OSError, ValueError, Invalid):
                    ends.add_metric([path.name], min(map(datetime.timestamp, _ends(path))))
        for name, is_unreadable in sorted(found.items()):
            unreadable.add_metric([name], int(is_unreadable))
        unique = {sample.labels["file"]: sample for sample in ends.samples}
        ends.samples = [unique[name] for name in sorted(unique)]
        yield ends
        yield unreadable

    def _families(self) -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
        return (
            GaugeMetricFamily(
                "readroom_certificate_ends",
                "Alert 14 days before: when the first certificate in a file ends, in seconds since 1970",
                labels=["file"],
            ),
            GaugeMetricFamily(
                "readroom_files_unreadable",
                "Alert at 1: a file has changed and is not whole; what stood there before still counts",
                labels=["file"],
            ),
        )


def _ends(path: Path) -> list[datetime]:
    from cryptography import x509

    return [each.not_valid_after_utc for each in x509.load_pem_x509_certificates(whole_certificates(path))]


REGISTRY.register(RenewedCollector())
