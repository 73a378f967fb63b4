"""Sending: the bytes as they are, over TLS to the right server only."""

from io import BytesIO

import pytest

from kernel.errors import Unavailable
from plumbing.dimse.pdus import MAX_PDU_LENGTH, PDV_HEADER
from plumbing.dimse.requestor import Requestor
from plumbing.tls import client_context
from tests.ingest.objects import CT
from tests.plumbing.dimse.peers import EXPLICIT, FIND, Listening
from tests.wait import eventually

FRAGMENT = MAX_PDU_LENGTH - PDV_HEADER.size


def associate(listening: Listening, **more: str) -> Requestor:
    assert listening.tls is not None
    return Requestor.associate(
        f"127.0.0.1:{listening.port}",
        context=client_context(listening.tls),
        server_name=more.get("server_name", "ingest.readroom"),
        calling_ae_title="CT1",
        called_ae_title=more.get("called", "READROOM"),
        proposed=[(CT, EXPLICIT), (FIND, EXPLICIT)],
        identity="0190-a-transfer",
    )


@pytest.mark.parametrize("length", [1, 2, FRAGMENT - 1, FRAGMENT, FRAGMENT + 1, 2 * FRAGMENT, 3_000_000])
async def test_a_data_set_of_any_length_arrives_whole(secured: Listening, length: int) -> None:
    received = bytearray()
    secured.write = received.extend
    sending = bytes(number % 251 for number in range(length))
    association = associate(secured)
    assert association.store(CT, "1.2.3", EXPLICIT, BytesIO(sending)) == (0, "")
    association.release()
    assert received == sending
    assert secured.requests[0].transfer_id == "0190-a-transfer"
    await eventually(lambda: secured.ends == ["released"])


def test_the_answer_comes_back(secured: Listening) -> None:
    secured.finish = lambda command: (0xA700, "full")
    association = associate(secured)
    assert association.takes(CT, EXPLICIT)
    assert not association.takes(FIND, EXPLICIT)
    assert association.store(CT, "1.2.3", EXPLICIT, BytesIO(b"data")) == (0xA700, "full")
    association.release()


def test_a_rejection_says_why(secured: Listening) -> None:
    with pytest.raises(Unavailable, match=r"rejected \(1,1,7\)"):
        associate(secured, called="OTHER")


@pytest.mark.proves("GWY-3", part="a server of another name gets nothing")
def test_a_server_of_another_name_gets_nothing(secured: Listening) -> None:
    with pytest.raises(Unavailable, match=r"the certificate of .* is refused"):
        associate(secured, server_name="access.readroom")
    assert secured.requests == []


def test_nobody_there_is_told(secured: Listening) -> None:
    secured.acceptor.stop()
    with pytest.raises(Unavailable, match="cannot be reached"):
        associate(secured)


def test_an_association_that_ends_in_the_middle_is_told(secured: Listening) -> None:
    association = associate(secured)
    secured.acceptor.abort(lambda handler: True)
    with pytest.raises(Unavailable, match="the association was lost"):
        association.store(CT, "1.2.3", EXPLICIT, BytesIO(bytes(20_000_000)))
    association.release()
