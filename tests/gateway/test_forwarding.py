"""What a modality sends arrives at Central server, once, whatever happens on the way."""

from tests.dicom_files import CATALOGUE
from tests.gateway.system import CentralOfTheTest, Gateway, digest
from tests.ingest.system import DicomObject, sent_objects
from tests.wait import eventually


async def test_every_kind_of_object_arrives_byte_for_byte_in_its_own_transfer_syntax(
    gateway: Gateway, central: CentralOfTheTest
) -> None:
    gateway.start()
    objects = [DicomObject.of(sample.path) for sample in CATALOGUE]
    for each in objects:
        (answer,) = await sent_objects(gateway.modality(), each)
        assert answer.status == 0
    await eventually(lambda: len(central.digests()) == len(objects), within=20)
    assert {
        (entry.sop_instance_uid, entry.transfer_syntax_uid, entry.sha256) for entry in central.entries
    } == {(o.sop_instance_uid, o.transfer_syntax_uid, digest(o)) for o in objects}
