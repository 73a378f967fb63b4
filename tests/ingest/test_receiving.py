"""From a sender's first byte to its answer, on real servers over mutual TLS."""

from tests.dicom_files import digest, sample
from tests.ingest.system import Ingest, Sender, sent


async def test_a_ct_is_stored(ingest: Ingest) -> None:
    gateway = await ingest.enrol()
    (answer,) = await sent(Sender.of(ingest, gateway), sample("CT").path)
    assert answer.status == 0, answer
    assert list((await ingest.stored()).values()) == [digest(sample("CT").path)]
