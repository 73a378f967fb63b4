"""Whom the gateway is: the certificate that enrolment gave it, or a later one that it has renewed by itself.

Central server says when to renew, so that only its clock counts. The renewed certificate and its key are one
file of the spool, so that they are never of two renewals.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path

from gateway.settings import Settings
from kernel.errors import Invalid, Unavailable
from plumbing.authority import Shown, belong_together, read_certificate, signing_request
from plumbing.files import write_private
from plumbing.tls import TLSFiles

RENEWED = "identity.pem"
SOON = timedelta(days=30)
"""A certificate that ends so soon should have been renewed for a hundred days."""
WHAT_TO_DO = (
    "ask whoever administers gateways to revoke this one and to enrol it anew, and put the new `gateway.pem` "
    "and `gateway.key` in place of the old ones; what waits in the spool goes on then"
)


class Identity:
    """The files that the gateway shows itself with; `files` are those of the last renewal."""

    def __init__(self, settings: Settings) -> None:
        """Raises Invalid where the configured certificate cannot be read."""
        self._renewed = settings.spool / RENEWED
        self._ca = settings.ca
        self.files = settings.tls
        self._shown = _read(self.files.certificate)
        self._asked: tuple[bytes, bytes] | None = None
        if (later := self._later()) is not None:
            self.files = TLSFiles(self._renewed, self._renewed, self._ca)
            self._shown = later

    @property
    def ends_at(self) -> datetime:
        """Until when the certificate is valid."""
        return self._shown.ends_at

    def difficulty(self, now: datetime) -> str:
        """What is wrong with the certificate, and what to do; empty while it is well."""
        if now >= self.ends_at:
            return f"the certificate of this gateway ended on {self.ends_at:%Y-%m-%d}: {WHAT_TO_DO}"
        if now >= self.ends_at - SOON:
            return (
                f"the certificate of this gateway ends on {self.ends_at:%Y-%m-%d} and could not be renewed: "
                f"see the log, and if nothing else helps {WHAT_TO_DO}"
            )
        return ""

    async def renew(self, ask: Callable[[str], Awaitable[str]]) -> TLSFiles:
        """Gets a certificate for a new key, and keeps both; answers the files to show from now on.

        `ask` hands the request to Central server. Should its answer be lost, the same request is sent again.
        """
        request, key = self._asked = self._asked or signing_request()
        certificate = (await ask(request.decode())).encode()
        try:
            shown = read_certificate(certificate)
            fits = shown.uris == self._shown.uris and belong_together(certificate, key)
        except (Invalid, ValueError):
            fits = False
        if not fits:
            raise Unavailable("Central server answered with a certificate that is not for this gateway's key")
        write_private(self._renewed, certificate + key)
        self._asked = None
        self._shown = shown
        self.files = TLSFiles(self._renewed, self._renewed, self._ca)
        return self.files

    def _later(self) -> Shown | None:
        """The renewed certificate, if it is of the configured gateway and ends later."""
        try:
            renewed = read_certificate(self._renewed.read_bytes())
        except (OSError, Invalid):
            return None
        is_ours = renewed.uris == self._shown.uris and renewed.ends_at > self._shown.ends_at
        return renewed if is_ours else None


def _read(path: Path) -> Shown:
    try:
        return read_certificate(path.read_bytes())
    except Invalid as error:
        raise Invalid(f"`{path}`: {error.sentence}") from None
