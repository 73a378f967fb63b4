"""The development issuer: people prove who they are with a password. It runs on one machine only."""

import hashlib
import re
from datetime import timedelta
from uuid import UUID

from kernel.errors import NotFound, Unauthenticated
from plumbing.db import Database
from web.attempts import WINDOW, Attempts
from web.client import Services
from web.domain import Person, Session
from web.passwords import Passwords
from web.store import WebTransaction
from wire.access.v1.identity_pb2 import (
    DescribeInvitationRequest,
    Identity,
    RedeemInvitationRequest,
    ResolveIdentityRequest,
)

NAME = "development"
"""What it calls itself at access; the subject is the id of the user."""

WRONG = "the login and the password do not belong together"
NO_INVITATION = "this code is not valid: ask for a new invitation"

LONGEST_LOGIN = 100
"""Characters; as the form takes."""

_WRONG_PER_ACCOUNT, _WRONG_PER_ADDRESS = 5, 30
"""Wrong attempts a minute."""

_CODE = re.compile(r"[A-Za-z0-9_-]{64}", re.ASCII)
"""48 bytes in base64url: access reads a code in other spellings too, and one code must have one digest."""

_CODE_LASTS = timedelta(days=8)
"""A day longer than an invitation: a choice that is finished refuses the code for as long."""


class DevelopmentIssuer:
    """Signs people in with a login and a password, which they choose with an invitation.

    Args:
        secret: for the digests by which wrong tries are counted.
    """

    def __init__(self, database: Database[WebTransaction], services: Services, secret: str) -> None:
        self._database = database
        self._services = services
        self._passwords = Passwords()
        self._by_account = Attempts(database, "login", _WRONG_PER_ACCOUNT, secret)
        self._by_address = Attempts(database, "address", _WRONG_PER_ADDRESS, secret)

    async def sign_in(self, login: str, password: str, address: str) -> Person:
        """Who this is; raises Unauthenticated in the same words for any reason, Exhausted after many."""
        if len(login) > LONGEST_LOGIN:
            raise Unauthenticated(WRONG)
        async with self._by_address.counted(address), self._by_account.counted(login):
            return await self._signed_in(login, password)

    async def _signed_in(self, login: str, password: str) -> Person:
        async with self._database.statements() as tx:
            kept = await tx.password_of(login)
        person = None
        if await self._passwords.verify(password, kept[1] if kept else None) and kept is not None:
            person = await resolve(self._services, NAME, str(kept[0]))
        if person is not None:
            return person
        known = login if kept else "?"  # people type passwords as logins: the audit names no such account
        await self._database.refuse("service:web", "session.began", f"login:{known}")
        raise Unauthenticated(WRONG)

    async def prove(self, session: Session, password: str, address: str) -> None:
        """Raises Unauthenticated unless it is the password of whose session this is."""
        person = await self.sign_in(session.person.login, password, address)
        if person.user_id != session.person.user_id:
            raise Unauthenticated(WRONG)

    async def accept(self, code: str, password: str, address: str) -> Person:
        """Binds whoever shows the code of an invitation to its user, with a password of their choice.

        Raises Unauthenticated for a code that is not valid, whatever the reason; Invalid for the password.
        """
        async with self._by_address.counted(address):
            return await self._accepted(code, password)

    async def _accepted(self, code: str, password: str) -> Person:
        """Saves the choice before access hears of it: it can be taken up again, and of several one counts."""
        if not _CODE.fullmatch(code):
            raise Unauthenticated(NO_INVITATION)
        digest = hashlib.sha256(code.encode()).digest()
        try:
            user_id = await self._invited(code, digest)
            hashed = await self._passwords.hash(password)
            async with self._database.statements() as tx:
                if not await tx.save_choice(digest, user_id, hashed):
                    raise Unauthenticated(NO_INVITATION)
            identity = Identity(issuer=NAME, subject=str(user_id))
            bound = await self._services.identities.RedeemInvitation(
                RedeemInvitationRequest(code=code, identity=identity)
            )
        except NotFound:
            raise Unauthenticated(NO_INVITATION) from None
        async with self._database.transaction() as tx:
            if not await tx.finish_choice(digest, hashed):
                raise Unauthenticated(NO_INVITATION)
            await tx.save_password(user_id, bound.login, hashed)
            await tx.record(bound.login, "password.chosen", f"user:{user_id}", "done")
        return Person(NAME, bound.user_id, user_id, bound.login, bound.name)

    async def _invited(self, code: str, digest: bytes) -> UUID:
        """Whom the code is for: access says so until it is used, and then a choice that is not finished."""
        try:
            invited = await self._services.identities.DescribeInvitation(DescribeInvitationRequest(code=code))
        except NotFound:
            async with self._database.statements() as tx:
                chosen = await tx.choice_of(digest)
            if chosen is None:
                raise
            return chosen
        return UUID(invited.user_id)

    async def drop_old(self) -> None:
        """Drops counts that have ended, and choices with codes that have."""
        async with self._database.statements() as tx:
            await tx.drop_attempts(tx.now - WINDOW)
            await tx.drop_choices(tx.now - _CODE_LASTS)


async def resolve(services: Services, issuer: str, subject: str) -> Person | None:
    """Whom access knows an identity as; None if nobody signs in by it, or the user is deactivated."""
    identity = Identity(issuer=issuer, subject=subject)
    try:
        user = await services.identities.ResolveIdentity(ResolveIdentityRequest(identity=identity))
    except NotFound:
        return None
    return Person(issuer, subject, UUID(user.user_id), user.login, user.name) if user.active else None
