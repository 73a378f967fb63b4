"""Sign in, unlock and choose an invitation through a provider of identities; and how it ends sessions."""

from kernel.errors import Exhausted, NotFound, Unauthenticated
from web import errors, signing
from web.asked import Answer, Asked, Data, Page, Redirect
from web.domain import Person
from web.entrance import Entrance


async def leave(asked: Asked) -> Answer:
    """Sends the browser to the provider."""
    address, browser = await _entrance(asked).leave(signing.back_to(asked.query.get("to", "")))
    return Redirect(address, browser=browser)


async def come_back(asked: Asked) -> Answer:
    """Begins a session, unlocks the one of the same person, or asks for an invitation."""
    try:
        arrived = await _entrance(asked).come_back(asked.browser, asked.query)
    except Unauthenticated as error:
        return Page("signin/page.html", {"to": "", "login": "", "problem_text": error.sentence}, 401)
    if arrived.person is None:
        return Redirect("/welcome", browser=arrived.browser)
    session, to = asked.session, arrived.back_to or "/"
    if session is not None and _is_of(session.person, arrived.person):
        unlocked = await asked.house.sessions.unlock(session)
        if unlocked is not None:
            await asked.house.sessions.is_known_as(session, arrived.provider_session)
            return Redirect(to, secret=unlocked[1])
    return await signing.begun(asked, arrived.person, to, arrived.provider_session)


async def welcome(asked: Asked) -> Answer:
    """The form for the code of an invitation, once the provider has named somebody."""
    return _welcome(await _entrance(asked).is_named(asked.browser))


async def bind(asked: Asked) -> Answer:
    """Binds whoever was named to the user of an invitation, and signs them in."""
    entrance, code = _entrance(asked), asked.form.get("code", "").strip()
    try:
        person = await entrance.bind(asked.browser, code)
    except (Unauthenticated, Exhausted) as error:
        status = errors.told(error).status
        return _welcome(await entrance.is_named(asked.browser), code, error.sentence, status)
    return await signing.begun(asked, person, "/")


async def ended_there(asked: Asked) -> Answer:
    """The provider says that somebody signed out there (OpenID Connect Back-Channel Logout 1.0, 2.8)."""
    try:
        for session in await _entrance(asked).end(asked.form.get("logout_token", "")):
            asked.house.mint.forget(session)
    except Unauthenticated as error:
        return Data({"error": "invalid_request", "error_description": error.sentence}, 400)
    return Data({})


def _is_of(person: Person, other: Person) -> bool:
    return (person.user_id, person.issuer, person.subject) == (other.user_id, other.issuer, other.subject)


def _entrance(asked: Asked) -> Entrance:
    if asked.house.entrance is None:
        raise NotFound("people sign in here with passwords, not through a provider")
    return asked.house.entrance


def _welcome(is_named: bool, code: str = "", problem: str = "", status: int = 200) -> Page:
    values = {"is_named": is_named, "code": code[:100], "problem_text": problem}
    return Page("signin/invited.html", values, status)
