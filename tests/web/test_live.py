"""A list that is open: told what changes of it, as far as its page shows that, until its session ends."""

import asyncio
import csv
import io
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from aiohttp import ClientResponse

from kernel.events import ReadingChanged
from local.embedded import EmbeddedServers
from local.pki import Pki
from tests.databases import Databases
from tests.reporting.system import ALL, a_case, a_user, give
from tests.web.browser import COOKIE, SAME_ORIGIN, Browser
from tests.web.reading import Reading, reading
from web import live
from web.rendering import Rendering
from wire.access.v1 import access_pb2
from wire.reporting.v1.reporting_pb2 import ActivateReadTypeRequest, DescribeReadingRequest

pytestmark = pytest.mark.asyncio(loop_scope="module")

SOON_S = 20.0
PRE_READ = access_pb2.READ_TYPE_PRE_READ


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ward(
    servers: EmbeddedServers, clones: Databases, pki: Pki, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Reading]:
    async with reading(servers, clones.make, pki, tmp_path_factory.mktemp("web")) as made:
        yield made


@dataclass
class Stream:
    """What a page that is open is told."""

    answer: ClientResponse
    lines: list[dict[str, Any]] = field(default_factory=list)

    async def line(self) -> dict[str, Any]:
        async with asyncio.timeout(SOON_S):
            text = await self.answer.content.readline()
        assert text, "the stream ended without a word"
        said: dict[str, Any] = json.loads(text)
        self.lines.append(said)
        return said

    async def news(self) -> dict[str, Any]:
        """The next line that is no beat."""
        async with asyncio.timeout(SOON_S):
            while (said := await self.line()) == {"beat": True}:
                pass
        return said

    async def until_end(self) -> str:
        while "end" not in (said := await self.line()):
            pass
        return str(said["end"])


@asynccontextmanager
async def followed(page: Browser, held: str = "", view: str = "") -> AsyncIterator[Stream]:
    form = {"token": page.token, "held": held, "view": view, "zone": "UTC"}
    async with page.http.post(
        f"{page.origin}/live", data=form, headers={**SAME_ORIGIN, "Cookie": f"{COOKIE}={page.secret}"}
    ) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["Cache-Control"] == "no-store"
        yield Stream(answer)


async def act(ward: Reading, verb: str, **form: str) -> None:
    """Dr Vos does something, and access hears what reporting says of it."""
    assert (await ward.act("vos", verb, **form)).status == 303
    access, request = ward.system.access, DescribeReadingRequest(case_id=ward.case_id)
    access.reporting.readings[ward.case_id] = read = await ward.system.for_access().DescribeReading(request)
    await access.say(ReadingChanged(UUID(ward.case_id), read.version))


async def may_pre_read(ward: Reading) -> None:
    """Dr Vos reads before others do, and the facility knows nothing of it."""
    access, north = ward.system.access, ward.facility_id
    await a_user(access, "olaf", access_pb2.ROLE_OPERATOR, north, access_pb2.LEVEL_UNSPECIFIED)
    admin = access_pb2.ROLE_ADMINISTRATOR
    await a_user(access, "boss", admin, north, access_pb2.LEVEL_VIEW, "facility.admin")
    for login, where in (("olaf", ""), ("boss", north)):
        request = ActivateReadTypeRequest(read_type=PRE_READ, facility_id=where, active=True)
        await ward.system.acting(login).ActivateReadType(request)
    await give(access, ward.users["vos"], north, access_pb2.LEVEL_REPORT, ALL)


def shown(markup: str) -> str:
    """What the script of this page says that it shows."""
    return ",".join(map(":".join, re.findall(r'data-case="([^"]+)" data-is="([^"]+)"', markup)))


def texts(tree: Any) -> str:
    return tree if isinstance(tree, str) else " ".join(texts(each) for each in tree[2:])


async def test_what_the_page_shows_already_is_not_told_and_what_comes_is(ward: Reading) -> None:
    page = await ward.at("lind")
    listed = await page.get("/")
    async with followed(page, shown(listed.text)) as stream:
        assert await stream.line() == {"beat": True}
        case_id = await a_case(ward.system.access, ward.facility_id)
        said = await stream.news()

    assert said["order"][0] == case_id
    assert [*said["parts"]] == [case_id]
    [tag, attributes, *_] = said["parts"][case_id]
    assert (tag, attributes["data-case"]) == ("tr", case_id)
    again = await page.get("/")
    assert f'data-case="{case_id}" data-is="{attributes["data-is"]}"' in again.text


async def test_a_row_changes_where_it_stands_as_its_page_would_show_it(ward: Reading) -> None:
    await ward.another_case()
    page = await ward.at("lind")
    async with followed(page, shown((await page.get("/")).text)) as stream:
        assert await stream.line() == {"beat": True}
        await act(ward, "lock")
        said = await stream.news()

    assert [*said["parts"]] == [ward.case_id]
    assert "locked by Dr Vos" in texts(said["parts"][ward.case_id])
    rows = await page.post("/rows", held="", zone="UTC")
    assert rows.json["parts"][ward.case_id] == said["parts"][ward.case_id]  # type: ignore[index]


@pytest.mark.proves("A69", part="rows of a page that is open")
async def test_a_case_that_is_hidden_leaves_the_page_and_nothing_of_it_is_told(ward: Reading) -> None:
    await ward.another_case()
    page, moore = await ward.at("moore"), ward.users["moore"]
    listed = await page.get("/")
    assert ward.case_id in listed.text
    try:
        async with followed(page, shown(listed.text)) as stream:
            await stream.line()
            await give(ward.system.access, moore, ward.facility_id, access_pb2.LEVEL_UNSPECIFIED)
            said = await stream.news()
            while ward.case_id not in said.get("gone", ()):
                said = await stream.news()
        rows = await page.post("/rows", held=shown(listed.text), zone="UTC")
    finally:
        await give(ward.system.access, moore, ward.facility_id, access_pb2.LEVEL_DRAFT)

    assert "parts" not in said
    assert (said["order"], ward.case_id in rows.json["gone"], "parts" in rows.json) == ([], True, False)


@pytest.mark.proves("BEY-11", part="event streams")
async def test_the_streams_of_the_facility_do_not_depend_on_a_pre_read(ward: Reading) -> None:
    """A case is pre-read, then something happens that the facility may know: it hears of that alone."""
    await may_pre_read(ward)
    await ward.another_case()
    okafor, lind = await ward.at("okafor"), await ward.at("lind")
    held = shown((await okafor.get("/")).text)
    async with (
        followed(okafor, held) as stream,
        followed(lind, shown((await lind.get("/")).text)) as colleague,
    ):
        assert (await stream.line(), await colleague.line()) == ({"beat": True}, {"beat": True})
        await act(ward, "lock")
        await act(ward, "draft", text="nodule of 4 mm")
        locked = await stream.news()
        assert "locked by Dr Vos" in texts(locked["parts"][ward.case_id])  # a facility sees locks
        await act(ward, "complete", text="nodule of 4 mm", read_type=str(PRE_READ))
        while "pre-read" not in json.dumps((await colleague.news()).get("parts", {})):
            pass
        unlocked = await stream.news()
        latest = await a_case(ward.system.access, ward.facility_id)
        after = await stream.news()

    rows = dict(each.split(":") for each in held.split(","))
    [row] = unlocked["parts"].values()
    assert row[1]["data-is"] == rows[ward.case_id], "the row looks as it did before the pre-read"
    assert [*after["parts"]] == [latest]
    assert not any(word in json.dumps(stream.lines) for word in ("pre-read", "nodule", "draft"))


async def test_a_stream_tells_that_it_lives_whatever_happens_that_shows_nowhere(ward: Reading) -> None:
    """Whoever reads renews their lock again and again: no row shows until when it counts."""
    await ward.another_case()
    await act(ward, "lock")
    page, access = await ward.at("lind"), ward.system.access

    async def renew() -> None:
        for _ in range(40):
            read = access.reporting.readings[ward.case_id]
            read.version += 1
            for side in (read.group, read.facility):
                side.lock.ends_at.seconds += 1
            await access.say(ReadingChanged(UUID(ward.case_id), read.version))
            await asyncio.sleep(0.5)

    async with followed(page, shown((await page.get("/")).text)) as stream:
        await stream.line()
        renewing = asyncio.create_task(renew())
        try:
            async with asyncio.timeout(4 * live.BEAT_S):
                for _ in range(2):
                    while await stream.line() != {"beat": True}:  # the lock itself shows
                        pass
        finally:
            renewing.cancel()


@pytest.mark.parametrize(("act", "why"), [("lock", "locked"), ("end", "ended")])
async def test_a_stream_ends_when_its_session_does(ward: Reading, act: str, why: str) -> None:
    page = await ward.at("vos", act)
    async with followed(page) as stream:
        await stream.line()
        began = asyncio.get_running_loop().time()
        if act == "lock":
            await page.post("/lock")
        else:
            session = await ward.sessions.find(page.secret)
            assert session
            await ward.sessions.end(session, session.session_id)

        assert await stream.until_end() == why
        assert asyncio.get_running_loop().time() - began < 5
        assert not await stream.answer.content.read()
    refused = await page.post("/live", held="")
    assert (refused.status, "data-case" in refused.text) == (401, False)


async def test_a_session_follows_few_lists_and_another_is_not_kept_from_it(ward: Reading) -> None:
    page, other = await ward.at("lind", "many"), await ward.at("chief")
    async with AsyncExitStack() as streams:
        for _ in range(live.MOST_OF_A_SESSION):
            await (await streams.enter_async_context(followed(page))).line()
        refused = await page.post("/live", held="")
        assert (refused.status, refused.headers["Retry-After"]) == (429, "60")
        async with followed(other) as stream:
            await stream.line()


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"view": "01890000-0000-7000-8000-000000000000"}, 404),
        ({"view": "x"}, 404),
        ({"held": "x," * 10_000}, 200),
        ({"held": "01890000-0000-7000-8000-000000000000:0"}, 200),
        ({"page": "x" * 5000}, 422),
        ({"zone": "../../etc/passwd\u202e"}, 200),
    ],
)
async def test_whatever_a_script_sends_is_answered(ward: Reading, form: dict[str, str], status: int) -> None:
    page = await ward.at("lind")
    assert (await page.post("/rows", SAME_ORIGIN, **form)).status == status


async def test_a_page_names_no_more_rows_than_it_builds() -> None:
    """Access is asked about each row that is named and not on the page any more."""
    named = [f"{uuid4()}:0" for _ in range(10 * live.ROWS)]
    held = live.held_of(",".join(named))
    assert [*map(":".join, held.items())] == named[:200]


async def test_what_is_chosen_leads_from_one_to_the_next(ward: Reading) -> None:
    page, chosen = await ward.at("lind"), [ward.case_id, await a_case(ward.system.access, ward.facility_id)]
    sent = await page.post("/read", cases=",".join(chosen))
    assert (sent.status, sent.headers["Location"]) == (303, f"/cases/{chosen[0]}")
    assert "1 of 2" in (await page.get(sent.headers["Location"])).words
    following = await page.get(f"/cases/{chosen[0]}/next")
    assert following.headers["Location"] == f"/cases/{chosen[1]}/report"
    for none in ("", ",", "x", "../profile"):
        assert (await page.post("/read", cases=none)).status == 422


async def test_a_case_leads_to_the_next_of_the_pages_that_were_shown(ward: Reading) -> None:
    page = await ward.at("lind")
    view = (await page.post("/", search="Doe")).headers["Location"]
    shown_ids = [str(uuid4()), ward.case_id, str(uuid4())]
    told = await page.post("/shown", view=view.partition("=")[2], cases=",".join(shown_ids))
    case = await page.get(f"/cases/{ward.case_id}")

    assert (told.status, "2 of 3" in case.words, f'href="{view}"' in case.text) == (200, True, True)
    unseen = await page.get(f"/cases/{shown_ids[0]}")
    assert unseen.status == 404, "naming a case shows nothing of it"
    assert (await page.post("/shown", view="x", cases=ward.case_id)).status == 404


async def test_a_list_is_saved_as_its_person_sees_it(ward: Reading) -> None:
    page, okafor = await ward.at("lind"), await ward.at("okafor")
    found = (await page.post("/", search="Doe")).headers["Location"].partition("=")[2]
    missed = (await page.post("/", search="nobody of this name")).headers["Location"].partition("=")[2]
    saved, empty = [await page.post("/worklist.csv", view=each) for each in (found, missed)]
    rows = list(csv.DictReader(io.StringIO(saved.text.removeprefix("\ufeff"))))

    assert {"Doe^Jane"} == {each["patient_name"] for each in rows}
    assert saved.headers["Content-Disposition"] == 'attachment; filename="worklist.csv"'
    assert (saved.headers["Cache-Control"], empty.text.count("\n")) == ("no-store", 1)
    assert (await okafor.post("/worklist.csv", view=found)).status == 404, "a view of another session"
    assert (await okafor.post("/worklist.csv", view="")).status == 200


async def test_a_count_that_a_page_did_not_wait_for_is_asked_by_itself(ward: Reading) -> None:
    page = await ward.at("lind")
    missed = (await page.post("/", search="nobody of this name")).headers["Location"].partition("=")[2]
    assert (await page.post("/count", view=missed)).json == {"count": "0 cases"}
    all_of_them = (await page.post("/count", view="")).json["count"]
    assert "case" in all_of_them
    assert all_of_them in (await page.get("/")).words


HOSTILE = [
    '<img src=x onerror="alert(1)">',
    "</tr><script>alert(1)</script>",
    "\u202egnp.exe",
    "&lt;b&gt;" * 9000,
]


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_name_is_text_in_a_tree(name: str) -> None:
    case = access_pb2.Case(case_id="1", patient_name=name, study_description=name, facility_name=name)
    piece = live.row_of(case, datetime(2026, 11, 1, tzinfo=UTC), "UTC")
    tree = Rendering().part(piece.template, piece.values)

    def tags(each: Any) -> set[str]:
        return set() if isinstance(each, str) else {each[0]}.union(*map(tags, each[2:]))

    assert tags(tree) <= {"tr", "td", "th", "a", "b", "bdi", "span", "svg", "title", "path", "time", "button"}
    assert len(json.dumps(tree)) < 10_000
    assert "\u202e" not in texts(tree)
