"""The pages on the whole system: whoever is invited signs in and sees their cases, and only theirs."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from demo.cast import ADMIN, CENTRAL, HULL, OKAFOR, VOS, Person
from demo.reading import PRE_READ, completes, locks
from demo.world import World
from readroom import names
from tests.e2e.test_journey import seen, send, small
from tests.e2e.test_reading import arrived
from tests.wait import eventually
from tests.web.browser import Browser, Seen, browser
from web.routes import ROUTES, Needs
from wire.access.v1.identity_pb2 import InviteRequest

PASSWORD = "correct horse battery"
FOR_ADMINISTRATORS = {"/sessions"}


@asynccontextmanager
async def signed_in(world: World, login: str) -> AsyncIterator[Browser]:
    """Somebody who shows the code of an invitation and chooses a password."""
    readroom = await world.acting_as(ADMIN)
    user = await names.user(readroom, login)
    code = (await readroom.identities.Invite(InviteRequest(user_id=user.user_id))).code
    async with browser(world.endpoints.pages) as page:
        answer = await page.post("/welcome", code=code, password=PASSWORD, again=PASSWORD)
        assert (answer.status, answer.headers["Location"]) == (303, "/"), answer.words
        yield page


@pytest.mark.proves("WEB-8", part="lock display")
async def test_whoever_is_invited_signs_in_and_reads_their_worklist(world: World, tmp_path: Path) -> None:
    study = small("pages", "MS44")
    await send(world, CENTRAL, study, tmp_path)
    case = await seen(world, VOS.login, study)
    name = study.patient_name.partition("^")[0].upper()

    async with signed_in(world, VOS.login) as page:
        listed = await page.get("/")
        found = await _searched(page, study.patient_name.replace("^", " "))
        missed = await _searched(page, "nobody of this name")
        opened = await page.get(f"/cases/{case.case_id}")
        await locks(VOS)(world, case.case_id)

        async def locked() -> bool:
            return f"locked by {VOS.name}" in (await page.get("/")).text

        assert await eventually(locked)
        assert name in listed.words
        assert f"/cases/{case.case_id}" in found.text
        assert ("Nothing found" in missed.words, "0 cases" in missed.words) == (True, True)
        assert (opened.status, name in opened.words) == (200, True)
        assert f"locked by {VOS.name}" in (await page.get(f"/cases/{case.case_id}")).words

        assert (await page.post("/sign-out")).status == 303
        again = await page.post("/sign-in", login=VOS.login, password=PASSWORD)
        assert (again.status, again.headers["Location"]) == (303, "/")
        assert (await page.get("/")).status == 200


async def test_whoever_administers_is_told_how_to_begin_instead_of_an_empty_table(world: World) -> None:
    async with signed_in(world, ADMIN) as page:
        listed = await page.get("/")

    assert "readroom facility create" in listed.words
    assert "<table" not in listed.text


async def test_an_administrator_ends_sessions_of_others_and_nobody_else_does(world: World) -> None:
    async with signed_in(world, ADMIN) as admin, signed_in(world, VOS.login) as page:
        shown = await admin.get("/sessions")
        assert (VOS.name in shown.words, page.secret in shown.text) == (True, False)
        only = await admin.post("/sessions", login=VOS.login.upper())
        assert VOS.name in only.words
        assert only.text.count("End all of this person") == 1
        assert "Nobody of this login" in (await admin.post("/sessions", login="nobody")).words
        assert "/sessions" in (await admin.get("/profile")).text
        session_id = re.findall(r'name="session_id" value="([^"]+)"', only.text)[0]
        user_id = re.findall(r'name="user_id" value="([^"]+)"', only.text)[0]

        assert 'href="/sessions"' not in (await page.get("/profile")).text
        for path, form in (
            ("/sessions", {}),
            ("/sessions/end", {"session_id": session_id}),
            ("/sessions/end-all", {"user_id": user_id}),
        ):
            assert (await page.post(path, **form)).status == 403
        assert (await page.get("/")).status == 200

        assert (await admin.post("/sessions/end", session_id=session_id)).status == 303
        assert (await page.get("/")).headers["Location"] == "/sign-in"
        assert (await admin.post("/sessions/end", session_id=session_id)).status == 404
        again = await page.post("/sign-in", login=VOS.login, password=PASSWORD)
        assert again.status == 303
        assert (await admin.post("/sessions/end-all", user_id=user_id)).status == 303
        assert (await page.get("/")).headers["Location"] == "/sign-in"
        assert (await admin.get("/sessions")).status == 200


async def test_a_code_counts_once_and_a_wrong_one_says_nothing(world: World) -> None:
    readroom = await world.acting_as(ADMIN)
    user = await names.user(readroom, VOS.login)
    code = (await readroom.identities.Invite(InviteRequest(user_id=user.user_id))).code
    async with browser(world.endpoints.pages) as page:
        short = await page.post("/welcome", code=code, password="short", again="short")
        differ = await page.post("/welcome", code=code, password=PASSWORD, again="something else")
        wrong = await page.post("/welcome", code="A" * 64, password=PASSWORD, again=PASSWORD)
        right = await page.post("/welcome", code=code, password=PASSWORD, again=PASSWORD)
        other = await page.post("/welcome", code=code, password=PASSWORD + "!", again=PASSWORD + "!")

        code = (await readroom.identities.Invite(InviteRequest(user_id=user.user_id))).code
        async with browser(world.endpoints.pages) as elsewhere:
            chosen = await elsewhere.post(
                "/welcome", code=code, password=PASSWORD + "?", again=PASSWORD + "?"
            )
        ended = await page.get("/")

    assert (chosen.status, ended.status, ended.headers["Location"]) == (303, 303, "/sign-in")
    assert [each.status for each in (short, differ, wrong, right)] == [422, 422, 401, 303]
    assert other.status == 401
    assert "12 to 200 characters" in short.words


async def test_an_unknown_a_foreign_and_a_malformed_case_are_one_answer(world: World, tmp_path: Path) -> None:
    study = small("foreign", "MS44")
    await send(world, CENTRAL, study, tmp_path)
    case = await seen(world, VOS.login, study)

    async with signed_in(world, HULL.login) as page:
        answers = [
            await page.get(f"/cases/{each}") for each in (case.case_id, uuid4(), "no id", "..%2Fprofile")
        ] + [await page.get("/nowhere")]

    assert {each.status for each in answers} == {404}
    assert len({each.text for each in answers}) == 1


@pytest.mark.parametrize("person", [VOS, HULL, OKAFOR])
async def test_each_page_answers_each_role(world: World, person: Person) -> None:
    async with signed_in(world, person.login) as page:
        for route in ROUTES:
            if route.method == "GET" and route.needs is Needs.PERSON and "{" not in route.path:
                answer = await page.get(route.path)

                assert answer.status == (403 if route.path in FOR_ADMINISTRATORS else 200), route
                assert (person.name in answer.words) is (answer.status == 200)


@pytest.mark.proves("BEY-11", part="pages")
async def test_pages_of_the_facility_side_do_not_depend_on_a_pre_read(
    world: World, readers: None, tmp_path: Path
) -> None:
    """The same case before and after it is pre-read: nothing of the page differs but the time of asking."""
    case = await arrived(world, small("pages-pre-read", "MS44"), tmp_path)
    async with signed_in(world, OKAFOR.login) as page:

        async def pages() -> list[str]:
            paths = ("/", f"/cases/{case.case_id}", f"/cases/{case.case_id}/report")
            return [_canonical(await page.get(path)) for path in paths]

        before = await pages()
        assert case.case_id in before[0]
        await locks(VOS)(world, case.case_id)
        await completes(VOS, PRE_READ, "nodule of 4 mm, nothing else")(world, case.case_id)

        async with signed_in(world, VOS.login) as colleague:

            async def told() -> bool:
                return "pre-read" in (await colleague.get("/")).words

            assert await eventually(told)
            assert "nodule of 4 mm" in (await colleague.get(f"/cases/{case.case_id}")).words
        after = await pages()

    assert before == after


async def _searched(page: Browser, words: str) -> Seen:
    return await page.get((await page.post("/", search=words)).headers["Location"])


def _canonical(seen: Seen) -> str:
    """Without what each asking changes: times, and the secrets of forms and pages."""
    assert seen.status == 200
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d|\d+ (min|h|d)\b", "time", seen.text)
    return re.sub(r'(name="(token|page)" value)="[^"]*"', r"\1", text)
