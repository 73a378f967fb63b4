"""Whether a session still counts, and where a person goes once they are signed in."""

import re
from datetime import datetime

from web.asked import Asked, House, Page, Redirect
from web.domain import Person, Session
from web.issuer import resolve
from web.session import RESOLVED_EVERY
from web.tokens import acting

_UNAUTHORIZED = 401

_BACK = re.compile(r"/(?:cases/[0-9a-f-]{36}(?:/report|/images)?|profile)", re.ASCII)
"""Pages that a person may come back to: nothing of a patient stands in their address."""


def back_to(path: str) -> str:
    """The page to come back to; empty for the worklist, and for whatever is no page of ours."""
    return path if _BACK.fullmatch(path) else ""


def locked(problem: str = "") -> Page:
    """The page of a locked session: it shows nothing but who may unlock it."""
    return Page("signin/locked.html", {"problem_text": problem}, _UNAUTHORIZED, "images")


async def begun(asked: Asked, person: Person, to: str, provider_session: str = "") -> Redirect:
    """Begins a session for somebody who proved who they are; one that this browser had before ends."""
    if asked.session is not None:
        await asked.house.sessions.end(asked.session, asked.session.session_id)
        asked.house.mint.forget(asked.session)
    session, secret = await asked.house.sessions.begin(person)
    await asked.house.sessions.is_known_as(session, provider_session)
    return Redirect(to, secret=secret)


async def still_valid(house: House, session: Session, now: datetime) -> Session | None:
    """The session, unless its identity signs in as nobody any more; then every session of the person ends."""
    if now - session.resolved_at < RESOLVED_EVERY:
        return session
    person = session.person
    with acting(None):
        found = await resolve(house.services, person.issuer, person.subject)
    if found is None or found.user_id != person.user_id:
        await house.sessions.end_all(person.user_id, "service:web")
        house.mint.forget(session)
        return None
    await house.sessions.resolve(session)
    return session
