"""What a person is told who has to decide on something that waits, and who is told nothing of it."""

from dataclasses import dataclass
from uuid import uuid4

import pytest

from kernel.errors import Conflict, Denied, Invalid, NotFound
from tests.ingest.builders import a_uid
from tests.ingest.objects import a_ct
from tests.ingest.system import ADMIN, HARBOUR, READER, RIVERSIDE, Ingest, Sender, sent_objects
from wire.access.v1 import access_pb2
from wire.ingest.v1 import ingest_pb2 as pb

FIRST, HERS = 1_000_001, 1_000_002
INSTITUTION_NAME = 0x0008_0080


@dataclass
class Held:
    """A study received at a hub, of which a part may show another patient."""

    ingest: Ingest
    study_id: str
    case_id: str

    async def of_case(self, login: str) -> list[pb.HeldPart]:
        request = pb.DescribeHeldPartsRequest(case_id=self.case_id)
        return list((await self.ingest.acting(login).DescribeHeldParts(request)).parts)

    async def named(self, login: str, *parts: int, study_id: str | None = None) -> list[pb.HeldPart]:
        named = [
            pb.DescribeHeldPartsRequest.PartName(study_id=study_id or self.study_id, part=part)
            for part in parts
        ]
        request = pb.DescribeHeldPartsRequest(parts=named)
        return list((await self.ingest.acting(login).DescribeHeldParts(request)).parts)

    def seen_by(self, login: str, *paths: access_pb2.Path.ValueType) -> None:
        self.ingest.access.decisions[login, self.case_id] = access_pb2.Decision(
            allowed=True, facility_id=str(RIVERSIDE), paths=paths
        )
        self.ingest.access.known[str(RIVERSIDE)] = {READER, login}

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
    ingest.routing.undecided[case_id] = [(study_id, HERS)]
    ingest.routing.waiting = {(study_id, HERS)}
    ingest.routing.mapping_tags[str(RIVERSIDE)] = "InstitutionName"
    return Held(ingest, study_id, case_id)


async def test_who_may_decide_on_a_part_is_told_whose_it_is(held: Held) -> None:
    held.seen_by(READER, access_pb2.PATH_PRIVILEGE)
    held.ingest.access.permitted.add((READER, "study.correct"))
    (part,) = await held.of_case(READER)
    (identity,) = part.identities
    assert (identity.patient_name, identity.patient_id, identity.patient_birth_date) == (
        "Hals^Bea",
        "4712",
        "19700101",
    )
    assert (part.part, part.instance_count, part.study_description, part.study_date) == (
        HERS,
        2,
        "knee",
        "20261120",
    )
    assert (part.gateway_name, part.calling_ae_title) == ("RIVERSIDE", "RIVERSIDE")
    assert (part.mapping_tag, list(part.mapping_values)) == ("InstitutionName", ["MS45"])
    assert await held.audited() == [(READER, f"case:{held.case_id}", "done")]


@pytest.mark.proves("BEY-11", part="who may not decide learns nothing of what is held")
async def test_whoever_sees_the_case_another_way_or_may_not_decide_is_told_nothing(held: Held) -> None:
    with pytest.raises(NotFound):
        await held.of_case(READER)
    held.seen_by(READER, access_pb2.PATH_SHARE, access_pb2.PATH_GRANT)
    held.ingest.access.permitted.add((READER, "study.correct"))
    with pytest.raises(Denied):
        await held.of_case(READER)
    held.ingest.access.permitted.clear()
    held.seen_by(READER, access_pb2.PATH_PRIVILEGE)
    with pytest.raises(Denied) as denied:
        await held.of_case(READER)
    assert "you need the permission `study.correct` or `study.delete` at" in denied.value.sentence
    assert {outcome for *_, outcome in await held.audited()} == {"refused"}


async def test_who_administers_the_hub_is_told_where_it_comes_from_and_whose_it_is_with_sight_only(
    held: Held,
) -> None:
    assert await held.named(READER, HERS) == []
    (part,) = await held.named(ADMIN, HERS)
    assert (part.part, list(part.mapping_values), part.gateway_name) == (HERS, ["MS45"], "RIVERSIDE")
    assert not part.shows_patient
    shown = (part.identities, part.study_description, part.study_date, part.modalities)
    assert not any(shown)
    held.ingest.access.sees_cases.add(ADMIN)
    held.ingest.routing.waiting.add((held.study_id, 0))
    whole, part = await held.named(ADMIN, 0, HERS)
    assert [identity.patient_id for identity in part.identities] == ["4712"]
    assert [identity.patient_id for identity in whole.identities] == ["4711", "4712"]
    assert (whole.instance_count, list(whole.mapping_values)) == (3, ["MS44", "MS45"])
    assert await held.audited() == [(ADMIN, "held_parts", "done")] * 2


async def test_what_waits_no_more_is_told_to_nobody_who_only_administers_the_hub(held: Held) -> None:
    held.ingest.access.sees_cases.add(ADMIN)
    assert [each.part for each in await held.named(ADMIN, 0, FIRST, HERS)] == [HERS]
    held.ingest.routing.waiting.clear()
    assert await held.named(ADMIN, 0, FIRST, HERS) == []


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


@pytest.mark.proves("A60", part="nothing goes with a case that may show another patient")
async def test_a_case_with_undecided_images_of_another_patient_is_not_deleted(held: Held) -> None:
    held.ingest.access.cases[held.case_id] = [held.study_id]
    held.seen_by(ADMIN, access_pb2.PATH_PRIVILEGE)
    request = pb.DeleteStudyRequest(case_id=held.case_id)
    with pytest.raises(Conflict) as conflict:
        await held.ingest.acting(ADMIN).DeleteStudy(request)
    assert "release or discard them first" in conflict.value.sentence
    assert await held.ingest.one("select count(*) from deletions") == 0
    # Whom it does not concern access refuses, as ever.
    held.ingest.access.decisions.clear()
    with pytest.raises(Denied):
        await held.ingest.acting(READER).DeleteStudy(request)
    held.ingest.routing.undecided.clear()
    answer = await held.ingest.acting(ADMIN).DeleteStudy(request)
    assert answer.deletion.state == pb.Deletion.STATE_BEGUN
