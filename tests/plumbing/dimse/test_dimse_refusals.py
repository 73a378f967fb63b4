"""The receive path against peers that break the protocol, are silent, too many, strangers or revoked."""

import asyncio
import socket
import ssl
import struct
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest

from kernel.errors import Unavailable
from local.pki import Pki
from plumbing.authority import CertificateAuthority
from plumbing.dimse import Limits, Rejected
from plumbing.dimse.negotiation import write_proposal
from plumbing.dimse.requestor import Requestor
from plumbing.tls import TLSFiles, client_context
from tests.ingest.objects import CT, a_ct
from tests.plumbing.dimse.peers import (
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    ByHand,
    Listening,
    checked_by_a_balancer,
    listening,
    rejection,
)
from tests.wait import Stopwatch, eventually

# Who breaks the protocol

BROKEN: dict[str, tuple[Callable[[ByHand], object], tuple[int, int]]] = {
    "a second request": (lambda p: p.send(0x01, bytes(100)), (2, 2)),
    "an unknown PDU": (lambda p: p.send(0x42, b"??"), (2, 1)),
    "a PDU over the limit": (lambda p: p.socket.sendall(struct.pack(">BxL", 4, 128 * 1024 + 1)), (2, 6)),
    "an endless PDU": (lambda p: p.socket.sendall(struct.pack(">BxL", 4, 0xFFFF_FFFF)), (2, 6)),
    "a value longer than its PDU": (lambda p: p.send(4, struct.pack(">LBB", 99, 1, 3) + b"x"), (2, 6)),
    "a value without a header": (lambda p: p.send(4, struct.pack(">L", 1)), (2, 6)),
    "a context nobody proposed": (lambda p: p.fragment(b"x", command=True, context=77), (2, 6)),
    "a first command in context 0": (lambda p: p.command(0x0001, context=0), (2, 6)),
    "data before a command": (lambda p: p.fragment(b"x", command=False), (2, 5)),
    "no command set": (lambda p: p.fragment(b"\xff" * 64, command=True), (2, 6)),
    "an answer": (lambda p: p.command(0x8001, data_set=0x0101), (2, 5)),
    "a command inside a data set": (lambda p: p.command(0x0001).command(0x0001), (2, 5)),
    "data in another context": (
        lambda p: p.command(0x0001).fragment(b"x", command=False, context=3),
        (2, 6),
    ),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_who_breaks_the_protocol_is_aborted_with_the_reason(
    plain: Listening, by_hand: Callable[..., ByHand], name: str
) -> None:
    breaking, abort = BROKEN[name]
    peer, bystander = by_hand(), by_hand()
    breaking(peer)
    assert peer.aborted() == abort
    await eventually(lambda: plain.ends == ["aborted"])
    assert [(each.cause, str(abort[1]) in each.reason) for each in plain.refused_connections] == [
        ("violation", True)
    ]
    # Errors of one association never touch another.
    bystander.command(0x0001)
    bystander.fragment(b"kept", command=False)
    assert bystander.status() == 0


@pytest.mark.proves("BEY-7", part="whoever refuses an instance, it is told")
async def test_every_instance_that_comes_to_nothing_is_told(
    plain: Listening, by_hand: Callable[..., ByHand]
) -> None:
    peer = by_hand()
    peer.command(0x0001, instance="1.2/3\xe9").fragment(b"x", command=False)
    assert peer.status() == 0x0117
    peer.command(0x0001, sop_class="1.2.3").fragment(b"x", command=False)
    assert peer.status() == 0x0122
    plain.finish = lambda command: (0xA700, "full")
    peer.command(0x0001).fragment(b"x", command=False)
    assert peer.status() == 0xA700
    peer.command(0x0001).fragment(b"x", command=False, last=False)
    await eventually(lambda: plain.chunks == 2)
    peer.close()
    await eventually(lambda: len(plain.refused_instances) == 4)
    assert [(each.cause, each.sop_instance_uid) for each in plain.refused_instances] == [
        ("0117", "1.2/3\\xc3\\xa9"),
        ("0122", "1.2.3"),
        ("A700", "1.2.3"),
        ("cut off", "1.2.3"),
    ]


@pytest.mark.proves("SEC-5", part="command set")
def test_an_endless_command_is_aborted(by_hand: Callable[..., ByHand]) -> None:
    peer = by_hand()
    for _ in range(2):
        peer.fragment(bytes(40_000), command=True, last=False)
    assert peer.aborted() == (2, 6)


@pytest.mark.proves("SEC-5", part="fragments of a message")
@pytest.mark.parametrize("kind", ["an endless command of nothing", "a data set by the byte"])
def test_who_sends_in_crumbs_is_aborted(by_hand: Callable[..., ByHand], kind: str) -> None:
    peer = by_hand()
    data_set = kind == "a data set by the byte"
    if data_set:
        peer.command(0x0001)
    crumb = struct.pack(">LBB", 3 if data_set else 2, 1, 0 if data_set else 1) + b"x" * data_set
    for _ in range(5):
        peer.send(0x04, crumb * 1_000)
    assert peer.aborted() == (2, 6)


def test_a_data_set_in_the_smallest_pdus_that_senders_use_is_stored(
    plain: Listening, by_hand: Callable[..., ByHand]
) -> None:
    peer = by_hand()
    peer.command(0x0001)
    for _ in range(5_000):
        peer.fragment(bytes(1024), command=False, last=False)
    peer.fragment(b"", command=False)
    assert peer.status() == 0
    assert plain.stored[0][2] == 5_000 * 1024


@pytest.mark.parametrize(
    "request_pdu",
    [
        b"\x01\0\0\0\0\x04abcd",
        b"\x01\0\0\x04\0\0",
        b"\x01\0\xff\xff\xff\xff",
        b"\x04\0\0\0\0\x04abcd",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x01\0" + struct.pack(">L", 200) + b"\0\1" + bytes(66) + b"\x20" * 132,
    ],
)
async def test_what_is_no_association_request_is_aborted(
    plain: Listening, by_hand: Callable[..., ByHand], request_pdu: bytes
) -> None:
    peer = by_hand(associate=False)
    peer.socket.sendall(request_pdu)
    peer.socket.shutdown(socket.SHUT_WR)
    assert peer.pdu()[0] in (0x07, 0)
    by_hand()
    await eventually(lambda: len(plain.requests) == 1)


def test_a_request_for_another_protocol_is_rejected(by_hand: Callable[..., ByHand]) -> None:
    changes: list[tuple[Callable[[bytes], bytes], tuple[int, int, int]]] = [
        (lambda pdu: pdu[:6] + b"\0\2" + pdu[8:], (1, 2, 2)),
        (lambda pdu: pdu.replace(b"1.2.840.10008.3.1.1.1", b"1.2.840.10008.3.1.1.9"), (1, 1, 2)),
    ]
    for change, expected in changes:
        peer = by_hand(associate=False)
        peer.socket.sendall(change(write_proposal("CT1", "READROOM", [(CT, EXPLICIT)], None)))
        kind, body = peer.pdu()
        assert (kind, tuple(body[1:])) == (0x03, expected)


# TLS, limits, revocation


def silent(port: int, number: int, opened: ExitStack) -> None:
    for _ in range(number):
        opened.enter_context(socket.create_connection(("127.0.0.1", port)))


@pytest.mark.proves("SEC-3")
def test_silent_sockets_do_not_delay_a_legitimate_association(secured: Listening) -> None:
    with ExitStack() as opened:
        silent(secured.port, 20, opened)
        watch = Stopwatch()
        with secured.sender().association([(VERIFICATION, IMPLICIT)]) as association:
            assert association.is_established
        # The row's own figure; it takes about 20 ms.
        assert watch.seconds() < 1.0


async def test_a_silent_socket_is_closed_and_told(pki: Pki) -> None:
    with (
        listening(pki.gateway_tls("ingest"), limits=Limits(handshake_s=0.2)) as handler,
        ExitStack() as opened,
    ):
        silent(handler.port, 1, opened)
        await eventually(lambda: handler.refusals == [("handshake", "no TLS handshake in time")])


async def test_a_connection_that_comes_and_goes_is_not_worth_a_word(secured: Listening) -> None:
    socket.create_connection(("127.0.0.1", secured.port)).close()
    with secured.sender().association([(VERIFICATION, IMPLICIT)]):
        pass
    await eventually(lambda: secured.ends == ["released"])
    assert secured.refusals == []


@pytest.mark.proves("GWY-3", part="plain text is refused by the DICOM listener")
async def test_plain_text_is_refused_and_told(secured: Listening) -> None:
    secured.tls = None
    with secured.sender().association([(CT, EXPLICIT)]) as association:
        assert not association.is_established
    await eventually(lambda: secured.refusals == [("handshake", "plain text on a TLS listener")])


@pytest.mark.proves("SEC-1", part="DICOM listeners")
@pytest.mark.parametrize(
    ("version", "suites", "accepted"),
    [
        (ssl.TLSVersion.TLSv1, "ALL:@SECLEVEL=0", False),
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0", False),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA256", False),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES256-SHA", False),
        (ssl.TLSVersion.TLSv1_2, "ECDHE+AESGCM", True),
        (ssl.TLSVersion.TLSv1_3, "ALL", True),
    ],
)
def test_only_todays_tls_is_spoken(
    secured: Listening, version: ssl.TLSVersion, suites: str, accepted: bool
) -> None:
    assert secured.tls is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_cert_chain(secured.tls.certificate, secured.tls.key)
    context.load_verify_locations(secured.tls.ca)
    context.set_ciphers(suites)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = context.maximum_version = version
    with socket.create_connection(("127.0.0.1", secured.port)) as connection:
        if accepted:
            with context.wrap_socket(connection, server_hostname="localhost") as speaking:
                assert speaking.version() in ("TLSv1.2", "TLSv1.3")
        else:
            with pytest.raises(ssl.SSLError):
                context.wrap_socket(connection, server_hostname="localhost")


@pytest.mark.proves("SEC-2", part="a certificate of nobody we trust")
async def test_a_strangers_certificate_and_none_at_all_are_refused(
    secured: Listening, tmp_path: Path
) -> None:
    assert secured.tls is not None
    stranger = CertificateAuthority.create("stranger", datetime.now(UTC))
    certificate, key = stranger.issue("urn:x", ["localhost"], datetime.now(UTC))
    (tmp_path / "s.pem").write_bytes(certificate)
    (tmp_path / "s.key").write_bytes(key)
    ca = secured.tls.ca
    secured.tls = TLSFiles(tmp_path / "s.pem", tmp_path / "s.key", ca)
    with secured.sender().association([(CT, EXPLICIT)]) as association:
        assert not association.is_established
    nameless = ssl.create_default_context(cafile=str(ca))
    with (
        socket.create_connection(("127.0.0.1", secured.port)) as connection,
        pytest.raises(ssl.SSLError),
        nameless.wrap_socket(connection, server_hostname="localhost") as speaking,
    ):
        speaking.recv(1)
    await eventually(lambda: len(secured.refusals) == 2)
    assert {kind for kind, _ in secured.refusals} == {"handshake"}
    assert secured.requests == []


async def test_more_associations_than_allowed_are_rejected_as_a_local_limit() -> None:
    with listening(limits=Limits(connections=1)) as handler:
        with handler.sender().association([(VERIFICATION, IMPLICIT)]) as first:
            assert first.is_established
            assert rejection(handler.port) == (2, 3, 2)
        await eventually(lambda: handler.ends == ["released"])
        with handler.sender().association([(VERIFICATION, IMPLICIT)]) as third:
            assert third.is_established


async def test_who_stalls_in_the_middle_or_idles_too_long_is_aborted() -> None:
    with listening(limits=Limits(idle_s=60, stalled_s=0.2)) as handler:
        peer = ByHand(handler.port)
        peer.command(0x0001)
        assert peer.aborted() == (2, 0)
        await eventually(lambda: handler.ends == ["lost"])
        assert handler.discarded == 1
    with listening(limits=Limits(idle_s=0.2)) as handler:
        assert ByHand(handler.port).aborted() == (2, 0)


@pytest.mark.proves("SEC-2", part="open associations are aborted at once")
@pytest.mark.parametrize("busy", [False, True])
async def test_chosen_associations_are_aborted_at_once(secured: Listening, busy: bool) -> None:
    assert secured.tls is not None
    context = client_context(secured.tls)
    opened = {
        title: Requestor.associate(
            f"localhost:{secured.port}",
            context=context,
            server_name="localhost",
            calling_ae_title=title,
            called_ae_title="READROOM",
            proposed=[(CT, EXPLICIT)],
        )
        for title in ("GOOD", "REVOKED")
    }
    send = threading.Thread(target=_send_until_lost, args=(opened["REVOKED"],))
    if busy:
        send.start()
        await eventually(lambda: len(secured.stored) > 3)
    aborted = secured.acceptor.abort(lambda h: h.request.calling_ae_title == "REVOKED")  # type: ignore[attr-defined]
    assert aborted == 1
    await eventually(lambda: secured.ends == ["aborted"])
    if busy:
        await asyncio.to_thread(send.join, 5)
        assert not send.is_alive()
    good = a_ct()
    with BytesIO(good.data) as data:
        assert opened["GOOD"].store(CT, good.sop_instance_uid, EXPLICIT, data) == (0, "")
    opened["GOOD"].release()


def _send_until_lost(association: Requestor) -> None:
    sending = a_ct(pixels=bytes(300_000))
    try:
        while True:
            with BytesIO(sending.data) as data:
                association.store(CT, sending.sop_instance_uid, EXPLICIT, data)
    except Unavailable:
        pass


async def test_stopping_ends_associations_and_frees_the_port(plain: Listening) -> None:
    peers = [ByHand(plain.port) for _ in range(5)]
    started = time.monotonic()
    await asyncio.to_thread(plain.acceptor.stop)
    assert time.monotonic() - started < 4
    assert plain.ends == ["aborted"] * 5
    assert all(peer.aborted() == (2, 0) for peer in peers)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", plain.port))


@pytest.mark.proves("SEC-3", part="an address that many share")
@pytest.mark.parametrize("listener", ["plain", "secured"])
async def test_silent_sockets_close_no_address_for_those_behind_it(
    listener: str, request: pytest.FixtureRequest
) -> None:
    """More than an address may have: the oldest ones go, the newcomer never."""
    handler: Listening = request.getfixturevalue(listener)
    with ExitStack() as opened:
        silent(handler.port, 150, opened)
        watch = Stopwatch()
        with handler.sender().association([(VERIFICATION, IMPLICIT)]) as association:
            assert association.is_established
        assert watch.seconds() < 1.0
        await eventually(lambda: len(handler.refusals) >= 150 - Limits().handshakes_per_address)
        assert {each.cause for each in handler.refused_connections} == {"gave way"}


@pytest.mark.proves("OPS-5", part="checks of balancers are no refusals")
@pytest.mark.parametrize("listener", ["plain", "secured"])
async def test_whoever_says_nothing_and_goes_is_not_refused(
    listener: str, request: pytest.FixtureRequest
) -> None:
    handler: Listening = request.getfixturevalue(listener)
    handler.known = lambda certificate: refuse("only registered addresses may")
    await asyncio.to_thread(checked_by_a_balancer, handler.port)
    with socket.create_connection(("127.0.0.1", handler.port)) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
        await eventually(lambda: len(handler.refused_connections) == 1)
    await eventually(lambda: not handler.acceptor._places.all())
    assert len(handler.refused_connections) == 1


def refuse(why: str) -> None:
    raise Rejected(1, 1, 3, why)


async def test_a_peer_that_has_its_number_of_associations_gets_no_more_until_one_ends() -> None:
    limits = Limits(connections=8, connections_per_peer=2, connections_reserved=2)
    with listening(limits=limits) as handler:
        peers = [ByHand(handler.port) for _ in range(2)]
        assert rejection(handler.port) == (2, 3, 2)
        await eventually(lambda: [each.cause for each in handler.refused_connections] == ["rejected 2,3,2"])
        for each in peers:
            each.close()
        await eventually(lambda: handler.ends == ["lost"] * 2)
        ByHand(handler.port).close()


@pytest.mark.proves("SEC-2", part="the certificate is judged before the request is read")
async def test_a_peer_that_is_not_known_is_rejected_by_the_titles_of_its_request(secured: Listening) -> None:
    """It says that 200 kB come, and sends only what stands before the items: nobody waits for more."""

    def nobody(certificate: bytes | None) -> None:
        assert certificate
        raise Rejected(1, 1, 3, "nobody knows you")

    secured.known = nobody
    peer = ByHand(secured.port, associate=False, tls=secured.tls)
    whole = write_proposal("GUESSED", "READROOM", [(CT, EXPLICIT)], None)
    peer.socket.sendall(struct.pack(">BxL", 1, 200_000) + whole[6:74])
    assert peer.pdu() == (0x03, bytes((0, 1, 1, 3)))
    peer.close()
    (refused,) = await eventually(lambda: secured.refused_connections)
    assert (refused.calling_ae_title, refused.cause, refused.reason) == (
        "GUESSED",
        "rejected 1,1,3",
        "nobody knows you",
    )
    assert refused.certificate_der
    assert secured.requests == []


async def test_work_that_takes_long_sees_that_its_association_is_aborted(plain: Listening) -> None:
    """And its instance is not answered, neither while it comes nor when it is complete."""
    working = threading.Event()

    def work(*_: object) -> tuple[int, str]:
        working.set()
        while True:
            plain.requests[-1].still_open()
            time.sleep(0.001)

    for step in ("write", "finish"):
        usual = getattr(plain, step)
        setattr(plain, step, work)
        peer = ByHand(plain.port)
        peer.command(0x0001).fragment(b"data", command=False)
        await asyncio.to_thread(working.wait, 5)
        assert plain.acceptor.abort(lambda handler: True) == 1
        assert peer.aborted() == (2, 0)
        setattr(plain, step, usual)
        working.clear()
    await eventually(lambda: plain.ends == ["aborted"] * 2)


async def test_an_answer_that_comes_too_late_is_not_given(plain: Listening) -> None:
    """The association was aborted while the instance was being stored."""

    def finish(command: object) -> tuple[int, str]:
        plain.acceptor.abort(lambda handler: True)
        return 0, ""

    plain.finish = finish
    peer = ByHand(plain.port)
    peer.command(0x0001).fragment(b"data", command=False)
    assert peer.aborted() == (2, 0)
