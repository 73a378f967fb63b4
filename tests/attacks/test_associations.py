"""Positions: a hospital with the certificate of its gateway, and a stranger who only reaches the port.

The hospital wants the room of others, their time, or to be heard after it was revoked; the stranger wants to
be in the way. Neither may keep a second hospital from sending, or an administrator from seeing a refusal.
"""

import asyncio
import os
import socket
import struct
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from plumbing.dimse.negotiation import write_proposal
from services.ingest.reception import MAX_HEAD_BYTES
from tests.ingest.objects import CT, a_ct, element
from tests.ingest.system import (
    ADMIN,
    HARBOUR,
    EnrolledGateway,
    Ingest,
    Sender,
    sent_objects,
    sha256,
    store_object,
)
from tests.ingest.test_hostile import deflate, deflated, identity, refusals, rejection
from tests.plumbing.dimse.peers import EXPLICIT, ByHand, checked_by_a_balancer
from tests.wait import Stopwatch, eventually
from wire.ingest.v1 import ingest_pb2 as pb

LOCAL_LIMIT = (0x03, bytes((0, 2, 3, 2)))
NOT_RECOGNIZED = (0x03, bytes((0, 1, 1, 3)))
REFERENCES = 0x0008_1115


def a_call(ingest: Ingest, gateway: EnrolledGateway, **more: Any) -> ByHand:
    return ByHand(ingest.ports["dicom"], calling=gateway.title, tls=gateway.tls, **more)


async def restarted(ingest: Ingest, **settings: int) -> None:
    for name, value in settings.items():
        ingest.environ[f"READROOM_INGEST_{name.upper()}"] = str(value)
    await ingest.stop()
    await ingest.start()


@contextmanager
def silence(port: int, number: int) -> Iterator[None]:
    with ExitStack() as opened:
        for _ in range(number):
            opened.enter_context(socket.create_connection(("127.0.0.1", port)))
        yield


# A hospital that wants all the room


@pytest.mark.proves("SEC-3", part="one gateway leaves room for the others")
async def test_a_hospital_that_opens_all_it_can_leaves_associations_to_others(ingest: Ingest) -> None:
    await restarted(ingest, max_associations=12, max_associations_per_gateway=5)
    greedy, second, third, fourth = [await ingest.enrol(f"SITE{n}") for n in range(4)]

    def take_all() -> list[int]:
        with ExitStack() as opened:
            counts = []
            for gateway in (greedy, second, third, fourth):
                accepted = 0
                for _ in range(7):
                    peer = a_call(ingest, gateway, associate=False)
                    opened.callback(peer.close)
                    peer.socket.sendall(write_proposal(gateway.title, "READROOM", [(CT, EXPLICIT)], None))
                    answer = peer.pdu()
                    if answer != LOCAL_LIMIT:
                        assert answer[0] == 0x02
                        accepted += 1
                counts.append(accepted)
            return counts

    # Five each; then nine of twelve are taken, and the last quarter is for who has none.
    assert await asyncio.to_thread(take_all) == [5, 4, 1, 1]


@pytest.mark.proves("SEC-3", part="silent sockets of a crowd")
async def test_a_stranger_with_many_silent_sockets_keeps_nobody_behind_its_address_out(
    ingest: Ingest,
) -> None:
    gateway = await ingest.enrol()
    with silence(ingest.ports["dicom"], 200):
        watch = Stopwatch()
        (answer,) = await sent_objects(Sender.of(ingest, gateway), a_ct())
        assert answer.status == 0
        assert watch.seconds() < 1.0  # the row's own figure
        assert await eventually(lambda: ingest.rows("select from refusals where reason like 'it waited%'"))


@pytest.mark.proves("P5", part="what is held of a data set whose UIDs do not come")
async def test_what_a_hospital_sends_before_the_uids_is_not_held_in_memory(ingest: Ingest) -> None:
    gateway = await ingest.enrol()
    number = 6

    def send() -> None:
        with ExitStack() as opened:
            peers = [a_call(ingest, gateway) for _ in range(number)]
            for peer in peers:
                opened.callback(peer.close)
                peer.command(0x0001)
                head = element(0x0008_0016, "UI", CT) + struct.pack(
                    "<HH2sHL", 0x0008, 0x1115, b"SQ", 0, 64 << 20
                )
                peer.fragment(head, command=False, last=False)
                for _ in range(40):
                    peer.fragment(bytes(100_000), command=False, last=False)
            size, _ = tracemalloc.get_traced_memory()
            held.append(size - before)

    held: list[int] = []
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        await asyncio.to_thread(send)
    finally:
        tracemalloc.stop()
    # 4 MB came of each. Beside the head an association has a buffer of 1 MiB, and so has the test's own side.
    assert held[0] < number * ((2 << 20) + MAX_HEAD_BYTES)


async def test_a_legal_object_with_long_references_before_its_uids_is_stored(ingest: Ingest) -> None:
    gateway = await ingest.enrol()
    references = os.urandom(1 << 20)
    objects = [
        a_ct(more={REFERENCES: ("SQ", struct.pack("<HHL", 0xFFFE, 0xE000, len(references)) + references)})
        for _ in range(2)
    ]
    answers = await sent_objects(Sender.of(ingest, gateway), *objects)
    assert [answer.status for answer in answers] == [0, 0]
    assert await ingest.stored() == {each.sop_instance_uid: sha256(each.data) for each in objects}
    assert {path.suffix for path in ingest.packs.iterdir()} == {""}  # nothing is left of the way there


# A hospital that was revoked, or was never enrolled


@pytest.mark.proves("SEC-2", part="no instance of a revoked gateway is answered after the revocation")
async def test_what_a_hospital_has_under_way_when_it_is_revoked_is_never_acknowledged(ingest: Ingest) -> None:
    """The last byte comes after the revocation, and long before the open associations are looked through."""
    gateway = await ingest.enrol()
    acting = ingest.acting(ADMIN)
    before, late = a_ct(), a_ct()
    peer = await asyncio.to_thread(a_call, ingest, gateway)
    peer.command(0x0001, instance=before.sop_instance_uid).fragment(before.data, command=False)
    assert await asyncio.to_thread(peer.status) == 0
    peer.command(0x0001, instance=late.sop_instance_uid).fragment(late.data[:-2], command=False, last=False)
    await acting.RevokeGateway(pb.RevokeGatewayRequest(gateway_id=gateway.gateway_id))
    peer.fragment(late.data[-2:], command=False)
    assert await asyncio.to_thread(peer.aborted) == (2, 0)
    assert await ingest.stored() == {before.sop_instance_uid: sha256(before.data)}


@pytest.mark.proves("SEC-2", part="the certificate is judged before a byte of the request")
@pytest.mark.parametrize("position", ["revoked", "never enrolled"])
async def test_a_request_of_nobody_is_rejected_by_its_titles_alone(ingest: Ingest, position: str) -> None:
    """It says that 200 kB come and sends none of the items, which nobody waits for or decodes."""
    gateway = await ingest.enrol()
    tls = gateway.tls
    if position == "revoked":
        await ingest.acting(ADMIN).RevokeGateway(pb.RevokeGatewayRequest(gateway_id=gateway.gateway_id))
    else:
        tls = identity(ingest.pki.authority("gateway"), ingest.folder, "nobody", ingest.pki.gateway_ca)

    def ask() -> tuple[int, bytes]:
        peer = ByHand(ingest.ports["dicom"], associate=False, tls=tls)
        whole = write_proposal("RIVERSIDE", "READROOM", [(CT, EXPLICIT)], None)
        peer.socket.sendall(struct.pack(">BxL", 1, 200_000) + whole[6:74])
        answer = peer.pdu()
        peer.close()
        return answer

    assert await asyncio.to_thread(ask) == NOT_RECOGNIZED
    (row,) = await eventually(lambda: ingest.rows("select * from refusals"))
    assert (row["kind"], row["calling_ae_title"]) == ("association", "RIVERSIDE")
    assert row["certificate_sha256"]
    assert bool(row["gateway_id"]) == (position == "revoked")
    (audited,) = await ingest.rows("select actor from audit_rows where action = 'association.refused'")
    assert audited["actor"] == (f"gateway:{gateway.gateway_id}" if position == "revoked" else "unknown")


async def test_titles_that_are_none_do_not_keep_a_refusal_out_of_the_list(ingest: Ingest) -> None:
    """A database takes no NUL, and a terminal obeys an escape."""
    tls = identity(ingest.pki.authority("gateway"), ingest.folder, "nobody", ingest.pki.gateway_ca)

    def ask() -> tuple[int, bytes]:
        peer = ByHand(ingest.ports["dicom"], associate=False, tls=tls)
        titles = b"\0\x1b[2JREADROOM".ljust(16) + b"\0RIVERSIDE".ljust(16)
        peer.socket.sendall(struct.pack(">BxLHH", 1, 200_000, 1, 0) + titles + bytes(32))
        answer = peer.pdu()
        peer.close()
        return answer

    assert await asyncio.to_thread(ask) == NOT_RECOGNIZED
    (row,) = await eventually(lambda: ingest.rows("select * from refusals"))
    listed = (row["calling_ae_title"], row["reason"])
    assert listed == (r"\x00RIVERSIDE", "the certificate belongs to no gateway")


# Garbage that hides what matters


@pytest.mark.proves("SEC-2", part="a mismatch is listed whatever else is refused")
async def test_garbage_of_a_hospital_and_of_strangers_hides_no_mismatch(ingest: Ingest) -> None:
    await restarted(ingest, refusals_per_minute=3)
    garbage, honest = await ingest.enrol("GARBAGE"), await ingest.enrol("HONEST", HARBOUR)

    def make_noise() -> None:
        for number in range(12):
            peer = a_call(ingest, garbage, associate=False)
            peer.send(0x01, b"\0\1" + bytes(66) + os.urandom(50 + number))
            peer.pdu()
            peer.close()
            stranger = ByHand(ingest.ports["dicom"], associate=False)
            stranger.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
            stranger.close()

    await asyncio.to_thread(make_noise)
    for gateway in (garbage, honest):
        await rejection(Sender.of(ingest, gateway, title="FOREIGN"))
    mismatch = ("association", "the calling AE title is not one of the gateway's")
    assert await eventually(lambda: two_of(ingest, mismatch))
    listed = await refusals(ingest)
    assert listed.count(("association", "the association request cannot be read")) <= 6  # the minute may turn
    actors = await ingest.rows(
        "select actor from audit_rows where detail->>'reason' = $1 order by actor", mismatch[1]
    )
    assert [row["actor"] for row in actors] == sorted(f"gateway:{g.gateway_id}" for g in (garbage, honest))


@pytest.mark.proves("OPS-5", part="a mismatch is listed behind a balancer that checks")
async def test_the_checks_of_a_balancer_hide_no_mismatch(ingest: Ingest) -> None:
    await restarted(ingest, refusals_per_minute=3)
    gateway = await ingest.enrol("HONEST", HARBOUR)
    await asyncio.to_thread(checked_by_a_balancer, ingest.ports["dicom"])
    await rejection(Sender.of(ingest, gateway, title="FOREIGN"))
    await eventually(lambda: refusals(ingest))
    assert await refusals(ingest) == [("association", "the calling AE title is not one of the gateway's")]
    audited = await ingest.rows("select actor from audit_rows where action = 'association.refused'")
    assert [row["actor"] for row in audited] == [f"gateway:{gateway.gateway_id}"]


async def two_of(ingest: Ingest, wanted: tuple[str, str]) -> bool:
    return (await refusals(ingest)).count(wanted) == 2


# Work without end


@pytest.mark.proves("SEC-2", part="a busy association ends too")
async def test_a_hospital_that_inflates_without_end_is_ended_when_it_is_revoked(ingest: Ingest) -> None:
    """Each 98 kB would inflate to 64 MiB, and is refused; the association ends as any other, within 5 s."""
    gateway, other = await ingest.enrol("BUSY"), await ingest.enrol("OTHER")
    bomb = deflated(lambda _: deflate(struct.pack("<HH2sH", 0x0009, 0x0010, b"LO", 0) * (8 << 20)))
    statuses: list[int | None] = []

    def send() -> float:
        with Sender.of(ingest, gateway).association([(CT, bomb.transfer_syntax_uid)]) as association:
            while association.is_established and None not in statuses:
                statuses.append(store_object(association, bomb).status)
            return time.monotonic()

    sending = asyncio.create_task(asyncio.to_thread(send))
    await eventually(lambda: statuses)
    await ingest.acting(ADMIN).RevokeGateway(pb.RevokeGatewayRequest(gateway_id=gateway.gateway_id))
    revoked_at = time.monotonic()
    assert await sending - revoked_at < 5
    assert {*statuses} <= {0xC004, None}
    (answer,) = await sent_objects(Sender.of(ingest, other), a_ct())
    assert answer.status == 0
