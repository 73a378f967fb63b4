"""DICOMweb over all cases, and below a case its related ones: what access lists, in full or not at all."""

from uuid import uuid4

import pytest

from tests.ingest.builders import a_uid
from tests.ingest.system import READER, Ingest
from tests.ingest.test_dicomweb import FRAMES, Web, a_frame_ct, dataset, path_of, pixels_of
from tests.ingest.test_images import a_case
from wire.access.v1.access_pb2 import Case, ListCasesResponse


def listed(*cases: Case, more: str = "", continues: bool = False) -> ListCasesResponse:
    return ListCasesResponse(cases=cases, next_page_token=more, continues=continues)


def a_listed_case(case_id: str = "", study: str = "") -> Case:
    return Case(
        case_id=case_id or str(uuid4()), study_instance_uid=study or a_uid(), patient_name="Vermeer^Ada"
    )


async def test_a_search_follows_pages_until_it_is_full_and_says_when_there_is_more(ingest: Ingest) -> None:
    cases = [a_listed_case() for _ in range(4)]
    ingest.access.lists = [
        listed(cases[0], more="1", continues=True),
        listed(more="2", continues=True),
        listed(*cases[1:]),
    ]
    answer = await Web(ingest).get("/studies?limit=3&PatientName=V*r%25_'")
    assert [row["00081190"]["Value"] for row in answer.json] == [
        [f"/cases/{case.case_id}/studies/{case.study_instance_uid}"] for case in cases[:3]
    ]
    assert "additional results" in answer.headers["warning"]
    assert ingest.access.asked_lists == [
        (r"plain(PatientName) like 'V%r\%\_'''", 0, size) for size in (4, 3, 3)
    ]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("limit=1&offset=2", 503),  # nobody knows how many a list that ended early has passed over
        ("PatientName=" + "a*" * 6, 400),
        ("StudyDate=20260230", 400),
        ("StudyTime=2500", 400),
        ("StudyInstanceUID=" + ",".join(f"1.{n}" for n in range(51)), 400),
        ("ModalitiesInStudy=,", 400),
    ],
)
async def test_a_search_is_answered_in_full_or_not_at_all(ingest: Ingest, query: str, status: int) -> None:
    ingest.access.lists = [listed(more="1", continues=True)]
    assert (await Web(ingest).get(f"/studies?{query}")).status == status


async def test_a_study_of_one_case_needs_no_case_in_its_path_and_one_of_several_names_them(
    ingest: Ingest,
) -> None:
    sent = a_frame_ct()
    case_id = await a_case(ingest, sent)
    study = str(dataset(sent).StudyInstanceUID)
    path = path_of(case_id, sent).removeprefix(f"/cases/{case_id}")
    ingest.access.lists = [listed(a_listed_case(case_id, study))]
    [(headers, content)] = (await Web(ingest).get(f"{path}/frames/1", FRAMES)).parts
    assert content == pixels_of(sent)
    assert headers["Content-Location"] == f"{path_of(case_id, sent)}/frames/1"

    both = [a_listed_case(case_id, study), a_listed_case(study=study)]
    ingest.access.lists = [listed(*both)]
    answer = await Web(ingest).get(f"{path}/metadata")
    assert answer.status == 409
    assert answer.body.decode().splitlines()[1:] == [f"/cases/{c.case_id}/studies/{study}" for c in both]

    assert (await Web(ingest).get(f"{path}/metadata")).status == 404
    for nowhere in ("/series", "/instances", "/buckets/x/studies"):
        assert (await Web(ingest).get(nowhere)).status == 404


async def test_a_related_case_is_checked_by_itself(ingest: Ingest) -> None:
    sent = a_frame_ct()
    related = await a_case(ingest, sent)
    study = str(dataset(sent).StudyInstanceUID)
    shown = ingest.access.decisions[READER, related]
    case_id = str(uuid4())
    below = path_of(case_id, sent)
    ingest.access.decisions[READER, case_id] = type(shown)(allowed=True, images=True)
    assert (await Web(ingest).get(f"{below}/frames/1", FRAMES)).status == 404
    ingest.access.related[READER, case_id] = [a_listed_case(), a_listed_case(related, study)]
    [(_, content)] = (await Web(ingest).get(f"{below}/frames/1", FRAMES)).parts
    assert content == pixels_of(sent)
    refused = "select count(*) from audit_rows where outcome = 'refused' and action = 'case.images_fetched'"
    assert await ingest.one(refused) == 1  # the one before
    del ingest.access.decisions[READER, related]
    assert (await Web(ingest).get(f"{below}/frames/1", FRAMES)).status == 404
