"""Every page: method, path, who answers, and what the request needs. There is no other way in."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from web.asked import Answer, Asked
from web.pages import case, profile, signin, worklist


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
    """

    method: str
    path: str
    handler: Callable[[Asked], Awaitable[Answer]]
    needs: Needs


ROUTES = (
    Route("GET", "/sign-in", signin.show, Needs.NOBODY),
    Route("POST", "/sign-in", signin.sign_in, Needs.NOBODY),
    Route("GET", "/welcome", signin.show_welcome, Needs.NOBODY),
    Route("POST", "/welcome", signin.welcome, Needs.NOBODY),
    Route("POST", "/sign-out", signin.sign_out, Needs.SESSION),
    Route("POST", "/unlock", signin.unlock, Needs.SESSION),
    Route("POST", "/lock", signin.lock, Needs.PERSON),
    Route("GET", "/", worklist.show, Needs.PERSON),
    Route("POST", "/", worklist.show, Needs.PERSON),
    Route("GET", "/cases/{case_id}", case.show, Needs.PERSON),
    Route("GET", "/profile", profile.show, Needs.PERSON),
    Route("POST", "/profile", profile.save, Needs.PERSON),
    Route("POST", "/profile/sessions/end", profile.end_session, Needs.PERSON),
    Route("POST", "/profile/sessions/end-all", profile.end_all_sessions, Needs.PERSON),
)
