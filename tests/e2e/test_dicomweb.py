"""DICOMweb as a client library asks it, over all of the system: it shows what the worklist shows."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pydicom
import pytest
import requests
from dicomweb_client import DICOMwebClient
from requests.adapters import HTTPAdapter

from demo.cast import ADEYEMI, CENTRAL, HULL, LIND, MARSH, MOOR, NORTHGATE, VOS
from demo.reading import PRE_READ, completes, locks
from demo.world import World
from plumbing import minting
from tests.e2e.test_journey import seen, send, small
from tests.e2e.test_reading import arrived, obtain
from wire.access.v1.access_pb2 import CheckRequest, Decision

T = TypeVar("T")

STUDY, SERIES, INSTANCE = "0020000D", "0020000E", "00080018"
RETRIEVE_URL = "00081190"


class _AnyName(HTTPAdapter):
    """The certificate names the service, not this machine."""

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        super().init_poolmanager(*arguments, assert_hostname=False, **more)


@contextmanager
def viewer(world: World, login: str, root: str = "") -> Iterator[DICOMwebClient]:
    endpoints = world.endpoints
    token = minting.mint(
        endpoints.issuer_key.read_bytes(), login=login, session="viewer", audience="ingest", now=world.now()
    )
    with requests.Session() as session:
        session.mount("https://", _AnyName())
        session.trust_env = False
        session.cert = (str(endpoints.caller_certificate), str(endpoints.caller_key))
        session.verify = str(endpoints.service_ca)
        session.headers["Authorization"] = f"Bearer {token}"
        yield DICOMwebClient(f"https://{endpoints.dicomweb}{root}", session)


async def asked(world: World, login: str, ask: Callable[[DICOMwebClient], T], root: str = "") -> T:
    def inside() -> T:
        with viewer(world, login, root) as client:
            return ask(client)

    return await asyncio.to_thread(inside)


def values(rows: list[dict[str, Any]], tag: str) -> list[Any]:
    return [row[tag]["Value"][0] for row in rows]


def same(got: pydicom.Dataset, path: Path) -> bool:
    return bool(got == pydicom.dcmread(path))


@pytest.mark.filterwarnings("ignore:No bulk data URI handler")  # of what the JSON leaves out
@pytest.mark.proves("BEY-18", part="every verb, as a client library asks it")
async def test_a_client_library_reads_a_case(world: World, tmp_path: Path) -> None:
    study = small("web-verbs", "MS44")
    paths = await send(world, CENTRAL, study, tmp_path)
    case = await seen(world, VOS.login, study)
    files = {str(pydicom.dcmread(path).SOPInstanceUID): path for path in paths}
    uid, series = str(study.study_instance_uid), str(study.series_instance_uid)

    def ask(client: DICOMwebClient) -> None:
        (found,) = client.search_for_studies(search_filters={"StudyInstanceUID": uid})
        assert found["00201208"]["Value"] == [len(files)]
        assert values(client.search_for_series(uid), SERIES) == [series]
        assert set(values(client.search_for_instances(uid, series), INSTANCE)) == set(files)
        assert len(client.search_for_instances(uid, limit=2)) == 2
        for metadata in (client.retrieve_study_metadata(uid), client.retrieve_series_metadata(uid, series)):
            assert set(values(metadata, INSTANCE)) == set(files)
        for whole in (client.retrieve_study(uid), client.retrieve_series(uid, series)):
            assert all(same(each, files[each.SOPInstanceUID]) for each in whole)
            assert len(whole) == len(files)
        instance, path = next(iter(files.items()))
        assert same(client.retrieve_instance(uid, series, instance), path)
        told = client.retrieve_instance_metadata(uid, series, instance)
        assert pydicom.Dataset.from_json(json.dumps(told)).PatientName == "Vermeer^Ada"
        frames = client.retrieve_instance_frames(uid, series, instance, [1])
        assert frames == [pydicom.dcmread(path).PixelData]

    await asked(world, VOS.login, ask)  # the study is in one case only
    await asked(world, VOS.login, ask, f"/cases/{case.case_id}")


@pytest.mark.proves("BEY-18", part="all cases: the worklist, searched")
async def test_a_search_over_all_cases_finds_what_the_worklist_shows(world: World, tmp_path: Path) -> None:
    for site, name in ((CENTRAL, "web-vos"), (NORTHGATE, "web-adeyemi")):
        study = small(name, "MS44")
        await send(world, site, study, tmp_path)
        await seen(world, (VOS if site is CENTRAL else ADEYEMI).login, study)
    for person in (VOS, ADEYEMI, HULL, LIND):
        cases = {
            f"/cases/{each.case_id}/studies/{each.study_instance_uid}": each.case_id
            for each in await world.worklist(person.login)
        }
        rows = await asked(world, person.login, lambda client: client.search_for_studies())
        assert set(values(rows, RETRIEVE_URL)) == set(cases)
        decisions: dict[str, Decision] = {}
        access = (await world.acting_as(person.login)).access
        for url, case_id in cases.items():
            decision = (await access.Check(CheckRequest(case_id=case_id, images=True))).decision
            decisions[url] = decision
            assert await asked(world, person.login, _sees(url)) == decision.images
        others = {row for row in await _all_places(world) if row not in cases}
        for url in others:
            assert not await asked(world, person.login, _sees(url))


def _sees(url: str) -> Callable[[DICOMwebClient], bool]:
    def ask(client: DICOMwebClient) -> bool:
        session: requests.Session = client._session
        answer = session.get(f"{client.base_url}{url}/series", timeout=20)
        assert answer.status_code in (200, 404)
        return bool(answer.status_code == 200)

    return ask


async def _all_places(world: World) -> list[str]:
    return [
        f"/cases/{case.case_id}/studies/{case.study_instance_uid}"
        for person in (VOS, ADEYEMI)
        for case in await world.worklist(person.login)
    ]


@pytest.mark.proves("BEY-18", part="all cases: keys")
async def test_keys_match_as_the_standard_says(world: World, tmp_path: Path) -> None:
    study = small("web-keys", "MS44")
    await send(world, CENTRAL, study, tmp_path)
    case = await seen(world, VOS.login, study)
    uid, day = str(study.study_instance_uid), case.study_date
    found: list[dict[str, str]] = [
        {"PatientName": "verMEER*"},
        {"PatientName": "*ada*"},
        {"PatientName": "Verm??r^Ada"},
        {"PatientID": "MS44-0001", "ModalitiesInStudy": "MR,CT"},
        {"StudyDescription": "ct*"},
        {"StudyInstanceUID": f"1.2.3\\{uid}"},
        {"StudyInstanceUID": f"1.2.3,{uid}"},
        {"StudyDate": day},
        {"StudyDate": f"{day}-"},
        {"StudyDate": f"19700101-{day}"},
    ]
    missed: list[dict[str, str]] = [
        {"PatientName": "Vermee"},
        {"PatientName": "O'Neil*"},
        {"PatientID": "MS44_0001"},
        {"PatientID": "%"},
        {"ModalitiesInStudy": "MR"},
        {"StudyDate": "-19700101"},
        {"StudyDescription": "' or true or '"},
    ]

    def ask(client: DICOMwebClient) -> None:
        for keys in found:
            rows = client.search_for_studies(search_filters=keys)
            assert uid in values(rows, STUDY), keys
        for keys in missed:
            assert client.search_for_studies(search_filters=keys) == [], keys
        every = client.search_for_studies()
        assert client.search_for_studies(limit=1, offset=1) == every[1:2]

    await asked(world, VOS.login, ask)


@pytest.mark.proves("BEY-18", part="priors below the case")
async def test_a_viewer_finds_and_opens_priors_of_the_patient_below_the_case(
    world: World, tmp_path: Path
) -> None:
    now, before = small("web-now", "MS44"), small("web-before", "MS44")
    for study in (before, now):
        await send(world, CENTRAL, study, tmp_path)
    case = await seen(world, VOS.login, now)
    await seen(world, VOS.login, before)
    uid, series = str(before.study_instance_uid), str(before.series_instance_uid)

    def ask(client: DICOMwebClient) -> None:
        rows = client.search_for_studies(search_filters={"PatientID": now.patient_id})
        assert {uid, str(now.study_instance_uid)} <= set(values(rows, STUDY))
        assert values(client.search_for_series(uid), SERIES) == [series]
        assert len(client.retrieve_series_metadata(uid, series)) == before.slices
        assert client.search_for_studies(search_filters={"PatientID": "another"}) == []

    await asked(world, VOS.login, ask, f"/cases/{case.case_id}")
    with pytest.raises(requests.HTTPError, match="404"):
        await asked(
            world, ADEYEMI.login, lambda client: client.search_for_series(uid), f"/cases/{case.case_id}"
        )


@pytest.mark.proves("A59", part="DICOMweb")
async def test_a_pre_read_changes_nothing_of_what_the_facility_is_answered(
    world: World, readers: None, outside: None, tmp_path: Path
) -> None:
    study = small("web-pre-read", "MS44")
    case = await arrived(world, study, tmp_path)
    uid, series = study.study_instance_uid, study.series_instance_uid
    below = f"/cases/{case.case_id}/studies"
    places = (
        "/studies?includefield=all",
        f"{below}?includefield=all",
        f"{below}/{uid}/series",
        f"{below}/{uid}/metadata",
        f"{below}/{uid}/series/{series}/instances",
        f"{below}/{uid}",
    )

    def ask(client: DICOMwebClient) -> list[tuple[int, dict[str, str], bytes]]:
        session: requests.Session = client._session
        told = []
        for place in places:
            answer = session.get(f"{client.base_url}{place}", timeout=20)
            headers = {name: value for name, value in answer.headers.items() if name.lower() != "date"}
            told.append((answer.status_code, headers, answer.content))
        return told

    before = await asked(world, MOOR.login, ask)
    assert {status for status, _, _ in before} == {200}
    await locks(VOS)(world, case.case_id)
    await completes(VOS, PRE_READ, "nodule")(world, case.case_id)
    await obtain(world, case, [MARSH], "READY_TO_READ, pre-read", "report pre-read of Dr Eva Vos “nodule”")
    assert await asked(world, MOOR.login, ask) == before
