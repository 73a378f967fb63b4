"""Association requests that are not quite PS3.8: what DCMTK and Orthanc take is taken, the rest is listed.

The same bytes go to both.
"""

import struct
from collections.abc import Callable

import pytest

from plumbing.dimse.negotiation import APPLICATION_CONTEXT
from tests.ingest.objects import CT
from tests.peers import Peer
from tests.plumbing.dimse.peers import EXPLICIT, IMPLICIT, VERIFICATION, ByHand, Listening
from tests.plumbing.dimse.test_items import context, item
from tests.wait import eventually

ECHO = context(1, VERIFICATION, [IMPLICIT])
LENGTH, CLASS = item(0x51, struct.pack(">L", 16384)), item(0x52, b"2.25.1")
TITLE = b"READROOM"
ACCEPTED, REJECTED = 0x02, 0x03


def user(*more: bytes) -> bytes:
    return item(0x50, b"".join((LENGTH, CLASS, *more)))


def request(
    *items: bytes,
    called: bytes = TITLE,
    calling: bytes = b"CT1",
    version: int = 1,
    application: bytes = APPLICATION_CONTEXT.encode(),
) -> bytes:
    """An A-ASSOCIATE-RQ as it goes over the wire; without items one that proposes Verification."""
    fixed = struct.pack(">HH16s16s32x", version, 0, called.ljust(16), calling.ljust(16))
    body = fixed + item(0x10, application) + b"".join(items or (ECHO, user()))
    return struct.pack(">BxL", 1, len(body)) + body


TAKEN: dict[str, Callable[[], bytes]] = {
    "calling title padded with NUL": lambda: request(calling=b"CT1".ljust(16, b"\0")),
    "called title padded with NUL": lambda: request(called=TITLE.ljust(16, b"\0")),
    "called title, NUL, rubbish": lambda: request(called=(TITLE + b"\0\x10\x20").ljust(16, b"\0")),
    "titles with leading blanks": lambda: request(called=b"  READROOM", calling=b"  CT1"),
    "an unknown item": lambda: request(item(0x99, b"abcd"), ECHO, user()),
    "200 unknown items": lambda: request(*[item(0x99, b"")] * 200, ECHO, user()),
    "an unknown item in a context": lambda: request(item(0x20, ECHO[4:] + item(0x99, b"abcd")), user()),
    "an unknown item of user information": lambda: request(ECHO, user(item(0x99, b"abcd"))),
    "a version name of 40 characters": lambda: request(ECHO, user(item(0x55, b"X" * 40))),
    "a version name with NUL behind": lambda: request(ECHO, user(item(0x55, b"VENDOR_1\0\0"))),
    "a version name that is not ASCII": lambda: request(ECHO, user(item(0x55, b"\xe9\xff"))),
    "an empty version name": lambda: request(ECHO, user(item(0x55, b""))),
    "UIDs with NUL behind": lambda: request(
        context(1, VERIFICATION + "\0", [IMPLICIT + "\0"]),
        user(),
        application=APPLICATION_CONTEXT.encode() + b"\0",
    ),
    "no user information": lambda: request(ECHO),
    "user information first": lambda: request(user(), ECHO),
    "a maximum length of two bytes": lambda: request(ECHO, item(0x50, item(0x51, b"\0\1") + CLASS)),
    "a second protocol version": lambda: request(version=3),
    "zeros behind": lambda: request(ECHO, user(), bytes(4)),
    "an even context id": lambda: request(context(2, VERIFICATION, [IMPLICIT]), user()),
    "the same context twice": lambda: request(ECHO, ECHO, user()),
    "150 times the same context": lambda: request(*[ECHO] * 150, user()),
    "a context without a class beside a good one": lambda: request(
        item(0x20, bytes((3, 0, 0, 0)) + item(0x40, IMPLICIT.encode())), ECHO, user()
    ),
}  # fmt: skip
"""What DCMTK 3.6.7 and Orthanc 1.10.1 accept."""

ODD_TITLES = {
    b" " * 16: "",
    b"\0" * 16: "",
    b"\0CT1": r"\x00CT1",
    b"R\xf6ntgen": r"R\xf6ntgen",
    b"A\tB": r"A\x09B",
    b"A\\B": r"A\B",
}


def answered(port: int, request_pdu: bytes) -> tuple[int, bytes]:
    peer = ByHand(port, associate=False)
    try:
        peer.socket.sendall(request_pdu)
        return peer.pdu()
    finally:
        peer.close()


@pytest.mark.parametrize("name", TAKEN)
def test_what_two_peers_take_is_taken(plain: Listening, name: str) -> None:
    kind, _ = answered(plain.port, TAKEN[name]())
    assert kind == ACCEPTED
    (accepted,) = plain.requests
    assert (accepted.calling_ae_title, accepted.called_ae_title) == ("CT1", "READROOM")


def test_the_peers_take_it(peer: Peer) -> None:
    refused = [name for name, made in TAKEN.items() if answered(peer.port, made())[0] != ACCEPTED]
    assert refused == []


@pytest.mark.proves("BEY-7", part="odd titles are rejected and listed as they came")
@pytest.mark.parametrize(("title", "listed"), ODD_TITLES.items())
async def test_a_blank_or_odd_title_is_rejected_and_listed(
    plain: Listening, title: bytes, listed: str
) -> None:
    for field, answer in (("calling", b"\0\1\1\3"), ("called", b"\0\1\1\7")):
        plain.refused_connections.clear()
        odd = request(calling=title) if field == "calling" else request(called=title)
        assert answered(plain.port, odd) == (REJECTED, answer)
        await eventually(lambda: len(plain.refused_connections) == 1)
        (refused,) = plain.refused_connections
        assert getattr(refused, f"{field}_ae_title") == listed


def test_an_id_of_two_contexts_is_aborted(plain: Listening) -> None:
    """The two differ in how their data sets are to be read."""
    both = request(context(1, CT, [EXPLICIT]), context(1, CT, [IMPLICIT]), user())
    assert answered(plain.port, both)[0] == 0x07
