"""Login sessions: who is signed in, until when, and what their cookie proves.

A session keeps its id, which tokens carry as `sid`, from sign-in to sign-out. The secret in its cookie
changes whenever the person proves who they are, so that a secret from before is worth nothing (session
fixation). The database keeps the SHA-256 of the secret alone: whoever reads it can be nobody.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from kernel.ids import NewId
from plumbing.db import Database
from web.domain import Person, Session
from web.store import WebTransaction
from web.together import Together

COOKIE = "__Host-rr"
"""The prefix binds it to this host, to every path, and to a secure origin (RFC 6265bis, 4.1.3.2)."""

LASTS = timedelta(hours=12)
"""A working day. Then a person proves again who they are, whatever they do meanwhile."""

NOTED_EVERY = timedelta(minutes=1)
"""How often it is written down that a person does something."""

RESOLVED_EVERY = timedelta(minutes=3)
"""How often access is asked whether the person may still act as this user."""

SECRET_BYTES = 32
_SECRET_CHARACTERS = 43
"""32 bytes in base64url without padding."""

RandomText = Callable[[int], str]
"""Answers so many random bytes in base64url."""


def form_token(secret: str) -> str:
    """What each form of a session carries, so that no other page can send it (CSRF)."""
    return hmac.digest(secret.encode(), b"form", "sha256").hex()


def is_secret(text: str) -> bool:
    """Whether a cookie or a code may be one of ours."""
    return len(text) == _SECRET_CHARACTERS and text.isascii()


def digest(secret: str) -> bytes:
    """What the database keeps of a secret that a browser holds."""
    return hashlib.sha256(secret.encode(errors="replace")).digest()


class Sessions:
    """What becomes of login sessions."""

    def __init__(
        self,
        database: Database[WebTransaction],
        new_id: NewId,
        random_text: RandomText = secrets.token_urlsafe,
    ) -> None:
        self._database = database
        self._new_id = new_id
        self._random_text = random_text
        self._together: Together[Session | None] = Together()

    async def begin(self, person: Person) -> tuple[Session, str]:
        """Begins a session; answers it with the secret of its cookie, which nobody can be told again."""
        secret = self._random_text(SECRET_BYTES)
        async with self._database.transaction() as tx:
            now = tx.now
            session = Session(self._new_id(), person, now, now, now, now, now + LASTS)
            await tx.add_session(session, digest(secret))
            await tx.record(person.login, "session.began", f"session:{session.session_id}", "done")
        return session, secret

    async def find(self, secret: str) -> Session | None:
        """The session of a cookie; None once it has ended, and for any other text."""
        if not is_secret(secret):
            return None
        digested = digest(secret)

        async def look_up() -> Session | None:
            async with self._database.statements() as tx:
                return await tx.session_by_digest(digested, tx.now)

        return await self._together.one(digested, look_up)

    async def ended(self, session: Session, lock_after: timedelta) -> str:
        """Why a page that is open may be told nothing more: `ended`, `locked`; empty: it may."""
        async with self._database.statements() as tx:
            current = await tx.session(session.session_id, tx.now)
            if current is None:
                return "ended"
            return "locked" if current.is_locked(tx.now, lock_after) else ""

    async def use(self, session: Session) -> None:
        """Notes that the person did something."""
        async with self._database.statements() as tx:
            if tx.now - session.used_at >= NOTED_EVERY:
                await tx.note_use(session.session_id, tx.now)

    async def resolve(self, session: Session) -> None:
        """Notes that access said just now that the person may act."""
        async with self._database.statements() as tx:
            await tx.note_resolved(session.session_id, tx.now)

    async def lock(self, session: Session) -> None:
        """Locks it: the person must prove who they are before anything else is shown."""
        async with self._database.transaction() as tx:
            await tx.lock_session(session.session_id)
            await tx.record(session.person.login, "session.locked", f"session:{session.session_id}", "done")

    async def unlock(self, session: Session) -> tuple[Session, str] | None:
        """The same session under a new secret, once the same person proved who they are; None if it ended."""
        secret = self._random_text(SECRET_BYTES)
        async with self._database.transaction() as tx:
            if not await tx.unlock_session(session.session_id, digest(secret), tx.now):
                return None
            await tx.record(session.person.login, "session.unlocked", f"session:{session.session_id}", "done")
            return replace(session, authenticated_at=tx.now, used_at=tx.now, locked=False), secret

    async def is_known_as(self, session: Session, provider_session: str) -> None:
        """Keeps how the provider of identities calls it, so that it can end it; empty: it does not say."""
        if provider_session:
            async with self._database.statements() as tx:
                await tx.note_provider_session(session.session_id, provider_session)

    async def of(self, session: Session) -> list[Session]:
        """All sessions of the same user, the newest first."""
        async with self._database.statements() as tx:
            return await tx.sessions_of(session.person.user_id, tx.now)

    async def end(self, by: Session, session_id: UUID) -> bool:
        """Ends one of the person's own sessions; whether there was one."""
        return bool(await self._end(by.person.user_id, session_id, by.person.login))

    async def end_all(self, user_id: UUID, actor: str) -> list[Session]:
        """Ends every session of a user; answers them."""
        return await self._end(user_id, None, actor)

    async def end_anybodys(self, session_id: UUID, actor: str) -> Session | None:
        """Ends one session, whoever's it is; None if there is none such."""
        return next(iter(await self._end(None, session_id, actor)), None)

    async def everybodys(self, login: str) -> list[Session]:
        """The sessions that were used last, of a login or, without one, of everybody."""
        async with self._database.statements() as tx:
            return await tx.everybodys_sessions(login, tx.now)

    async def _end(self, user_id: UUID | None, session_id: UUID | None, actor: str) -> list[Session]:
        async with self._database.transaction() as tx:
            ended = await tx.end_sessions(user_id, session_id)
            for each in ended:
                await tx.record(actor, "session.ended", f"session:{each.session_id}", "done")
            return ended

    async def drop_ended(self) -> None:
        """Deletes sessions that their time has ended."""
        async with self._database.statements() as tx:
            await tx.drop_ended(tx.now)
