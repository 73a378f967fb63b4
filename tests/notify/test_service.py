"""Notify over the wire: facts in, mails and text messages out; and whoever should not get in."""

from collections.abc import AsyncIterator, Callable

import pytest

from kernel.events import ShareCreated
from plumbing.embedded import EmbeddedServers
from plumbing.pki import Pki
from tests.notify.system import System, running
from tests.wait import eventually
from wire.access.v1 import access_pb2
from wire.notify.v1 import notify_pb2 as pb

MOBILE = "+31612345678"


@pytest.fixture
async def system(
    servers: EmbeddedServers, fresh_database: Callable[[str], str], pki: Pki
) -> AsyncIterator[System]:
    async with running(servers, fresh_database("notify"), pki) as made:
        yield made


async def deliveries(system: System, login: str = "olga") -> list[pb.Delivery]:
    system.access.permissions["olga", "operator"] = []
    answer = await system.acting(login).ListDeliveries(pb.ListDeliveriesRequest())
    return list(answer.deliveries)


@pytest.mark.proves("NTF-2")
async def test_a_share_becomes_a_mail_within_a_second(system: System) -> None:
    bucket = system.bucket(message="Look at this", urgent=True, language=access_pb2.LANGUAGE_NL)

    await system.say(ShareCreated(bucket, 1), ShareCreated(bucket, 1))
    await eventually(lambda: system.mails.received, within=1.0)

    (mail,) = system.mails.received
    assert "recipient@clinic.example" == mail.to
    assert mail.subject.startswith("Dringend: ")
    assert "Sender heeft een onderzoek met u gedeeld" in mail.text
    assert "J.D., CT thorax, 30 oktober 2026" in mail.text

    async def is_sent() -> bool:
        return [each.state for each in await deliveries(system)] == [pb.Delivery.STATE_SENT]

    await eventually(is_sent)


@pytest.mark.proves("NTF-3")
async def test_a_code_goes_out_as_a_text_message_and_nothing_of_it_stays(system: System) -> None:
    request = pb.SendTextRequest(mobile_number=MOBILE, code="123456", language=access_pb2.LANGUAGE_DE)

    await system.called_by("sharing").SendText(request)

    (taken,) = system.texts.taken
    assert (MOBILE, ["Bearer sesame"]) == (taken["to"], system.texts.tokens)
    assert "Ihr Code ist 123456." in taken["text"]
    assert [] == await deliveries(system)
