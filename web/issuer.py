"""The development issuer: people prove who they are with a password. It runs on one machine only."""

from uuid import UUID

from kernel.clock import Clock
from kernel.errors import NotFound, Unauthenticated
from plumbing.db import Database
from web.attempts import Attempts
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


class DevelopmentIssuer:
    """Signs people in with a login and a password, which they choose with an invitation."""

    def __init__(self, database: Database[WebTransaction], services: Services, clock: Clock) -> None:
        self._database = database
        self._services = services
        self._passwords = Passwords()
        self._by_account = Attempts(_WRONG_PER_ACCOUNT, clock)
        self._by_address = Attempts(_WRONG_PER_ADDRESS, clock)

    async def sign_in(self, login: str, password: str, address: str) -> Person:
        """Who this is; raises Unauthenticated in the same words for any reason, Exhausted after many."""
        if len(login) > LONGEST_LOGIN:
            raise Unauthenticated(WRONG)
        self._by_address.begin(address)
        self._by_account.begin(login)
        async with self._database.statements() as tx:
            kept = await tx.password_of(login)
        if not await self._passwords.verify(password, kept[1] if kept else None) or kept is None:
            known = login if kept else "?"  # people type passwords as logins: the audit names no such account
        else:
            person = await resolve(self._services, NAME, str(kept[0]))
            if person is not None:
                self._by_address.was_right(address)
                self._by_account.was_right(login)
                return person
            known = login
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
        self._by_address.begin(address)
        try:
            invited = await self._services.identities.DescribeInvitation(DescribeInvitationRequest(code=code))
            hashed = await self._passwords.hash(password)
            identity = Identity(issuer=NAME, subject=invited.user_id)
            bound = await self._services.identities.RedeemInvitation(
                RedeemInvitationRequest(code=code, identity=identity)
            )
        except NotFound:
            raise Unauthenticated(NO_INVITATION) from None
        self._by_address.was_right(address)
        user_id = UUID(bound.user_id)
        async with self._database.transaction() as tx:
            await tx.save_password(user_id, bound.login, hashed)
            await tx.record(bound.login, "password.chosen", f"user:{user_id}", "done")
        return Person(NAME, bound.user_id, user_id, bound.login, bound.name)


async def resolve(services: Services, issuer: str, subject: str) -> Person | None:
    """Whom access knows an identity as; None if nobody signs in by it, or the user is deactivated."""
    identity = Identity(issuer=issuer, subject=subject)
    try:
        user = await services.identities.ResolveIdentity(ResolveIdentityRequest(identity=identity))
    except NotFound:
        return None
    return Person(issuer, subject, UUID(user.user_id), user.login, user.name) if user.active else None
