"""Images in a browser, over all of the system: the way to the viewer's host, and what that host may do."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pydicom
import pytest
from aiohttp import ClientError, ClientResponse

from demo.cast import CENTRAL, ENDPOINT, HULL, VOS, Person
from demo.dicom_files import SyntheticCT
from demo.setting import create_user
from demo.world import World
from tests.e2e.test_journey import seen, send, small
from tests.e2e.test_web import signed_in
from tests.web.browser import Browser
from tests.web.viewer import Viewer
from web.routes import ROUTES
from web.viewing import BROWSER_COOKIE, COOKIE
from wire.access.v1.access_pb2 import LEVEL_REPORT, LEVEL_UNSPECIFIED, ROLE_RADIOLOGIST, Case

CUT_WITHIN_S = 5.0
ON_THE_WAY_S = 2.0
"""What buffers between the two ends hold, of which no process can take anything back."""
LOCUM = Person("locum", "Dr Kim Locum", ROLE_RADIOLOGIST, {ENDPOINT: LEVEL_REPORT})


@pytest.fixture
async def page(world: World) -> AsyncIterator[Browser]:
    async with signed_in(world, VOS.login) as page:
        yield page


@pytest.fixture
async def case(world: World, tmp_path: Path) -> Case:
    study = small("viewer", "MS44")
    await send(world, CENTRAL, study, tmp_path)
    return await seen(world, VOS.login, study)


@pytest.mark.proves("BEY-18", part="the viewer's host")
async def test_a_case_leads_to_its_images_on_a_host_of_their_own(
    world: World, page: Browser, case: Case, tmp_path: Path
) -> None:
    viewer = Viewer(page.http, world.endpoints.pages)
    opened = await viewer.opens(page, case.case_id)

    asked = parse_qs(urlsplit(opened.to).query)
    assert asked == {"StudyInstanceUIDs": [case.study_instance_uid], "case": [case.case_id]}
    cookie = opened.cookies[COOKIE]
    assert (cookie["secure"], cookie["httponly"], cookie["samesite"]) == (True, True, "Strict")
    assert (cookie["path"], cookie["domain"]) == ("/", "")
    assert page.secret not in viewer.cookies.values()

    study = f"/dicomweb/cases/{case.case_id}/studies/{case.study_instance_uid}"
    told = await viewer.get(f"{study}/metadata", Accept="application/dicom+json")
    rows = json.loads(told.body)
    assert (told.status, len(rows)) == (200, 3)
    for path in (tmp_path / "viewer").iterdir():
        sent = pydicom.dcmread(path)
        place = f"{study}/series/{sent.SeriesInstanceUID}/instances/{sent.SOPInstanceUID}"
        frame = await viewer.get(f"{place}/frames/1", Accept="application/octet-stream")
        assert (frame.status, frame.body) == (200, sent.PixelData)
    one = {"Accept": "application/octet-stream"}
    same = await viewer.get(f"{place}/frames/1", **one, **{"If-None-Match": frame.headers["ETag"]})
    part = await viewer.get(f"{place}/frames/1", **one, Range="bytes=2-5")
    packed = await viewer.get(f"{study}/metadata", **{"Accept-Encoding": "gzip"})
    assert (same.status, same.body) == (304, b"")
    assert (part.status, part.body) == (206, frame.body[2:6])
    assert part.headers["Content-Range"] == f"bytes 2-5/{len(frame.body)}"
    assert (packed.headers["Content-Encoding"], json.loads(packed.body)) == ("gzip", rows)
    for answer in (frame, told):
        assert answer.headers["Cache-Control"] == "private, no-cache"
        assert (
            answer.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'; sandbox"
        )
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"

    assert (await viewer.get(f"/session/{case.case_id}")).status == 204
    again = await viewer.opens(page, case.case_id)
    assert again.cookies.keys() == set(), "two tabs have one cookie"


@pytest.mark.proves("BEY-18", part="the viewer's host, attacked")
async def test_nobody_is_led_into_the_session_of_another(world: World, page: Browser, case: Case) -> None:
    """Somebody sends a link with their own code to a person, who would take what they see for their own."""
    attacker, victim = Viewer(page.http, world.endpoints.pages), Viewer(page.http, world.endpoints.pages)
    asks = await attacker.get(f"/open/{case.case_id}")
    back = await page.get(asks.to.removeprefix(attacker.pages))
    link = back.headers["Location"].removeprefix(attacker.origin)
    await victim.get(f"/open/{case.case_id}")  # a browser that knows the host already

    refused = await victim.get(link)
    assert (refused.status, refused.to) == (303, f"{victim.pages}/cases/{case.case_id}/images?again=1")
    assert COOKIE not in victim.cookies
    assert (await attacker.get(link)).to.endswith("?again=1"), "it was spent"
    told = await page.get(f"/cases/{case.case_id}/images?again=1")
    assert "began in another browser" in told.words

    # A page that sends a person for a code, with its own digest, learns nothing: the browser gets the code.
    digest = asks.to.partition("browser=")[2]
    back = await page.get(f"/cases/{case.case_id}/images?browser={digest}")
    assert (await victim.get(back.headers["Location"].removeprefix(victim.origin))).to.endswith("?again=1")
    for bad in ("", "0" * 63, "g" * 64, "%00"):
        back = await page.get(f"/cases/{case.case_id}/images?browser={bad}")
        assert back.headers["Location"] == f"{victim.origin}/open/{case.case_id}"
    for path in (
        f"/open/{case.case_id}?code={'A' * 43}",
        f"/open/{case.case_id}?code=%00",
        f"/open/{uuid4()}?code=",
    ):
        assert (await attacker.get(path)).to.endswith("?again=1")


@pytest.mark.proves("BEY-18", part="the viewer's host, attacked")
async def test_a_viewer_reads_images_and_can_do_nothing_else(world: World, page: Browser, case: Case) -> None:
    """Position: a script within the viewer's page. It has the cookie of its host, and sends what it likes."""
    viewer = Viewer(page.http, world.endpoints.pages)
    await viewer.opens(page, case.case_id)
    studies = f"/dicomweb/cases/{case.case_id}/studies"

    for route in ROUTES:  # no page is on its host, and none obeys its cookie
        path = route.path.replace("{case_id}", case.case_id)
        assert (await viewer.get(path, route.method)).status in (404, 405), route
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"):
        assert (await viewer.get(studies, method)).status == 405
    for path in (
        "/dicomweb/studies",
        "/dicomweb/cases",
        f"/dicomweb/cases/{case.case_id}",
        f"/dicomweb/cases/{case.case_id}/../../studies",
        f"/dicomweb/cases/{case.case_id}/%2e%2e/%2e%2e/studies",
        f"/dicomweb/cases/{case.case_id}//studies",
        f"/dicomweb/cases/{case.case_id}/studies/%0d%0aX",
        f"/dicomweb//cases/{case.case_id}/studies",
        f"/DICOMWEB/cases/{case.case_id}/studies",
        "/static/readroom.css",
    ):
        assert (await viewer.get(path)).status == 404, path

    for site in ("same-site", "cross-site"):  # the pages' host, and anybody's
        assert (await viewer.get(studies, **{"Sec-Fetch-Site": site})).status == 403
        assert (await viewer.get("/session", "POST", **{"Sec-Fetch-Site": site})).status == 403
    as_pages = Viewer(page.http, world.endpoints.pages, {"__Host-rr": page.secret, COOKIE: page.secret})
    nobody = Viewer(page.http, world.endpoints.pages, {BROWSER_COOKIE: viewer.cookies[BROWSER_COOKIE]})
    for other in (as_pages, nobody):
        assert (await other.get(studies)).status == 401
        assert (await other.get("/session", "POST")).status == 401
    pages = Browser(page.http, page.origin, viewer.cookies[COOKIE])
    assert (await pages.get("/")).headers["Location"] == "/sign-in"

    assert (await viewer.get(studies)).status == 200
    assert (await viewer.get("/session", "POST")).status == 204


@pytest.mark.proves("A4", part="through the web")
async def test_a_case_of_others_and_none_are_one_answer(world: World, case: Case, tmp_path: Path) -> None:
    own = small("viewer-undistributed", "nobody's")
    await send(world, CENTRAL, own, tmp_path)
    async with signed_in(world, HULL.login) as page:
        viewer = Viewer(page.http, world.endpoints.pages)
        await viewer.opens(page, (await seen(world, HULL.login, own)).case_id)
        answers = [
            (await page.get(f"/cases/{each}/images")).text for each in (case.case_id, uuid4(), "no-id")
        ]
        told = [
            (told.status, told.body)
            for place in ("/session/{}", "/dicomweb/cases/{}/studies")
            for each in (case.case_id, uuid4())
            for told in [await viewer.get(place.format(each))]
        ]
    assert len(set(answers)) == 1
    assert {status for status, _ in told} == {404}
    assert told[0] == told[1]
    assert told[2] == told[3]


@pytest.mark.proves("A69", part="through the web")
async def test_images_stop_when_sight_ends(world: World, tmp_path: Path) -> None:
    study = SyntheticCT(slices=48, name="viewer-large")
    await create_user(world, LOCUM)
    await send(world, CENTRAL, study, tmp_path)
    case = await seen(world, LOCUM.login, study)
    async with signed_in(world, LOCUM.login) as page:
        viewer = Viewer(page.http, world.endpoints.pages)
        await viewer.opens(page, case.case_id)
        path = f"/dicomweb/cases/{case.case_id}/studies/{case.study_instance_uid}"
        async with await viewer.answer(path) as answer:
            assert answer.status == 200
            assert (answer.content_length or 0) > 24 << 20
            await answer.content.readexactly(1 << 20)
            await world.set_privilege(LOCUM.login, ENDPOINT, LEVEL_UNSPECIFIED)

            with pytest.raises(ClientError):
                await _read_slowly(answer)
        assert (await viewer.get(path)).status == 404
        assert (await viewer.get(f"/session/{case.case_id}")).status == 404


async def _read_slowly(answer: ClientResponse) -> None:
    """As over a line of 25 Mbit/s, for as long as sight may last, and what lies on the way then."""
    for _ in range(int((CUT_WITHIN_S + ON_THE_WAY_S) / 0.02)):
        await answer.content.readexactly(64 << 10)
        await asyncio.sleep(0.02)
