"""`readroom status`: what a person sees at night, and what a script is told."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from kernel.errors import Invalid
from kernel.release import VERSION
from plumbing.components import PROCESSES
from readroom.status import BACKLOG, WATCHED, addresses, judged, read
from tests.ports import free_port
from tests.readroom.conftest import Run
from tests.test_operating import TEXT

NOW = datetime(2026, 11, 28, tzinfo=UTC)


@contextmanager
def answering(ready: bytes, metrics: bytes, code: int = 200) -> Iterator[str]:
    """Somebody who answers so at the port of a process."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = ready if self.path == "/readyz" else metrics
            self.send_response(code)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.proves("OPS-16", part="the status of a running system")
def test_each_process_of_a_running_system_is_ready(readroom: Run) -> None:
    answer = readroom("status", "--json")
    found = {each["component"]: each for each in json.loads(answer.out)}
    assert found.keys() == set(PROCESSES)
    for each in found.values():
        assert (each["state"], each["version"], each["attention"]) == ("ready", VERSION, [])
        assert datetime.fromisoformat(each["certificate_ends"]) > datetime.now(UTC) + timedelta(days=300)
    assert found["ingest"]["disk_free"].endswith(" GB")
    assert answer.code == 0
    assert "ingest" in readroom("status").out


def test_a_process_that_does_not_answer_or_is_not_ready_is_named(readroom: Run) -> None:
    with answering(b'{"database": false, "beside": {"bus": true}}', b"", 503) as there:
        answer = readroom("status", "--at", f"access=127.0.0.1:{free_port()},web={there}", "--json")
    states = {each["component"]: each["state"] for each in json.loads(answer.out)}
    assert states == {"access": "not ready: it does not answer", "web": "not ready: database"}
    assert answer.code == 7
    assert "not ready: access, web" in answer.err


def test_what_somebody_should_look_at_is_told_and_makes_another_exit_code(readroom: Run) -> None:
    metrics = b"readroom_bus_up 0.0\nreadroom_dead_letters 3.0\nreadroom_outbox_facts 12.0\n"
    with answering(b'{"database": true}', metrics) as there:
        answer = readroom("status", "--at", f"routing={there}")
    assert answer.code == 8
    assert "routing: NATS is away: facts wait\n" in answer.out
    assert "12 facts to say" in answer.out
    assert "somebody should look at routing" in answer.err


@pytest.mark.parametrize(
    ("ready", "metrics"),
    [
        (b"\xff\xfe\x1b[2J", b"readroom_bus_up 1.0"),
        (b"[1, 2]", b""),
        (
            b"{}",
            b'readroom_release{version="\x1b[2J"} 1.0\nreadroom_bus_up 1.0.0\nreadroom_x' + b"9" * 5_000_000,
        ),
    ],
    ids=["no JSON", "no parts", "escapes, no number, and no end"],
)
def test_whatever_a_process_answers_is_a_state_of_it(readroom: Run, ready: bytes, metrics: bytes) -> None:
    with answering(ready, metrics) as there:
        answer = readroom("status", "--at", f"web={there}")
    assert answer.code in (0, 7)
    assert "\x1b" not in answer.out + answer.err


def test_a_certificate_that_ends_soon_and_a_full_disk_are_told() -> None:
    text = f"""
readroom_certificate_ends{{file="tls.crt"}} {(NOW + timedelta(days=13)).timestamp()}
readroom_certificate_ends{{file="ca.crt"}} {(NOW + timedelta(days=900)).timestamp()}
readroom_ingest_disk_free_bytes 9e+09
readroom_ingest_disk_total_bytes 1e+11
"""
    process = judged("ingest", "here", {"database": True}, read(text), NOW)
    assert process.certificate_ends == NOW + timedelta(days=13)
    assert process.attention == [
        "a certificate ends on 2026-12-11: put a new one in its place",
        "the disk of the images has less than a tenth free",
    ]
    later = judged("ingest", "here", {}, read(text.replace("9e+09", "2e+10")), NOW - timedelta(days=2))
    assert later.attention == []


def test_what_is_watched_is_exported() -> None:
    names = [each.metric for each in WATCHED] + list(BACKLOG)
    assert [name for name in names if f"| `{name}` |" not in TEXT] == []


@pytest.mark.parametrize("text", ["access", "access=here", "=here:80", "access=here:99999", "access=:80"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="write NAME=HOST:PORT"):
        addresses(text)


def test_a_name_that_nobody_knows_does_not_answer(readroom: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        answer = readroom("status", "--at", f"web=127.0.0.1:{taken.getsockname()[1]}", "--json")
    assert answer.code == 7
