"""What the web keeps: people who are signed in, and how they like their pages. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Person:
    """Who proved who they are: the identity, and the user that access knows them as."""

    issuer: str
    subject: str
    user_id: UUID
    login: str
    name: str


@dataclass(frozen=True, slots=True)
class Session:
    """A login session; the times are those of `web/migrations/0001_sessions.sql`."""

    session_id: UUID
    person: Person
    began_at: datetime
    authenticated_at: datetime
    used_at: datetime
    resolved_at: datetime
    ends_at: datetime
    locked: bool = False

    def is_locked(self, now: datetime, lock_after: timedelta) -> bool:
        """Whether the person must prove who they are first: they locked it, or did nothing for long."""
        return self.locked or now - self.used_at > lock_after


@dataclass(frozen=True, slots=True)
class SignIn:
    """Somebody on their way through the provider of identities, or named by it and without a user yet.

    Attributes:
        state, nonce: what its answer must repeat.
        verifier: of PKCE (RFC 7636, 4.1).
        back_to: the page they wanted.
        subject: whom the provider named; empty: nobody yet.
    """

    state: str
    nonce: str
    verifier: str
    back_to: str
    began_at: datetime
    subject: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """A list as somebody looks at it.

    Attributes:
        search: the words of the search box.
        order: a key of the columns that lists are ordered by.
        page_token: of access; empty for the first page.
    """

    search: str = ""
    order: str = "received"
    ascending: bool = False
    page_token: str = ""


THEMES = ("dark", "light", "system")
DENSITIES = ("compact", "normal", "comfortable")


@dataclass(frozen=True, slots=True)
class Preferences:
    """How a person likes their pages: one of THEMES, one of DENSITIES, and whether single letters act."""

    theme: str = "dark"
    density: str = "normal"
    has_keys: bool = True
