"""What a person is told who has to decide on something that waits, and who is told nothing of it."""

from dataclasses import dataclass
from uuid import uuid4

import pytest

from kernel.errors import Invalid
from tests.ingest.builders import a_uid
from tests.ingest.objects import a_ct
from tests.ingest.system import ADMIN, HARBOUR, READER, RIVERSIDE, Ingest, Sender, sent_objects
from wire.ingest.v1 import ingest_pb2 as pb

FIRST, HERS = 1_000_001, 1_000_002
INSTITUTION_NAME = 0x0008_0080


@dataclass
class Held:
    """A study received at a hub, of which a part may show another patient."""

    ingest: Ingest
    study_id: str
    case_id: str

    async def named(self, login: str, *parts: int, study_id: str | None = None) -> list[pb.HeldPart]:
        named = [
            pb.DescribeHeldPartsRequest.PartName(study_id=study_id or self.study_id, part=part)
            for part in parts
        ]
        request = pb.DescribeHeldPartsRequest(parts=named)
        return list((await self.ingest.acting(login).DescribeHeldParts(request)).parts)

    async def audited(self) -> list[tuple[str, str, str]]:
        rows = await self.ingest.rows(
            """
            select actor, object, outcome from audit_rows
            where action = 'held_parts.described' order by 1, 2
            """
        )
        return [tuple(row) for row in rows]


@pytest.fixture
async def held(ingest: Ingest) -> Held:
    study = a_uid()
    ours = {INSTITUTION_NAME: ("LO", "MS44"), 0x0010_0020: ("LO", "4711")}
    hers = {
        INSTITUTION_NAME: ("LO", "MS45"),
        0x0010_0010: ("PN", "Hals^Bea"),
        0x0010_0020: ("LO", "4712"),
        0x0010_0030: ("DA", "19700101"),
        0x0008_1030: ("LO", "knee"),
        0x0008_0020: ("DA", "20261120"),
    }
    objects = [a_ct(study=study, more=ours), a_ct(study=study, more=hers), a_ct(study=study, more=hers)]
    await sent_objects(Sender.of(ingest, await ingest.enrol()), *objects)
    study_id = str(await ingest.one("select study_id from studies"))
    case_id = str(uuid4())
    ingest.routing.mapping_tags[str(RIVERSIDE)] = "InstitutionName"
    return Held(ingest, study_id, case_id)


async def test_who_administers_the_hub_is_told_where_it_comes_from_and_whose_it_is_with_sight_only(
    held: Held,
) -> None:
    assert await held.named(READER, HERS) == []
    (part,) = await held.named(ADMIN, HERS)
    assert (part.part, list(part.mapping_values), part.gateway_name) == (HERS, ["MS45"], "Main")
    assert not part.shows_patient
    shown = (part.identities, part.study_description, part.study_date, part.modalities)
    assert not any(shown)
    held.ingest.access.sees_cases.add(ADMIN)
    whole, part, other = await held.named(ADMIN, 0, HERS, FIRST)
    assert [identity.patient_id for identity in part.identities] == ["4712"]
    assert [identity.patient_id for identity in other.identities] == ["4711"]
    assert [identity.patient_id for identity in whole.identities] == ["4711", "4712"]
    assert (whole.instance_count, list(whole.mapping_values)) == (3, ["MS44", "MS45"])
    assert await held.audited() == [(ADMIN, "held_parts", "done")] * 2


async def test_what_was_received_elsewhere_and_what_is_not_there_is_left_out(held: Held) -> None:
    held.ingest.access.sees_cases.add(ADMIN)
    assert await held.named(ADMIN, 7) == []
    assert await held.named(ADMIN, 0, study_id=str(uuid4())) == []
    held.ingest.access.administered[ADMIN] = {HARBOUR}
    assert await held.named(ADMIN, 0, HERS) == []
    assert await held.audited() == []
    for parts in ((), range(101)):
        with pytest.raises(Invalid):
            await held.named(ADMIN, *parts)
