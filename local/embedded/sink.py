"""The mail server and the text gateway of a system on this machine: they keep what they are given as files.

    python -m local.embedded.sink MAIL_PORT TEXT_PORT MAIL_FOLDER TEXT_FOLDER TOKEN_FILE

A mail becomes `MAIL_FOLDER/<time>.eml`, its envelope in `Return-Path` and `Delivered-To` above its own
headers; a text message, JSON posted to `/texts` with the bearer token, becomes `TEXT_FOLDER/<time>.json`.
What a real server does on a bad day, each does as long as a file `behaviour` lies in its folder.
"""

import asyncio
import hmac
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope, Session

MAIL_LIMIT_BYTES = 1 << 20
"""More than any mail of ours: what is larger is refused (552)."""

TEXT_LIMIT_BYTES = 16 << 10

FILE = "behaviour"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a server behaves; without a file it takes everything at once.

    Attributes:
        at: the command of a mail at which it is so; a text message has one moment only.
        delay_s: how long it waits before it does anything.
        refuse: the code it answers instead of taking it, such as 451 or 550, or 503 of HTTP; 0: it takes it.
        drop: whether it ends the connection without an answer, at `data` after keeping what it takes.
    """

    at: Literal["mail", "rcpt", "data"] = "data"
    delay_s: float = 0.0
    refuse: int = 0
    drop: bool = False

    @classmethod
    def of(cls, folder: Path) -> "Behaviour":
        """How the server of this folder behaves now."""
        try:
            return msgspec.json.decode((folder / FILE).read_bytes(), type=cls)
        except FileNotFoundError:
            return cls()

    def set(self, folder: Path) -> None:
        """From now on it behaves so."""
        _write(folder / FILE, msgspec.json.encode(self))

    @staticmethod
    def unset(folder: Path) -> None:
        """It takes everything again."""
        (folder / FILE).unlink(missing_ok=True)


class MailServer:
    """The commands of SMTP (RFC 5321) as aiosmtpd hands them over."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def handle_MAIL(  # noqa: N802  aiosmtpd finds it by this name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return await self._answer(server, "mail", Behaviour.of(self._folder))

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = await self._answer(server, "rcpt", Behaviour.of(self._folder))
        if answer.startswith("2"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        behaviour = Behaviour.of(self._folder)
        if behaviour.at != "data" or not behaviour.refuse:
            head = [f"Return-Path: <{envelope.mail_from}>"]
            head += [f"Delivered-To: {address}" for address in envelope.rcpt_tos]
            assert isinstance(envelope.content, bytes)
            _keep(self._folder, ".eml", "\r\n".join([*head, ""]).encode() + envelope.content)
        return await self._answer(server, "data", behaviour)

    async def _answer(self, server: SMTP, at: str, behaviour: Behaviour) -> str:
        if behaviour.at != at:
            return "250 OK"
        await asyncio.sleep(behaviour.delay_s)
        if behaviour.drop and isinstance(server.transport, asyncio.WriteTransport):
            server.transport.abort()
        return f"{behaviour.refuse} as told" if behaviour.refuse else "250 OK"


def text_gateway(folder: Path, token: str) -> web.Application:
    """The HTTP port of the text gateway."""

    async def take(request: web.Request) -> web.Response:
        shown = request.headers.get("Authorization", "")
        if not hmac.compare_digest(shown.encode(), f"Bearer {token}".encode()):
            return web.Response(status=401)
        message: Mapping[str, Any] = await request.json()
        behaviour = Behaviour.of(folder)
        await asyncio.sleep(behaviour.delay_s)
        if not behaviour.refuse:
            _keep(folder, ".json", msgspec.json.encode(message))
        if behaviour.drop and request.transport is not None:
            request.transport.abort()
        return web.json_response({}, status=behaviour.refuse or 202)

    app = web.Application(client_max_size=TEXT_LIMIT_BYTES)
    app.add_routes([web.post("/texts", take)])
    return app


def _keep(folder: Path, suffix: str, content: bytes) -> None:
    _write(folder / f"{time.time_ns()}{suffix}", content)


def _write(path: Path, content: bytes) -> None:
    # Whole or not at all for who looks meanwhile; nothing here need survive a power cut.
    draft = path.with_suffix(".draft")
    draft.touch(mode=0o600)
    draft.write_bytes(content)
    draft.replace(path)


async def serve(mail_port: int, text_port: int, mail: Path, texts: Path, token: str) -> None:
    """Takes mails and text messages until it is cancelled."""
    runner = web.AppRunner(text_gateway(texts, token), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", text_port).start()
    server = MailServer(mail)
    smtp = await asyncio.get_running_loop().create_server(
        lambda: SMTP(server, data_size_limit=MAIL_LIMIT_BYTES, hostname="localhost", enable_SMTPUTF8=True),
        "127.0.0.1",
        mail_port,
    )
    await smtp.serve_forever()


def main(mail_port: str, text_port: str, mail: str, texts: str, token_file: str) -> None:
    token = Path(token_file).read_text()
    asyncio.run(serve(int(mail_port), int(text_port), Path(mail), Path(texts), token))


if __name__ == "__main__":
    main(*sys.argv[1:])
