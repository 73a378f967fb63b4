"""OHIF in Chromium: the pixels that it draws are looked at, and nothing in it breaks the policy of its host.

`make viewer` fetches OHIF, `make debian` installs Chromium.
"""

import asyncio
import os
import re
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from playwright.async_api import BrowserContext, Page, async_playwright, expect
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from demo.cast import ADMIN, CENTRAL, MODALITY, VOS
from demo.dicom_files import SyntheticCT, sample, uid, written_as
from demo.modality import PynetdicomModality
from demo.visitor import launched
from demo.world import World
from readroom import names
from tests.chromium import NEEDS_CHROMIUM, tell_errors_of_all
from tests.wait import eventually
from web.rendering import ROOT
from wire.access.v1.access_pb2 import Case
from wire.access.v1.identity_pb2 import InviteRequest

PASSWORD = "correct horse battery"
WITHIN_S = 60.0
SAID_WITHIN_MS = 5000
ENDED = re.compile("status of 401|got status 401|ERR_CONTENT_LENGTH_MISMATCH|network error")
"""What Chromium and OHIF say of images that a session which is locked or ends gets no more, or not whole."""

pytestmark = [
    pytest.mark.drill,
    NEEDS_CHROMIUM,
    pytest.mark.skipif(
        not (ROOT / "viewer/index.html").exists() and "READROOM_TESTS_NEED_PEERS" not in os.environ,
        reason="the viewer is not here: `make viewer` fetches it",
    ),
]

KINDS = {
    "MR": "MR",
    "US": "ultrasound, JPEG baseline, 30 frames",
    "JPEG 2000": "ultrasound, JPEG 2000 lossless",
    "SR": "structured report",
}
"""Real objects of pydicom, each as a study of its own."""

_LOOK = """canvas => {
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let low = 255, high = 0, number = 2166136261;
    for (let at = 0; at < data.length; at += 4) {
        const grey = (data[at] + data[at + 1] + data[at + 2]) / 3;
        low = Math.min(low, grey);
        high = Math.max(high, grey);
        number = Math.imul(number ^ (grey * 3), 16777619) >>> 0;
    }
    return [low, high, number];
}"""

_LOOK_AT_PICTURE = """async picture => {
    const image = new Image();
    image.src = picture;
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.width, image.height];
    canvas.getContext("2d").drawImage(image, 0, 0);
    return (LOOK)(canvas);
}""".replace("LOOK", _LOOK)

_SEEN_BEFORE = """
if (location.hostname.startsWith("viewer.")) {
    localStorage.setItem("investigationalUseDialog", JSON.stringify({expiryDate: "2099-01-01T00:00:00Z"}));
    localStorage.setItem("shownTours", JSON.stringify(["basicViewerTour"]));
}
"""
"""What OHIF keeps of a person who has confirmed what it says of itself, and has taken its tour."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What is shown: its darkest and its lightest point, and a number that differs where images do."""

    low: float
    high: float
    number: int

    @property
    def is_image(self) -> bool:
        return self.high - self.low > 40


async def drawn(page: Page) -> Drawn | None:
    canvas = page.locator("canvas.cornerstone-canvas").first
    if not await canvas.count() or not await canvas.evaluate("canvas => canvas.width"):
        return None
    return Drawn(*await canvas.evaluate(_LOOK))


async def picture(browser: BrowserContext, png: bytes) -> Drawn:
    """What is on a picture of a part of a page."""
    blank = await browser.new_page()
    told = await blank.evaluate(_LOOK_AT_PICTURE, f"data:image/png;base64,{b64encode(png).decode()}")
    await blank.close()
    return Drawn(*told)


async def image(page: Page, other_than: Drawn | None = None) -> Drawn:
    """What is drawn, once it is an image, and another one than that."""

    async def there() -> Drawn | None:
        now = await drawn(page)
        return now if now and now.is_image and now != other_than else None

    try:
        found = await eventually(there, within=WITHIN_S)
    finally:
        await _picture(page)
    assert found
    return found


async def _picture(page: Page) -> None:
    if folder := os.environ.get("READROOM_PICTURES"):
        await page.screenshot(path=f"{folder}/viewer-{time.monotonic_ns()}.png")


def _pdf(folder: Path) -> Path:
    """A page with a word, as a modality encapsulates it."""
    content = b"BT /F1 96 Tf 60 400 Td (Readroom) Tj ET"
    parts = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%b\nendstream" % (len(content), content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    document = b"%PDF-1.4\n"
    places = []
    for number, part in enumerate(parts, start=1):
        places.append(len(document))
        document += b"%d 0 obj%b endobj\n" % (number, part)
    table = len(document)
    document += b"xref\n0 6\n0000000000 65535 f \n" + b"".join(
        b"%010d 00000 n \n" % place for place in places
    )
    document += b"trailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % table
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = EncapsulatedPDFStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = uid("viewer", "PDF", "instance")
    dataset = FileDataset("", {}, preamble=bytes(128), file_meta=meta)
    for keyword, value in {
        **_identity("PDF"),
        "SOPClassUID": EncapsulatedPDFStorage,
        "Modality": "DOC",
        "StudyDate": "20260302",
        "StudyTime": "091500",
        "SeriesNumber": "1",
        "InstanceNumber": "1",
        "DocumentTitle": "A letter",
        "MIMETypeOfEncapsulatedDocument": "application/pdf",
        "EncapsulatedDocument": document + bytes(len(document) % 2),
    }.items():
        setattr(dataset, keyword, value)
    folder.mkdir(parents=True, exist_ok=True)
    dataset.save_as(folder / "letter.dcm", enforce_file_format=True)
    return folder / "letter.dcm"


def _identity(kind: str) -> dict[str, str]:
    return {
        "PatientName": f"Viewer^{kind}",
        "PatientID": f"VIEWER-{kind}",
        "InstitutionName": "MS44",
        "StudyInstanceUID": uid("viewer", kind, "study"),
        "SeriesInstanceUID": uid("viewer", kind, "series"),
        "SOPInstanceUID": uid("viewer", kind, "instance"),
    }


async def _received(world: World, paths: list[Path]) -> Case:
    await asyncio.to_thread(
        PynetdicomModality(MODALITY).send, paths, world.gateways[CENTRAL.name].called, lambda: None
    )
    study = str(pydicom.dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID)

    async def listed() -> Case | None:
        case = await world.case(VOS.login, study)
        return case if case and case.instance_count == len(paths) else None

    case = await eventually(listed, within=WITHIN_S)
    assert case
    return case


@pytest.fixture(scope="module")
def cases(scene: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """One case of each kind; "CT" has three slices, and "large" takes a while to come."""
    folder = tmp_path_factory.mktemp("viewer")

    async def send() -> dict[str, Case]:
        async with AsyncExitStack() as resources:
            world = scene.elsewhere(resources)
            files = {
                kind: [written_as(sample(name).path, folder / f"{kind}.dcm", **_identity(kind))]
                for kind, name in KINDS.items()
            }
            files["PDF"] = [_pdf(folder / "pdf")]
            for name, slices, size in (("CT", 3, 256), ("large", 60, 512)):
                study = SyntheticCT(slices, size, f"viewer-{name}", f"Viewer^{name}", f"VIEWER-{name}")
                files[name] = study.write(folder / name)
            return {kind: await _received(world, paths) for kind, paths in files.items()}

    return asyncio.run(send())


@pytest.fixture
async def browser(world: World) -> AsyncIterator[BrowserContext]:
    """A browser in which Eva Vos is signed in; a test fails where a console tells of an error."""
    errors: list[str] = []
    readroom = await world.acting_as(ADMIN)
    user = await names.user(readroom, VOS.login)
    code = (await readroom.identities.Invite(InviteRequest(user_id=user.user_id))).code
    async with async_playwright() as playwright:
        chromium = await launched(playwright)
        context = await chromium.new_context(viewport={"width": 1400, "height": 900})
        await context.add_init_script(_SEEN_BEFORE)
        await tell_errors_of_all(context, errors)
        page = await context.new_page()
        await page.goto(f"{world.endpoints.pages}/welcome#{code}")
        await page.locator("input[name=password]").fill(PASSWORD)
        await page.locator("input[name=again]").fill(PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page).to_have_title("Worklist · Readroom")
        yield context
        await context.close()
        await chromium.close()
    assert [] == [each for each in errors if not ENDED.search(each)]


async def opened(world: World, browser: BrowserContext, case: Case) -> Page:
    """Opens the images from the page of the case, as a person does."""
    page = await browser.new_page()
    await page.goto(f"{world.endpoints.pages}/cases/{case.case_id}")
    async with browser.expect_page() as coming:
        await page.get_by_role("link", name="Images", exact=True).click()
    viewer = await coming.value
    await page.close()
    await viewer.wait_for_url("**/viewer?**")
    return viewer


@pytest.mark.proves("BEY-18", part="a stock OHIF draws the images")
async def test_images_are_drawn_windowed_scrolled_and_measured(
    world: World, browser: BrowserContext, cases: dict[str, Case]
) -> None:
    page = await opened(world, browser, cases["CT"])
    first = await image(page)
    canvas = page.locator("canvas.cornerstone-canvas").first
    box = await canvas.bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    async def dragged(to_x: float, to_y: float) -> None:
        await page.mouse.move(x, y)
        await page.mouse.down()
        await page.mouse.move(to_x, to_y, steps=5)
        await page.mouse.up()

    await page.mouse.move(x, y)
    await page.mouse.wheel(0, 100)
    second = await image(page, other_than=first)
    await dragged(x + 150, y + 80)  # brightness and contrast
    await image(page, other_than=second)

    await page.locator("[data-cy='MeasurementTools-split-button-primary']").click()
    await dragged(x + 120, y)
    await expect(page.locator("svg.svg-layer text").first).to_contain_text("mm", timeout=WITHIN_S * 1000)

    # There is no place for measurements yet: nothing offers to save them, and leaving asks.
    await page.locator("[data-cy=panelMeasurement-btn], [data-cy=trackedMeasurements-btn]").first.click()
    await expect(page.get_by_text("Delete", exact=True)).to_be_visible(timeout=WITHIN_S * 1000)
    await _picture(page)
    for saves in ("Create SR", "CSV"):
        await expect(page.get_by_text(saves, exact=True)).to_be_hidden()
    assert await page.evaluate("!dispatchEvent(new Event('beforeunload', {cancelable: true}))")


@pytest.mark.proves("BEY-18", part="a stock OHIF draws the images")
@pytest.mark.parametrize("kind", ["MR", "US", "JPEG 2000"])
async def test_each_kind_is_drawn(
    world: World, browser: BrowserContext, cases: dict[str, Case], kind: str
) -> None:
    page = await opened(world, browser, cases[kind])
    first = await image(page)
    if kind == "US":  # thirty frames of one instance
        await page.locator("canvas.cornerstone-canvas").first.hover()
        await page.mouse.wheel(0, 100)
        await image(page, other_than=first)


@pytest.mark.proves("BEY-18", part="a stock OHIF shows reports and documents")
async def test_a_structured_report_and_a_document_are_shown(
    world: World, browser: BrowserContext, cases: dict[str, Case]
) -> None:
    page = await opened(world, browser, cases["SR"])
    await expect(page.get_by_text("Document Title").first).to_be_visible(timeout=WITHIN_S * 1000)
    await _picture(page)

    page = await opened(world, browser, cases["PDF"])
    document = page.locator("object[type='application/pdf']")
    await expect(document).to_have_attribute("data", re.compile("^blob:"), timeout=WITHIN_S * 1000)

    async def written() -> bool:
        seen = await picture(browser, await document.screenshot())
        return seen.low < 20 and seen.high > 250  # black on white

    await eventually(written, within=WITHIN_S)
    await _picture(page)


@pytest.mark.proves("BEY-18", part="two cases in two tabs")
async def test_two_tabs_show_each_its_own_case(
    world: World, browser: BrowserContext, cases: dict[str, Case]
) -> None:
    pages = [await opened(world, browser, cases[kind]) for kind in ("CT", "US")]
    for page, kind in zip(pages, ("CT", "US"), strict=True):
        await image(page)
        assert cases[kind].case_id in page.url
        assert await page.title() == "OHIF Viewer"
        asked = await page.evaluate("performance.getEntriesByType('resource').map(each => each.name)")
        roots = {each.split("/")[5] for each in asked if "/dicomweb/cases/" in each}
        assert roots == {cases[kind].case_id}


@pytest.mark.proves("A69", part="the viewer says so")
async def test_a_session_that_is_locked_or_ends_is_said_in_the_viewer_within_5_s(
    world: World, browser: BrowserContext, cases: dict[str, Case]
) -> None:
    pages = browser.pages[0]
    page = await opened(world, browser, cases["large"])
    await image(page)  # while the others load
    await pages.get_by_role("button", name="Lock", exact=True).click()
    await expect(page.get_by_text("Your session is locked")).to_be_visible(timeout=SAID_WITHIN_MS)
    assert not await page.locator("canvas.cornerstone-canvas").first.is_visible()

    await pages.locator("input[name=password]").fill(PASSWORD)
    await pages.keyboard.press("Enter")
    await expect(page.get_by_text("Your session is locked")).to_be_hidden(timeout=SAID_WITHIN_MS * 2)
    await image(page)

    await pages.get_by_role("button", name="Sign out", exact=True).click()
    await expect(page.get_by_text("Your session has ended")).to_be_visible(timeout=SAID_WITHIN_MS)
    assert await page.locator("canvas").count() == 0, "nothing of the images is left"
    await expect(page.get_by_role("link", name="Sign in")).to_have_attribute(
        "href", f"{world.endpoints.pages}/"
    )
