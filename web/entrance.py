"""The way in through a provider of identities: people leave for it, come back, and are somebody here.

What is remembered of somebody on their way hangs on a cookie of their browser alone, so that nobody can be
sent into the session of another (login CSRF). It counts once, and for ten minutes.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from kernel.errors import Invalid, NotFound, Unauthenticated
from plumbing.db import Database
from web.attempts import WINDOW, Attempts
from web.client import Services
from web.domain import Person, Session
from web.issuer import NO_INVITATION, resolve
from web.oidc import Provider, new_sign_in
from web.session import digest
from web.store import WebTransaction
from wire.access.v1.identity_pb2 import Identity, RedeemInvitationRequest

LASTS = timedelta(minutes=10)

AGAIN = "this took too long, or began in another browser: begin again"
NOT_SIGNED_IN = "the provider did not sign you in: begin again"

UNREADABLE = "the provider names you in a way that cannot be kept here: tell your administrator"

_WRONG_CODES = 10
"""A minute, of one subject: behind a proxy all come from one address, and the provider knows who guesses."""
_LONGEST = 4096
"""Characters of a code of the provider."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """Somebody whom the provider named.

    Attributes:
        person: None: they sign in as nobody yet, and an invitation can bind them.
        provider_session: how the provider calls their session; empty: it does not say.
        browser: the cookie by which they can show an invitation; empty where they are somebody.
    """

    person: Person | None
    back_to: str
    provider_session: str = ""
    browser: str = ""


class Entrance:
    """Lets people in whom the provider names.

    Args:
        secret: for the digests by which wrong codes are counted.
    """

    def __init__(
        self, database: Database[WebTransaction], services: Services, provider: Provider, secret: str
    ) -> None:
        self._database = database
        self._services = services
        self._provider = provider
        self._by_subject = Attempts(database, "subject", _WRONG_CODES, secret)

    async def leave(self, back_to: str) -> tuple[str, str]:
        """Where a browser is sent, and the cookie by which it is known when it comes back."""
        browser = secrets.token_urlsafe(32)
        async with self._database.statements() as tx:
            begun = new_sign_in(back_to, tx.now)
        address = await self._provider.address(begun)
        async with self._database.statements() as tx:
            await tx.save_sign_in(digest(browser), begun)
        return address, browser

    async def come_back(self, browser: str, answer: Mapping[str, str]) -> Arrived:
        """Who somebody is, by the provider's answer; raises Unauthenticated for one that does not count."""
        async with self._database.statements() as tx:
            begun = await tx.take_sign_in(digest(browser), tx.now - LASTS)
        if begun is None or begun.subject:
            raise Unauthenticated(AGAIN)
        code, state = answer.get("code", ""), answer.get("state", "")
        if not secrets.compare_digest(state.encode(errors="replace"), begun.state.encode()):
            raise Unauthenticated(AGAIN)
        issuer = self._provider.client.issuer
        if answer.get("iss", issuer) != issuer:  # RFC 9207: another provider mixed itself in
            raise Unauthenticated(AGAIN)
        if not 0 < len(code) <= _LONGEST or "error" in answer:
            raise Unauthenticated(NOT_SIGNED_IN)
        try:
            verified = await self._provider.identify(code, begun)
        except Unauthenticated:
            await self._database.refuse("service:web", "session.began", "login:?")
            raise
        try:
            person = await resolve(self._services, issuer, verified.subject)
        except Invalid:
            raise Unauthenticated(UNREADABLE) from None
        if person is not None:
            return Arrived(person, begun.back_to, verified.session)
        known = secrets.token_urlsafe(32)
        async with self._database.statements() as tx:
            await tx.save_sign_in(digest(known), replace(begun, subject=verified.subject))
        return Arrived(None, begun.back_to, browser=known)

    async def is_named(self, browser: str) -> bool:
        """Whether the provider named somebody in this browser, who may show an invitation now."""
        async with self._database.statements() as tx:
            begun = await tx.sign_in_of(digest(browser), tx.now - LASTS)
        return begun is not None and bool(begun.subject)

    async def bind(self, browser: str, code: str) -> Person:
        """Binds whom the provider named to the user of an invitation.

        Raises Unauthenticated for a code that is not valid, and where the provider named nobody of late.
        """
        digested = digest(browser)
        async with self._database.statements() as tx:
            begun = await tx.sign_in_of(digested, tx.now - LASTS)
        if begun is None or not begun.subject:
            raise Unauthenticated(AGAIN)
        issuer = self._provider.client.issuer
        identity = Identity(issuer=issuer, subject=begun.subject)
        async with self._by_subject.counted(begun.subject):
            try:
                bound = await self._services.identities.RedeemInvitation(
                    RedeemInvitationRequest(code=code, identity=identity)
                )
            except NotFound:
                raise Unauthenticated(NO_INVITATION) from None
        async with self._database.statements() as tx:
            await tx.take_sign_in(digested, tx.now - LASTS)
        return Person(issuer, begun.subject, UUID(bound.user_id), bound.login, bound.name)

    async def end(self, logout_token: str) -> list[Session]:
        """Ends the sessions of which the provider says that they ended; raises Unauthenticated."""
        ended = await self._provider.ended(logout_token)
        async with self._database.transaction() as tx:
            sessions = await tx.end_sessions_of_identity(
                self._provider.client.issuer, ended.subject, ended.session
            )
            for each in sessions:
                await tx.record("service:web", "session.ended", f"session:{each.session_id}", "done")
        return sessions

    async def drop_old(self) -> None:
        """Drops whoever left and did not come back, and counts that have ended."""
        async with self._database.statements() as tx:
            await tx.drop_sign_ins(tx.now - LASTS)
            await tx.drop_attempts(tx.now - WINDOW)
