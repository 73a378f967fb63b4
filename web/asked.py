"""What a page function is given, and what it answers. It loads, decides nothing, and answers a value."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from plumbing.db import Database
from web.client import Services
from web.domain import Session
from web.entrance import Entrance
from web.flow import Flow
from web.issuer import DevelopmentIssuer
from web.session import Sessions
from web.store import WebTransaction
from web.tokens import Mint
from web.viewing import Viewing


@dataclass(frozen=True, slots=True)
class House:
    """What every page may use.

    Attributes:
        issuer, entrance: how people sign in: with passwords, or through a provider; one of them.
        lock_after: a session in which a person does nothing for so long is locked.
        viewer_origin: the address of the viewer's host in browsers; empty: there is none.
        streams: how many lists each session follows at this process.
        leaving: set once this process is told to stop: lists that are followed end, and pages ask anew.
    """

    database: Database[WebTransaction]
    services: Services
    sessions: Sessions
    issuer: DevelopmentIssuer | None
    mint: Mint
    lock_after: timedelta
    flow: Flow
    viewing: Viewing
    entrance: Entrance | None = None
    viewer_origin: str = ""
    streams: Counter[UUID] = field(default_factory=Counter)
    leaving: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, once it has passed what its route needs.

    Attributes:
        path: the parts of the path that its pattern names.
        form: the fields of the form that was sent; empty for GET.
        query: of the address; never anything of a patient.
        address: where it came from.
        session: who is signed in; None on pages that need nobody.
        now: when it came.
        browser: what the cookie of somebody says who is on their way through the provider; empty: nothing.
    """

    house: House
    path: Mapping[str, str]
    form: Mapping[str, str]
    query: Mapping[str, str]
    address: str
    session: Session | None
    now: datetime
    browser: str = ""

    @property
    def signed_in(self) -> Session:
        """Who is signed in, on a page that needs somebody."""
        assert self.session is not None, "the route needs a session"
        return self.session


@dataclass(frozen=True, slots=True)
class Page:
    """A page: its template and the values it shows.

    Attributes:
        forgets: what the browser forgets of the viewer's host: a word of `viewerhost.FORGOTTEN`, or nothing.
    """

    template: str
    values: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200
    forgets: str = ""


@dataclass(frozen=True, slots=True)
class Redirect:
    """Sends the browser to another page of ours, or to the provider of identities.

    Attributes:
        to: a path, or the provider's address.
        secret: the new secret of the cookie; empty: it stays.
        signs_out: whether cookie and everything that the browser keeps of us go.
        browser: the new value of the cookie of somebody on their way through the provider; empty: it stays.
    """

    to: str
    secret: str = ""
    signs_out: bool = False
    browser: str = ""


@dataclass(frozen=True, slots=True)
class Data:
    """What a script of a page asked for; no page."""

    values: Mapping[str, str]
    status: int = 200


@dataclass(frozen=True, slots=True)
class News:
    """What changes on a page that is open.

    Attributes:
        values: what its script is told.
        parts: pieces of the page, by key; each is one element.
    """

    values: Mapping[str, Any]
    parts: Mapping[str, Page] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stream:
    """News as they come, each on a line of its own."""

    news: AsyncGenerator[News]


@dataclass(frozen=True, slots=True)
class File:
    """A file that a person saves, in parts as they come; one that breaks off is no whole file to a browser.

    Attributes:
        name: what it is saved as; nothing of a patient.
    """

    parts: AsyncGenerator[bytes]
    name: str
    content_type: str


Whole = Page | Redirect | Data | News
Answer = Whole | Stream | File
