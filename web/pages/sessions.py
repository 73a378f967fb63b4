"""Where everybody is signed in: for whoever administers everything."""

from kernel.errors import NotFound, ReadroomError, lacks
from kernel.ids import parse_id
from web.asked import Answer, Asked, Page, Redirect
from web.issuer import LONGEST_LOGIN
from wire.access.v1.access_pb2 import CheckPermissionRequest


async def show(asked: Asked) -> Answer:
    """The sessions that were used last, of everybody or of one login."""
    await _must_administer(asked)
    login = asked.form.get("login", "").strip()[:LONGEST_LOGIN]
    found = await asked.house.sessions.everybodys(login)
    return Page("sessions/page.html", {"sessions": found, "login": login})


async def end(asked: Asked) -> Answer:
    """Ends one session, whoever's it is."""
    await _must_administer(asked)
    ended = await asked.house.sessions.end_anybodys(
        parse_id(asked.form.get("session_id", ""), "session_id"), asked.signed_in.person.login
    )
    if ended is None:
        raise NotFound("this session has ended already, or there never was one")
    asked.house.mint.forget(ended)
    return Redirect("/sessions")


async def end_all(asked: Asked) -> Answer:
    """Signs a person out everywhere."""
    await _must_administer(asked)
    user_id = parse_id(asked.form.get("user_id", ""), "user_id")
    for ended in await asked.house.sessions.end_all(user_id, asked.signed_in.person.login):
        asked.house.mint.forget(ended)
    return Redirect("/sessions")


async def may_administer(asked: Asked) -> bool:
    """Whether the person is shown the way here; access decides again when they come."""
    try:
        return await _administers(asked)
    except ReadroomError:
        return False


async def _must_administer(asked: Asked) -> None:
    if not await _administers(asked):
        raise lacks("access.admin", at="every facility")


async def _administers(asked: Asked) -> bool:
    request = CheckPermissionRequest(permission="access.admin")
    return (await asked.house.services.access.CheckPermission(request)).allowed
