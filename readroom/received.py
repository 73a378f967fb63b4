"""What the mail server and the text gateway of a system on this machine have received."""

import email
import email.policy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import click
import msgspec

from readroom.endpoints import Endpoints
from readroom.place import Place
from readroom.show import Column, Output, harmless


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail as it was received.

    Attributes:
        to: whom the envelope names.
        text, html: its two parts, decoded.
    """

    at: datetime
    to: str
    message: EmailMessage

    @classmethod
    def read(cls, path: Path) -> "Mail":
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        return cls(_at(path), str(message["Delivered-To"]), message)

    @property
    def subject(self) -> str:
        return str(self.message["Subject"])

    @property
    def text(self) -> str:
        return self._part("plain")

    @property
    def html(self) -> str:
        return self._part("html")

    def _part(self, kind: str) -> str:
        part = self.message.get_body((kind,))
        return str(part.get_content()).rstrip() if part else ""


@dataclass(frozen=True, slots=True)
class Text:
    """A text message as it was received."""

    at: datetime
    to: str
    text: str

    @classmethod
    def read(cls, path: Path) -> "Text":
        content: dict[str, Any] = msgspec.json.decode(path.read_bytes())
        return cls(_at(path), str(content["to"]), str(content["text"]))


def _at(path: Path) -> datetime:
    return datetime.fromtimestamp(int(path.stem) / 1e9, UTC)


def mails(endpoints: Endpoints) -> list[Mail]:
    """Every mail, oldest first."""
    return [Mail.read(path) for path in sorted(endpoints.mail.glob("*.eml"))]


def texts(endpoints: Endpoints) -> list[Text]:
    """Every text message, oldest first."""
    return [Text.read(path) for path in sorted(endpoints.texts.glob("*.json"))]


MAIL = (
    Column[Mail]("at", lambda m: m.at),
    Column[Mail]("from", lambda m: str(m.message["From"])),
    Column[Mail]("to", lambda m: m.to),
    Column[Mail]("subject", lambda m: m.subject),
    Column[Mail]("text", lambda m: m.text),
    Column[Mail]("html", lambda m: m.html),
    Column[Mail]("message_id", lambda m: str(m.message["Message-ID"])),
)

TEXT = (
    Column[Text]("at", lambda t: t.at),
    Column[Text]("to", lambda t: t.to),
    Column[Text]("text", lambda t: t.text),
)


def shown(mail: Mail) -> Sequence[str]:
    """The lines of a mail as a person reads it."""
    head = [f"{name}: {mail.message[name]}" for name in ("From", "To", "Subject")]
    return [harmless(line) for line in (*head, "", *mail.text.splitlines())]


def _looking(command: Callable[[Endpoints, Output], None]) -> Callable[..., None]:
    # Whoever reads the folder needs no login: it is a person at this machine.
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @click.pass_obj
    def run(place: Place, as_json: bool) -> None:
        command(Endpoints.read(place.data), Output(as_json))

    run.__doc__ = command.__doc__
    return run


@click.command("mail")
@_looking
def list_mail(endpoints: Endpoints, out: Output) -> None:
    """Show the mails that the mail server of this machine has received, oldest first."""
    received = mails(endpoints)
    if out.as_json:
        out.items(MAIL, received)
        return
    for mail in received:
        click.echo("\n".join([f"{mail.at:%Y-%m-%d %H:%M:%S}Z for {harmless(mail.to)}", *shown(mail), ""]))


@click.command("texts")
@_looking
def list_texts(endpoints: Endpoints, out: Output) -> None:
    """Show the text messages that the text gateway of this machine has received, oldest first."""
    out.items(TEXT, texts(endpoints))


COMMANDS = (list_mail, list_texts)
