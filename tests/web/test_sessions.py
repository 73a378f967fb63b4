"""Login sessions: what a cookie proves, when it stops, and what an attacker with an old one gets."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest

from tests.web.browser import COOKIE, SAME_ORIGIN, browser
from tests.web.conftest import PASSWORD, Web
from web.session import LASTS, RESOLVED_EVERY


async def test_what_a_browser_is_told_of_its_session(web: Web) -> None:
    async with browser(web.origin) as page:
        seen = await page.get("/sign-in")
        headers = seen.headers

        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "require-trusted-types-for 'script'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["Cache-Control"] == "no-store"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "Server" not in headers
        assert (await page.get("/nowhere")).headers["X-Content-Type-Options"] == "nosniff"


async def test_a_stolen_cookie_is_worth_nothing_after_sign_out(web: Web) -> None:
    async with web.signed_in() as page, browser(web.origin) as thief:
        thief.secret = page.secret
        assert (await thief.get("/profile")).status == 200

        out = await page.post("/sign-out")

        assert (out.status, out.headers["Location"]) == (303, "/sign-in")
        assert "Max-Age=0" in out.cookies[0]
        assert '"storage"' in out.headers["Clear-Site-Data"]
        assert (await thief.get("/profile")).status == 303
        assert (await thief.get("/profile")).headers["Location"] == "/sign-in?to=/profile"


async def test_a_session_ends_after_a_working_day_whatever_is_done_in_it(web: Web) -> None:
    person = await web.a_person()
    async with web.signed_in(person) as page:
        begin = web.clock.at
        assert await web.sessions_of(person.user_id) == 1

        web.clock.at = begin + LASTS

        assert (await page.get("/profile")).status == 303
        assert await web.sessions_of(person.user_id) == 0


async def test_a_person_who_does_nothing_for_half_an_hour_is_locked_out(web: Web) -> None:
    async with web.signed_in() as page, web.signed_in() as busy:
        for _ in range(31):
            web.clock.pass_by(timedelta(minutes=1))
            await web.stay(busy.secret)

        locked = await page.get("/profile")
        assert (locked.status, 'action="/unlock"' in locked.text) == (401, True)
        assert "Where you are signed in" not in locked.words
        assert (await busy.get("/profile")).status == 200
        assert (await page.post("/sign-out")).status == 303  # also while no other part answers


async def test_access_is_asked_every_three_minutes_whether_a_person_may_still_act(web: Web) -> None:
    async with web.signed_in() as page:
        web.clock.pass_by(RESOLVED_EVERY - timedelta(seconds=1))
        assert (await page.get("/profile")).status == 200

        web.clock.pass_by(timedelta(seconds=1))

        assert (await page.get("/profile")).status == 503  # nobody is let on because access is away


async def test_people_end_their_own_sessions_and_nobody_elses(web: Web) -> None:
    person = await web.a_person()
    _, other_secret = await web.sessions.begin(person)
    async with web.signed_in(person) as page, web.signed_in(await web.a_person("hull")) as stranger:
        other = await web.sessions.find(other_secret)
        assert other
        refused = await stranger.post("/profile/sessions/end", session_id=str(other.session_id))
        assert refused.status == 404
        assert await web.sessions_of(person.user_id) == 2

        assert (await page.post("/profile/sessions/end", session_id=str(other.session_id))).status == 303
        assert await web.sessions.find(other_secret) is None
        assert (await page.post("/profile/sessions/end", session_id="no id")).status == 422

        assert (await page.post("/profile/sessions/end-all")).headers["Location"] == "/sign-in"
        assert await web.sessions_of(person.user_id) == 0
        assert (await stranger.get("/profile")).status == 200


async def test_unlocking_keeps_the_session_and_changes_its_secret(web: Web) -> None:
    person = await web.a_person()
    session, secret = await web.sessions.begin(person)
    await web.sessions.lock(session)
    unlocked = await web.sessions.unlock(session)
    assert unlocked

    assert unlocked[0].session_id == session.session_id
    assert await web.sessions.find(secret) is None
    found = await web.sessions.find(unlocked[1])
    assert found
    assert not found.locked
    await web.sessions.end_all(person.user_id, "vos")
    assert await web.sessions.unlock(session) is None


async def test_a_cookie_of_an_attacker_is_never_taken_over(web: Web) -> None:
    """Session fixation: whatever cookie a browser comes with, who signs in gets a new one."""
    async with browser(web.origin) as page:
        page.secret = "A" * 43
        assert (await page.get("/sign-in")).cookies == []
    _, first = await web.sessions.begin(await web.a_person())
    _, second = await web.sessions.begin(await web.a_person("hull"))
    assert first != second
    async with web.database.statements() as tx:
        kept = str(await tx.connection.fetch("select * from sessions"))
    assert first not in kept


async def test_guessing_a_password_ends_after_five_tries_and_says_nothing_of_accounts(web: Web) -> None:
    await web.a_person("vos", password=PASSWORD)
    async with browser(web.origin) as page:
        known = [await page.post("/sign-in", login="vos", password=f"guess {n}") for n in range(5)]
        unknown = await page.post("/sign-in", login="nobody", password="guess")
        later = await page.post("/sign-in", login="vos", password=PASSWORD)

    assert [each.status for each in known] == [401] * 5
    assert unknown.words.replace("nobody", "vos") == known[0].words
    assert later.status == 429
    assert all(COOKIE not in str(each.cookies) for each in (*known, later))
    assert await web.audited() == [("service:web", "session.began", "refused")] * 6
    async with web.database.statements() as tx:
        rows = await tx.connection.fetch("select distinct object from audit_rows")
    assert {row["object"] for row in rows} == {"login:vos", "login:?"}


async def test_the_right_password_waits_for_access_to_say_who_it_is(web: Web) -> None:
    await web.a_person("vos", password=PASSWORD)
    async with browser(web.origin) as page:
        seen = await page.post("/sign-in", login="vos", password=PASSWORD)

    assert seen.status == 503
    assert "`access` does not answer" in seen.words
    assert seen.headers["Retry-After"] == "5"


async def test_guesses_that_come_at_once_are_no_more_than_guesses_in_a_row(web: Web) -> None:
    await web.a_person("vos", password=PASSWORD)

    async def guess(number: int) -> int:
        async with browser(web.origin) as page:
            return (await page.post("/sign-in", login="vos", password=f"guess {number}")).status

    assert sorted(await asyncio.gather(*map(guess, range(8)))) == [401] * 5 + [429] * 3


@pytest.mark.parametrize(
    ("fields", "status"), [({"renew": "yes"}, 401), ({"typed": "yes", "text": "x"}, 200)]
)
async def test_what_a_script_does_by_itself_is_no_sign_of_a_person(
    web: Web, fields: dict[str, str], status: int
) -> None:
    """A page that renews its lock through the night locks itself; one in which somebody types does not."""

    async def twenty_minutes() -> None:
        web.clock.pass_by(timedelta(minutes=20))
        session = await web.sessions.find(page.secret)
        assert session
        await web.sessions.resolve(session)

    async with web.signed_in() as page:
        await twenty_minutes()
        await page.post(f"/cases/{uuid4()}/report/keep", SAME_ORIGIN, **fields)
        await twenty_minutes()

        assert (await page.get("/profile")).status == status
