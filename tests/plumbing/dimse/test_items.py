"""Association requests are read in one pass over a bounded number of items (SEC-5)."""

import os
import struct
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbing.dimse.items import MAX_ITEMS, MAX_SYNTAXES, MAX_USER_ITEMS, Unreadable, read_request
from plumbing.dimse.negotiation import (
    APPLICATION_CONTEXT,
    STORAGE_CLASSES,
    TRANSFER_SYNTAXES,
    answer,
    write_proposal,
)
from plumbing.dimse.pdus import MAX_ASSOCIATE_BYTES
from tests.ingest.objects import CT
from tests.plumbing.dimse.peers import EXPLICIT, IMPLICIT, ByHand

Item = bytes


def item(kind: int, value: bytes) -> Item:
    return struct.pack(">BxH", kind, len(value)) + value


def context(number: int, abstract_syntax: str, syntaxes: Iterable[str]) -> Item:
    named = [item(0x30, abstract_syntax.encode()), *(item(0x40, each.encode()) for each in syntaxes)]
    return item(0x20, bytes((number, 0, 0, 0)) + b"".join(named))


def body(*items: Item) -> bytes:
    fixed = struct.pack(">HH16s16s32x", 1, 0, b"READROOM".ljust(16), b"CT1".ljust(16))
    return fixed + b"".join((item(0x10, APPLICATION_CONTEXT.encode()), *items))


LENGTH = item(0x51, struct.pack(">L", 16384))
ROLES = [item(0x54, struct.pack(">H", 25) + b"1.2.840.10008.5.1.4.1.1.2\1\1")] * 128
EXTENDED = [item(0x56, struct.pack(">H", 25) + b"1.2.840.10008.5.1.4.1.1.2" + bytes(6))] * 128


def contexts(number: int, syntaxes: Iterable[str]) -> list[Item]:
    classes = sorted(STORAGE_CLASSES)[:number]
    return [context(2 * i + 1, uid, syntaxes) for i, uid in enumerate(classes)]


def test_the_largest_request_that_makes_sense_is_read() -> None:
    """128 contexts, each with every transfer syntax there is, and a role and more for every class."""
    largest = body(
        *contexts(128, sorted(TRANSFER_SYNTAXES)), item(0x50, b"".join([LENGTH, *ROLES, *EXTENDED]))
    )
    assert len(largest) < MAX_ASSOCIATE_BYTES
    request = read_request(memoryview(largest))
    assert len(request.contexts) == 128
    assert {len(each.transfer_syntax_uids) for each in request.contexts} == {len(TRANSFER_SYNTAXES)}
    assert all(each.accepted for each in answer(request))
    assert len(TRANSFER_SYNTAXES) <= MAX_SYNTAXES


HOSTILE: dict[str, Callable[[], bytes]] = {
    "62,000 empty items": lambda: body(item(0x99, b"") * 62_000),
    "62,000 empty user items": lambda: body(context(1, CT, [EXPLICIT]), item(0x50, item(0x99, b"") * 16_000)),
    "16,000 empty syntaxes in a context": lambda: body(context(1, CT, [""] * 16_000)),
    "an item more than contexts are": lambda: body(*[context(1, CT, [EXPLICIT])] * MAX_ITEMS),
    "a syntax too many": lambda: body(context(1, CT, [EXPLICIT] * (MAX_SYNTAXES + 1))),
    "a user item too many": lambda: body(
        context(1, CT, [EXPLICIT]), item(0x50, LENGTH * (MAX_USER_ITEMS + 1))
    ),
    "an id of two contexts": lambda: body(context(1, CT, [EXPLICIT]), context(1, CT, [IMPLICIT])),
    "no context": lambda: body(),
    "a context that is cut": lambda: body(item(0x20, b"\1")),
    "an item longer than what is left": lambda: body(context(1, CT, [EXPLICIT])) + b"\x20\0\xff\xff",
    "half an item": lambda: body(context(1, CT, [EXPLICIT])) + b"\x50\0",
    "less than the titles": lambda: bytes(67),
}


@pytest.mark.proves("SEC-5", part="items of an association request")
@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_sender_needs_is_not_read(name: str) -> None:
    with pytest.raises(Unreadable):
        read_request(memoryview(HOSTILE[name]()))


@given(st.binary(max_size=400), st.integers(0, 400))
def test_any_bytes_are_a_request_or_unreadable(noise: bytes, at: int) -> None:
    whole = bytearray(write_proposal("CT1", "READROOM", [(CT, EXPLICIT)], "a transfer")[6:])
    for spoilt in (noise, bytes(whole[:at]) + noise + bytes(whole[at:])):
        try:
            request = read_request(memoryview(spoilt))
        except Unreadable:
            continue
        assert request.contexts


def test_a_request_that_cannot_be_read_is_aborted(by_hand: Callable[..., ByHand]) -> None:
    peer = by_hand(associate=False)
    peer.send(0x01, body(item(0x99, b"") * 62_000))
    assert peer.aborted() == (2, 6)
    peer = by_hand(associate=False)
    peer.send(0x01, body(*contexts(128, sorted(TRANSFER_SYNTAXES)), item(0x50, LENGTH)))
    kind, _ = peer.pdu()
    assert kind == 0x02
    peer = by_hand(associate=False)
    peer.send(0x01, os.urandom(300))
    assert peer.aborted() == (2, 6)
