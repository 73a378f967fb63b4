"""Every page: method, path, who answers, and what the request needs. There is no other way in."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from web.asked import Answer, Asked
from web.pages import (
    assignment,
    case,
    deletion,
    images,
    profile,
    provider,
    report,
    sessions,
    signin,
    worklist,
)


class Needs(Enum):
    """What a request needs, so that its page is asked at all. What the page shows, the services decide."""

    NOBODY = "nobody"
    """Anybody who reaches us may ask."""
    SESSION = "session"
    """Somebody is signed in; the session may be locked."""
    PERSON = "person"
    """Somebody is signed in and at their desk: the session is not locked."""


@dataclass(frozen=True, slots=True)
class Route:
    """One page.

    Attributes:
        path: with its parts in braces.
        rescue: for a form with a text that somebody wrote: saves it where the session was locked meanwhile,
            and shows nothing. Whatever refuses such a form gives the text back.
        by_script: whether a script asks by itself; then a person did something only where the form says so.
        by_provider: whether the provider of identities sends it, by a token that it has signed; no page does.
        body_bytes: how long the form may be.
    """

    method: str
    path: str
    handler: Callable[[Asked], Awaitable[Answer]]
    needs: Needs
    rescue: Callable[[Asked], Awaitable[None]] | None = None
    by_script: bool = False
    by_provider: bool = False
    body_bytes: int = 64 << 10


_LONG = 4 << 20
"""Bytes of a form with a report: 200,000 characters, each percent-encoded in up to 12, and the rest."""

_REPORT = "/cases/{case_id}/report"


def _written(
    verb: str,
    handler: Callable[[Asked], Awaitable[Answer]],
    rescue: Callable[[Asked], Awaitable[None]] | None = report.rescue,
    *,
    by_script: bool = False,
) -> Route:
    """An act on a report; its form holds what somebody wrote."""
    path = f"{_REPORT}/{verb}"
    return Route("POST", path, handler, Needs.PERSON, rescue, by_script=by_script, body_bytes=_LONG)


ROUTES = (
    Route("GET", "/sign-in", signin.show, Needs.NOBODY),
    Route("POST", "/sign-in", signin.sign_in, Needs.NOBODY),
    Route("GET", "/welcome", signin.show_welcome, Needs.NOBODY),
    Route("POST", "/welcome", signin.welcome, Needs.NOBODY),
    Route("GET", "/sign-in/start", provider.leave, Needs.NOBODY),
    Route("GET", "/sign-in/callback", provider.come_back, Needs.NOBODY),
    Route("POST", "/backchannel-logout", provider.ended_there, Needs.NOBODY, by_provider=True),
    Route("POST", "/sign-out", signin.sign_out, Needs.SESSION),
    Route("POST", "/unlock", signin.unlock, Needs.SESSION),
    Route("POST", "/lock", signin.lock, Needs.PERSON),
    Route("GET", "/", worklist.show, Needs.PERSON),
    Route("POST", "/", worklist.choose, Needs.PERSON),
    Route("POST", "/rows", worklist.rows, Needs.PERSON, by_script=True),
    Route("POST", "/live", worklist.follow, Needs.PERSON, by_script=True),
    Route("POST", "/shown", worklist.shown, Needs.PERSON, by_script=True),
    Route("POST", "/read", worklist.read, Needs.PERSON),
    Route("POST", "/worklist.csv", worklist.save, Needs.PERSON),
    Route("POST", "/count", worklist.count, Needs.PERSON, by_script=True),
    Route("POST", "/here", worklist.here, Needs.PERSON, by_script=True),
    Route("GET", "/cases/{case_id}", case.show, Needs.PERSON),
    Route("POST", "/cases/{case_id}/assign", assignment.assign, Needs.PERSON),
    Route("POST", "/cases/{case_id}/unassign", assignment.unassign, Needs.PERSON),
    Route("POST", "/cases/{case_id}/priority", assignment.set_priority, Needs.PERSON),
    Route("GET", "/cases/{case_id}/images", images.show, Needs.PERSON),
    Route("GET", _REPORT, report.show, Needs.PERSON),
    Route("GET", "/cases/{case_id}/next", case.show_next, Needs.PERSON),
    *(_written(verb, report.act(verb)) for verb in report.ACTS),
    _written("keep", report.keep, None, by_script=True),
    Route("GET", "/cases/{case_id}/delete", deletion.show, Needs.PERSON),
    Route("POST", "/cases/{case_id}/delete", deletion.delete, Needs.PERSON),
    Route("GET", "/deletions", deletion.show_all, Needs.PERSON),
    Route("GET", "/sessions", sessions.show, Needs.PERSON),
    Route("POST", "/sessions", sessions.show, Needs.PERSON),
    Route("POST", "/sessions/end", sessions.end, Needs.PERSON),
    Route("POST", "/sessions/end-all", sessions.end_all, Needs.PERSON),
    Route("GET", "/profile", profile.show, Needs.PERSON),
    Route("POST", "/profile", profile.save, Needs.PERSON),
    Route("POST", "/profile/sessions/end", profile.end_session, Needs.PERSON),
    Route("POST", "/profile/sessions/end-all", profile.end_all_sessions, Needs.PERSON),
)
