"""Mails leave encrypted, to a server whose certificate is trusted, or not at all (SEC-1)."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from kernel.delivery import Event, Undelivered
from kernel.language import Language
from local.pki import Pki
from services.notify.channels import MailServer
from services.notify.domain import Letter
from tests.clocks import Clock

LETTER = Letter("jane@clinic.example", "subject", "text\n", "<p>text</p>\n", "r", Language.EN)


class Handler:
    """Takes mails from who has logged in over TLS."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert session.ssl is not None
        assert isinstance(envelope.content, bytes)
        self.taken.append(envelope.content)
        return "250 OK"


def known(_server: object, _session: object, _envelope: object, _mechanism: str, who: object) -> AuthResult:
    return AuthResult(success=isinstance(who, LoginPassword) and who.password == b"sesame", handled=False)


@asynccontextmanager
async def serving(pki: Pki, offers_tls: bool = True) -> AsyncIterator[tuple[int, Handler]]:
    identity = pki.tls("notify")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    handler = Handler()

    def protocol() -> SMTP:
        if not offers_tls:
            return SMTP(handler, hostname="localhost")
        return SMTP(
            handler,
            hostname="localhost",
            tls_context=context,
            require_starttls=True,
            auth_required=True,
            authenticator=known,
        )

    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], handler
    finally:
        server.close()
        await server.wait_closed()


def trusting(ca: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    context.check_hostname = False  # the certificates of a test are for names of services
    return context


async def send(port: int, password: str, trust: ssl.SSLContext) -> None:
    post = MailServer(
        "127.0.0.1", port, "starttls", "readroom", password, "us@group.example", 2, Clock(), trust
    )
    try:
        async with post.envelope(LETTER) as envelope:
            await envelope.hand_over()
    finally:
        await post.close()


@pytest.mark.proves("SEC-1", part="mails leave over TLS")
async def test_a_mail_goes_over_tls_to_a_server_that_is_trusted(pki: Pki) -> None:
    async with serving(pki) as (port, handler):
        await send(port, "sesame", trusting(pki.tls("notify").ca))

        assert len(handler.taken) == 1


@pytest.mark.parametrize(
    ("password", "trusted", "offered", "reason"),
    [
        ("sesame", False, True, "the mail server shows no certificate that is trusted"),
        ("sesame", True, False, "the mail server offers no STARTTLS"),
        ("wrong", True, True, "the mail server refused our password"),
    ],
)
@pytest.mark.proves("SEC-1", part="mails leave over TLS")
async def test_to_any_other_server_it_does_not_go_and_says_why(
    pki: Pki, password: str, trusted: bool, offered: bool, reason: str
) -> None:
    async with serving(pki, offered) as (port, handler):
        with pytest.raises(Undelivered, match=reason) as undelivered:
            await send(port, password, trusting(pki.tls("notify").ca if trusted else None))

        assert Event.AWAY is undelivered.value.event
        assert [] == handler.taken
