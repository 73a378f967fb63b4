"""A listener that is told to stop takes nobody new; who is connected has some time to end by themselves."""

import asyncio
import socket
import sys
import threading
import time
from contextlib import suppress

from plumbing.dimse.pdus import NOT_SPECIFIED
from tests.plumbing.dimse.peers import ByHand, Listening, listening
from tests.wait import eventually

C_STORE, C_ECHO = 0x0001, 0x0030
SOURCE_PROVIDER = 2


def draining(listening: Listening, seconds: float) -> threading.Thread:
    thread = threading.Thread(target=listening.acceptor.drain, args=(seconds,))
    thread.start()
    return thread


async def begun(listening: Listening) -> None:
    await eventually(lambda: not listening.acceptor.accepts)


def is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionError:
        return True
    return False


async def test_who_is_connected_goes_on_to_the_release_and_nobody_new_comes(plain: Listening) -> None:
    peer = ByHand(plain.port)
    drain = draining(plain, 30)
    await eventually(lambda: is_refused(plain.port))

    for _ in range(2):
        peer.command(C_STORE).fragment(b"a data set", command=False)
        assert peer.status() == 0
    peer.send(0x05, bytes(4))
    assert peer.pdu()[0] == 0x06
    peer.close()

    drain.join(10)  # long before its time
    assert not drain.is_alive()
    assert plain.ends == ["released"]
    assert len(plain.stored) == 2


async def test_who_does_not_release_is_aborted_after_the_time(plain: Listening) -> None:
    peer = ByHand(plain.port)
    began = time.monotonic()
    drain = draining(plain, 1)
    assert peer.aborted() == (SOURCE_PROVIDER, NOT_SPECIFIED)
    assert time.monotonic() - began >= 1
    drain.join(10)
    await eventually(lambda: plain.ends == ["aborted"])


async def test_the_instance_under_way_is_answered_before_the_abort(plain: Listening) -> None:
    """As long as it is being stored, and not only while its bytes come."""
    reached, go_on = threading.Event(), threading.Event()

    def finish(_command: object) -> tuple[int, str]:
        reached.set()
        assert go_on.wait(10)
        return 0, ""

    plain.finish = finish
    peer = ByHand(plain.port)
    peer.command(C_STORE).fragment(b"a data set", command=False)
    assert reached.wait(10)
    drain = draining(plain, 0)
    await begun(plain)
    await asyncio.sleep(0.2)  # the time is over, the half second for the answer is not
    go_on.set()

    assert peer.status() == 0
    assert peer.aborted() == (SOURCE_PROVIDER, NOT_SPECIFIED)
    drain.join(10)


async def test_an_instance_that_does_not_come_to_its_end_does_not_keep_it(plain: Listening) -> None:
    peer = ByHand(plain.port)
    peer.command(C_STORE).fragment(b"a part", command=False, last=False)
    await eventually(lambda: plain.chunks == 1)
    drain = draining(plain, 0)
    drain.join(10)
    assert not drain.is_alive()
    plain.acceptor.stop()
    assert peer.aborted() == (SOURCE_PROVIDER, NOT_SPECIFIED)
    assert plain.discarded == 1


def test_whoever_knocks_at_this_moment_does_not_end_the_drain() -> None:
    """Their connection has a place before it has a thread."""
    switched = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(5):
            with listening() as plain:
                knocks = [threading.Thread(target=knock_until_refused, args=(plain.port,)) for _ in range(3)]
                for each in knocks:
                    each.start()
                plain.acceptor.drain(0.05)
                for each in knocks:
                    each.join(10)
    finally:
        sys.setswitchinterval(switched)


def knock_until_refused(port: int) -> None:
    with suppress(ConnectionError):
        while True:
            socket.create_connection(("127.0.0.1", port)).close()
