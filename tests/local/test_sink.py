"""The sink keeps what it is given, and fails as it is told to."""

import email
import email.policy
import json
import smtplib
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from http.client import RemoteDisconnected
from pathlib import Path

import pytest

from local.embedded import EmbeddedServers
from local.embedded.servers import Sink
from local.embedded.sink import Behaviour

DELAY_S = 0.2


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sink]:
    servers = EmbeddedServers(tmp_path_factory.mktemp("sink") / "data", [])
    servers.open()
    servers.sink.start()
    yield servers.sink
    servers.stop()


@pytest.fixture
def sink(running: Sink) -> Sink:
    """An empty one that takes everything."""
    for path in (*running.mail.iterdir(), *running.texts.iterdir()):
        path.unlink()
    return running


def mail(sink: Sink) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@here.test", "b@there.test", "Grüße"
    message.set_content("näh\n.\nend\n")
    host, _, port = sink.mail_address.partition(":")
    with smtplib.SMTP(host, int(port), timeout=5) as server:
        server.send_message(message)


def text(sink: Sink, token: str | None = None) -> int:
    shown = sink.token_file.read_text() if token is None else token
    request = urllib.request.Request(
        sink.text_url,
        json.dumps({"to": "+31612345678", "text": "123456"}).encode(),
        {"Authorization": f"Bearer {shown}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        status: int = answer.status
    return status


def only(folder: Path, suffix: str) -> Path:
    (path,) = folder.glob(f"*{suffix}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    return path


def test_a_mail_is_kept_with_its_envelope(sink: Sink) -> None:
    mail(sink)

    kept = email.message_from_bytes(only(sink.mail, ".eml").read_bytes(), policy=email.policy.default)
    assert (kept["Return-Path"], kept["Delivered-To"]) == ("<a@here.test>", "b@there.test")
    assert kept["Subject"] == "Grüße"
    assert kept.get_content().splitlines() == ["näh", ".", "end"]


def test_a_text_message_is_kept_and_needs_the_token(sink: Sink) -> None:
    assert text(sink) == 202
    with pytest.raises(urllib.error.HTTPError, match="401"):
        text(sink, token="another")

    assert json.loads(only(sink.texts, ".json").read_bytes()) == {"to": "+31612345678", "text": "123456"}


@pytest.mark.parametrize(
    ("at", "refusal"),
    [
        ("mail", smtplib.SMTPSenderRefused),
        ("rcpt", smtplib.SMTPRecipientsRefused),
        ("data", smtplib.SMTPDataError),
    ],
)
def test_a_mail_is_refused_where_it_is_told(at: str, refusal: type[Exception], sink: Sink) -> None:
    Behaviour(at=at, refuse=451).set(sink.mail)  # type: ignore[arg-type]
    with pytest.raises(refusal, match="451"):
        mail(sink)
    assert not list(sink.mail.glob("*.eml"))

    Behaviour.unset(sink.mail)
    mail(sink)
    assert only(sink.mail, ".eml")


@pytest.mark.parametrize(("at", "kept"), [("rcpt", 0), ("data", 1)])
def test_a_connection_is_dropped_before_the_mail_is_taken_or_after(at: str, kept: int, sink: Sink) -> None:
    Behaviour(at=at, drop=True).set(sink.mail)  # type: ignore[arg-type]
    with pytest.raises(smtplib.SMTPServerDisconnected):
        mail(sink)
    assert len(list(sink.mail.glob("*.eml"))) == kept


def test_a_text_message_is_refused_and_dropped(sink: Sink) -> None:
    Behaviour(refuse=503).set(sink.texts)
    with pytest.raises(urllib.error.HTTPError, match="503"):
        text(sink)
    assert not list(sink.texts.glob("*.json"))

    Behaviour(drop=True).set(sink.texts)
    with pytest.raises(RemoteDisconnected):
        text(sink)


@pytest.mark.parametrize("send", [mail, text])
def test_an_answer_is_late_when_it_is_told_to_be(send: Callable[[Sink], object], sink: Sink) -> None:
    for folder in (sink.mail, sink.texts):
        Behaviour(delay_s=DELAY_S).set(folder)
    begin = time.monotonic()
    send(sink)
    assert time.monotonic() - begin >= DELAY_S
