"""What is told of parts that are held: whose they are, and where they come from."""

from collections.abc import Sequence

from readroom.client import Readroom
from readroom.show import Column, Table, instant
from wire.ingest.v1.ingest_pb2 import DescribeHeldPartsRequest, HeldPart

HELD_PART: Table[HeldPart] = (
    Column("patient_name", lambda p: [each.patient_name for each in p.identities]),
    Column("patient_id", lambda p: [each.patient_id for each in p.identities]),
    Column("patient_birth_date", lambda p: [each.patient_birth_date for each in p.identities]),
    Column("patient_sex", lambda p: [each.patient_sex for each in p.identities]),
    Column("study_description", lambda p: p.study_description or None),
    Column("instances", lambda p: p.instance_count),
    Column("received_at", lambda p: instant(p.received_at)),
    Column("gateway", lambda p: p.gateway_name),
    Column("calling_ae_title", lambda p: p.calling_ae_title),
    Column("mapping_values", lambda p: list(p.mapping_values)),
    Column("mapping_tag", lambda p: p.mapping_tag or None, json_only=True),
    Column(
        "issuer_of_patient_id", lambda p: [each.issuer_of_patient_id for each in p.identities], json_only=True
    ),
    Column("study_date", lambda p: p.study_date or None, json_only=True),
    Column("modalities", lambda p: list(p.modalities), json_only=True),
    Column("shows_patient", lambda p: p.shows_patient, json_only=True),
    Column("study_id", lambda p: p.study_id, json_only=True),
    Column("part", lambda p: p.part, json_only=True),
)


async def held_parts_of_case(readroom: Readroom, case_id: str) -> Sequence[HeldPart]:
    """The parts of a case that may show another patient."""
    answer = await readroom.ingest.DescribeHeldParts(DescribeHeldPartsRequest(case_id=case_id))
    return answer.parts
