"""The host of the viewer learns whose session it is: once, of late, in one browser, and for one case."""

import secrets
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from kernel.errors import Unauthenticated
from tests.web.conftest import Web
from web.domain import Session
from web.session import digest
from web.viewing import CODE_LASTS, Viewing


async def _begun(web: Web) -> tuple[Session, Viewing, str, UUID]:
    session, _ = await web.sessions.begin(await web.a_person())
    viewing = web.viewing
    return session, viewing, viewing.new_browser(), uuid4()


@pytest.mark.proves("BEY-18", part="a code for the viewer")
async def test_a_code_counts_once_of_late_in_its_browser_and_for_its_case(web: Web) -> None:
    session, viewing, browser, case_id = await _begun(web)

    async def code() -> str:
        return await viewing.code(session, case_id, digest(browser))

    used = await code()
    assert (await viewing.redeem(used, browser, case_id)).session_id == session.session_id
    foreign, other, late = await code(), await code(), await code()
    refused = [(used, browser, case_id), (foreign, viewing.new_browser(), case_id), (other, browser, uuid4())]
    refused += [(each, browser, case_id) for each in ("", "A" * 43, "é" * 43, used + "A")]
    refused += [(await code(), each, case_id) for each in ("", "A" * 43, "é" * 43)]
    # Whoever tries a code in the wrong browser has spent it.
    refused += [(foreign, browser, case_id), (other, browser, case_id)]
    for each in refused:
        with pytest.raises(Unauthenticated, match="open the images again"):
            await viewing.redeem(*each)
    web.clock.pass_by(CODE_LASTS)
    with pytest.raises(Unauthenticated):
        await viewing.redeem(late, browser, case_id)


async def test_the_database_keeps_neither_code_nor_cookie_and_forgets_codes(web: Web) -> None:
    session, viewing, browser, case_id = await _begun(web)
    code = await viewing.code(session, case_id, digest(browser))
    secret = await viewing.begin(session)
    async with web.database.statements() as tx:
        kept = [
            str(dict(row))
            for table in ("viewer_codes", "viewers")
            for row in await tx.connection.fetch(f"select * from {table}")
        ]
    assert len(kept) == 2
    assert not [row for row in kept for each in (code, secret, browser) if each in row]
    web.clock.pass_by(CODE_LASTS)
    await viewing.drop_old()
    async with web.database.statements() as tx:
        assert await tx.connection.fetchval("select count(*) from viewer_codes") == 0


async def test_a_viewer_ends_with_its_session_and_the_oldest_of_many_end_before(web: Web) -> None:
    session, viewing, browser, case_id = await _begun(web)
    cookies = [await viewing.begin(session)]
    for _ in range(20):
        web.clock.pass_by(timedelta(seconds=1))
        cookies.append(await viewing.begin(session))
    assert [bool(await viewing.find(each)) for each in cookies] == [False, *[True] * 20]
    for text in ("", "A" * 43, cookies[1][:-1], secrets.token_urlsafe(32)):
        assert await viewing.find(text) is None

    code = await viewing.code(session, case_id, digest(browser))
    await web.sessions.end(session, session.session_id)
    assert [await viewing.find(each) for each in cookies] == [None] * 21
    with pytest.raises(Unauthenticated):
        await viewing.redeem(code, browser, case_id)
    assert await viewing.find(await viewing.begin(session)) is None  # it has ended already
