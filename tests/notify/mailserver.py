"""A mail server for tests: real SMTP, which misbehaves as it is told."""

import asyncio
import email
import email.policy
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any, cast

from aiosmtpd.smtp import SMTP, Envelope, Session


@dataclass
class Received:
    """A mail as it was taken."""

    sender: str
    to: str
    content: bytes
    options: list[str]

    @property
    def message(self) -> EmailMessage:
        return email.message_from_bytes(self.content, policy=email.policy.default)

    @property
    def subject(self) -> str:
        return str(self.message["Subject"])

    def part(self, kind: str) -> str:
        """The text of the `plain` or `html` part, with plain ends of line."""
        part = self.message.get_body((kind,))
        assert part is not None
        return str(part.get_content()).replace("\r\n", "\n")

    @property
    def text(self) -> str:
        return self.part("plain")

    @property
    def html(self) -> str:
        return self.part("html")


@dataclass
class MailServer:
    """Keeps what it takes.

    Attributes:
        at: by command (`MAIL`, `RCPT`, `DATA`, or `content` once it has that), what it does instead of
            answering 250: answers a text, or drops the connection where that is None. A list is used up.
        keeps_first: whether it keeps a mail before it does what it does at `content`.
        delay_s: before each answer to a content.
        connections: that it has taken so far.
        on_content: called when it has the content of a mail.
    """

    received: list[Received] = field(default_factory=list)
    at: dict[str, list[str | None]] = field(default_factory=dict)
    keeps_first: bool = False
    delay_s: float = 0.0
    connections: int = 0
    port: int = 0
    smtputf8: bool = True
    on_content: Callable[[], None] = lambda: None
    live: set["_Protocol"] = field(default_factory=set)
    server: asyncio.Server | None = None

    def misbehave(self, at: str, *answers: str | None) -> None:
        """At this command it answers so the next times; None drops the connection."""
        self.at[at] = list(answers)

    def drop_all(self) -> None:
        """Ends every connection."""
        for protocol in list(self.live):
            abort(protocol)

    async def start(self) -> None:
        """Listens, after the first time on the same port."""
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(
            lambda: _Protocol(self), "127.0.0.1", self.port, reuse_address=True
        )
        self.port = self.server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self.server is not None
        self.server.close()
        self.drop_all()
        await self.server.wait_closed()


def abort(protocol: SMTP) -> None:
    """Drops the connection."""
    if protocol.transport is not None:
        cast("asyncio.Transport", protocol.transport).abort()


class _Protocol(SMTP):
    def __init__(self, owner: MailServer) -> None:
        super().__init__(_Handler(owner), enable_SMTPUTF8=owner.smtputf8, hostname="localhost")
        self._owner = owner

    def connection_made(self, transport: Any) -> None:
        self._owner.connections += 1
        self._owner.live.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._owner.live.discard(self)
        super().connection_lost(error)

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802
        answer = self._owner.at.get("DATA") or ["go on"]
        if (said := answer.pop(0)) is None:
            abort(self)
        elif said != "go on":
            await self.push(said)
            self.envelope = Envelope()
        else:
            await super().smtp_DATA(arg)


class _Handler:
    def __init__(self, owner: MailServer) -> None:
        self._owner = owner

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return self._answer(server, "MAIL")

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = self._answer(server, "RCPT")
        if answer.startswith("2"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        owner = self._owner
        owner.on_content()
        if owner.keeps_first:
            self._keep(envelope)
        await asyncio.sleep(owner.delay_s)
        if not owner.keeps_first and not owner.at.get("content"):
            self._keep(envelope)
        return self._answer(server, "content")

    def _keep(self, envelope: Envelope) -> None:
        assert isinstance(envelope.content, bytes)
        self._owner.received += [
            Received(envelope.mail_from or "", to, envelope.content, envelope.mail_options)
            for to in envelope.rcpt_tos
        ]

    def _answer(self, server: SMTP, at: str) -> str:
        answers = self._owner.at.get(at)
        if not answers:
            return "250 OK"
        answer = answers.pop(0)
        if answer is None:
            abort(server)
            return "421 gone"
        return answer


@asynccontextmanager
async def mail_server() -> AsyncIterator[MailServer]:
    server = MailServer()
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
