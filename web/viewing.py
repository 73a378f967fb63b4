"""How the host of the viewer learns whose session it is: a code that counts once, and a cookie of its own.

A browser begins at the viewer's host, which gives it a secret and sends it to the pages with the digest. The
pages bind a code to session, case and digest, and send the browser back. So nobody can be sent into the
session of another: a code counts only in the browser that asked for it (login CSRF).
"""

import secrets
from datetime import timedelta
from uuid import UUID

from kernel.errors import Unauthenticated
from plumbing.db import Database
from web.domain import Session
from web.session import SECRET_BYTES, RandomText, digest, is_secret
from web.store import WebTransaction
from web.together import Together

COOKIE = "__Host-rr-viewer"
"""Of the viewer's host: with it images may be read, and nothing else be done."""

BROWSER_COOKIE = "__Host-rr-viewer-browser"
"""By which that host knows the browser again that began there. The pages send it back: it is `Lax`."""

CODE_LASTS = timedelta(seconds=30)

AGAIN = "this took too long, or began in another browser: open the images again"

_MOST = 20
"""Cookies of one login session that count: one is usual, and two where two tabs opened at once."""


class Viewing:
    """What becomes of viewers of login sessions."""

    def __init__(
        self, database: Database[WebTransaction], random_text: RandomText = secrets.token_urlsafe
    ) -> None:
        self._database = database
        self._random_text = random_text
        self._together: Together[Session | None] = Together()

    def new_browser(self) -> str:
        """A secret by which the viewer's host knows a browser again."""
        return self._random_text(SECRET_BYTES)

    async def code(self, session: Session, case_id: UUID, browser_digest: bytes) -> str:
        """A code by which the viewer of this browser opens a case for whose session it is."""
        code = self._random_text(SECRET_BYTES)
        async with self._database.statements() as tx:
            await tx.add_viewer_code(digest(code), browser_digest, session.session_id, case_id)
        return code

    async def redeem(self, code: str, browser: str, case_id: UUID) -> Session:
        """Whose code it is, for the last time; raises Unauthenticated for one that does not count."""
        if not is_secret(code) or not is_secret(browser):
            raise Unauthenticated(AGAIN)
        async with self._database.transaction() as tx:
            session = await tx.take_viewer_code(digest(code), digest(browser), case_id, tx.now - CODE_LASTS)
        if session is None:
            raise Unauthenticated(AGAIN)
        return session

    async def begin(self, session: Session) -> str:
        """A new secret for the cookie of the viewer's host."""
        secret = self._random_text(SECRET_BYTES)
        async with self._database.transaction() as tx:
            await tx.add_viewer(digest(secret), session.session_id, _MOST)
        return secret

    async def find(self, secret: str) -> Session | None:
        """The login session of a cookie of the viewer's host; None once it has ended, and for other text."""
        if not is_secret(secret):
            return None
        digested = digest(secret)

        async def look_up() -> Session | None:
            async with self._database.statements() as tx:
                return await tx.session_of_viewer(digested, tx.now)

        return await self._together.one(digested, look_up)

    async def drop_old(self) -> None:
        """Deletes codes that their time has ended."""
        async with self._database.statements() as tx:
            await tx.drop_viewer_codes(tx.now - CODE_LASTS)
