"""Who signs in as whom: administrators bind identities to users, or invite users to bind their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernel.database import Database
from kernel.errors import Conflict, Denied, NotFound, Unauthenticated
from kernel.ids import NewId, UserId
from services.access.administration import Administration, account_of, compiled, managed
from services.access.domain import User
from services.access.identity import (
    SECRET_BYTES,
    BoundIdentity,
    Code,
    Identity,
    Invitation,
    InvitationId,
    bound_to_another,
    must_have_room,
    not_valid,
    read_code,
)
from services.access.manager import Manager
from services.access.names import possible_logins

if TYPE_CHECKING:
    from services.access.store import AccessTransaction

# Who acts where no user does.
OURSELVES = "service:access"
_SIGN_IN = "service:bff"

_REDEEMED = "invitation.redeemed"


@dataclass(frozen=True, slots=True)
class Invited:
    """A user, their invitation, and, once, its code."""

    user: User
    invitation: Invitation
    code: Code


class Identities:
    """Identities and invitations.

    Args:
        random_bytes: answers so many random bytes, of which secrets are made.
    """

    def __init__(
        self, database: Database[AccessTransaction], new_id: NewId, random_bytes: Callable[[int], bytes]
    ) -> None:
        self._database = database
        self._administration = Administration(database)
        self._new_id = new_id
        self._random_bytes = random_bytes

    # What administrators do

    async def save_identity(self, login: str, user_id: UserId, identity: Identity) -> BoundIdentity:
        """Lets an identity sign in as a user."""
        async with self._administration.act(login, "identity.saved", f"user:{user_id}") as act:
            act.manager.must_administer_everything()
            user = _signing_in(await managed(act.transaction, act.manager, user_id))
            bound, is_new = await _bind(act.transaction, user, identity, by=act.actor.login)
            if is_new:
                await _record(act.transaction, act.actor.login, act.action, bound)
        return bound

    async def remove_identity(self, login: str, user_id: UserId, identity: Identity) -> None:
        """Lets an identity sign in as nobody; raises NotFound if the user has none such."""
        async with self._administration.act(login, "identity.removed", f"user:{user_id}") as act:
            act.manager.must_administer_everything()
            user = await managed(act.transaction, act.manager, user_id)
            if not await act.transaction.unbind_identity(user_id, identity):
                raise NotFound(f"`{user.login}` has no such identity", field="identity")
            bound = BoundIdentity(identity, user_id, act.actor.login, act.transaction.now)
            await _record(act.transaction, act.actor.login, act.action, bound)

    async def list_identities(
        self, login: str, user_id: UserId
    ) -> tuple[list[BoundIdentity], Invitation | None]:
        """The identities of a user whom the caller manages, or of themself, and the open invitation."""
        async with self._administration.look(login) as (transaction, actor):
            if user_id != actor.id:
                await managed(transaction, Manager(actor), user_id)
            invitation = await transaction.invitation(user_id)
            is_open = invitation is not None and invitation.is_open(transaction.now)
            return await transaction.identities(user_id), invitation if is_open else None

    async def invite(self, login: str, user_id: UserId) -> Invited:
        """The one invitation of a user, in place of the one before."""
        async with self._administration.act(login, "user.invited", f"user:{user_id}") as act:
            user = _signing_in(await managed(act.transaction, act.manager, user_id))
            await _must_invite(act.transaction, act.manager, user)
            return await self._invited(act.transaction, user, by=act.actor.login)

    async def invite_first(self, login: str) -> Invited:
        """Invites for whoever has the database: when no administrator can sign in."""
        async with self._database.transaction() as transaction:
            await transaction.hold_rights()
            called = await transaction.users_called([], possible_logins([login]))
            if not called:
                raise NotFound(f"there is no user `{login}`", field="login")
            return await self._invited(transaction, _signing_in(called[0]), by=None)

    async def _invited(self, transaction: AccessTransaction, user: User, *, by: str | None) -> Invited:
        code = Code(InvitationId(self._new_id()), self._random_bytes(SECRET_BYTES))
        invitation = Invitation.made(code, user.id, by=by, now=transaction.now)
        await transaction.save_invitation(invitation)
        await transaction.record(by or OURSELVES, "user.invited", f"user:{user.id}", "done", login=user.login)
        return Invited(user, invitation, code)

    # What the web asks when somebody signs in

    async def describe_invitation(self, text: str) -> tuple[User, Invitation]:
        """Whom an invitation is for; raises NotFound for a code that does not count."""
        async with self._database.audited(_SIGN_IN, _REDEEMED, "invitation"):
            invitation = await self._tried(read_code(text))
            async with self._database.statements() as transaction:
                user = await transaction.user(invitation.user_id)
                if user is None or invitation.used_at is not None:
                    raise not_valid()
        return user, invitation

    async def redeem_invitation(self, text: str, identity: Identity) -> User:
        """Binds an identity that signed in to whom a code was given; again it answers the same."""
        async with self._database.audited(_SIGN_IN, _REDEEMED, "invitation", reason=True):
            tried = await self._tried(read_code(text))
            async with self._database.transaction() as transaction:
                await transaction.hold_rights()
                invitation = await transaction.lock_invitation(tried.id)
                user = await transaction.user(tried.user_id)
                if invitation is None or user is None:
                    raise not_valid()
                if invitation.used_at is not None:
                    bound = await transaction.identity(identity)
                    if bound is None or bound.user_id != user.id:
                        raise not_valid()
                    return user
                _signing_in(user)
                if invitation.invited_by is not None:
                    await _must_still_invite(transaction, invitation.invited_by, user)
                bound, _ = await _bind(transaction, user, identity, by=user.login)
                await transaction.note_invitation_used(invitation.id)
                await _record(transaction, user.login, _REDEEMED, bound)
        return user

    async def resolve_identity(self, identity: Identity) -> User:
        """Which user an identity signs in as, deactivated or not; raises NotFound if none."""
        async with self._database.statements() as transaction:
            bound = await transaction.identity(identity)
            user = await transaction.user(bound.user_id) if bound else None
        if user is None:
            raise NotFound("this identity signs in as nobody: it needs an invitation", field="identity")
        return user

    async def _tried(self, code: Code) -> Invitation:
        """The invitation of a code; the try is counted and committed before the code is compared."""
        async with self._database.statements() as statements:
            invitation = await statements.tried_invitation(code.invitation_id)
            if invitation is None or not invitation.fits(code):
                raise not_valid()
            await statements.note_right_code(code.invitation_id)
        return invitation


def _signing_in(user: User) -> User:
    if not user.active:
        raise Conflict(f"`{user.login}` is deactivated: activate them before they sign in", field="user_id")
    return user


async def _bind(
    transaction: AccessTransaction, user: User, identity: Identity, *, by: str
) -> tuple[BoundIdentity, bool]:
    """The identity as it is bound to the user, and whether it is now only; raises Conflict."""
    held = await transaction.identity(identity)
    if held is None:
        must_have_room(len(await transaction.identities(user.id)), user.login)
        bound = BoundIdentity(identity, user.id, by, transaction.now)
        if await transaction.bind_identity(bound):
            return bound, True
        held = await transaction.identity(identity)
    if held is None or held.user_id != user.id:
        raise bound_to_another()
    return held, False


async def _must_invite(transaction: AccessTransaction, manager: Manager, user: User) -> None:
    manager.must_invite(
        await account_of(transaction, user),
        transaction.now,
        signs_in=bool(await transaction.identities(user.id)),
    )


async def _must_still_invite(transaction: AccessTransaction, login: str, user: User) -> None:
    """Raises Conflict if whoever invited the user would be refused today: both may be others by now."""
    try:
        manager = Manager(await compiled(transaction, login))
        manager.must_manage(user)
        await _must_invite(transaction, manager, user)
    except (Denied, NotFound, Unauthenticated) as refusal:
        raise Conflict(
            "whoever invited you may no longer do so: ask an administrator for another invitation",
            field="code",
        ) from refusal


async def _record(transaction: AccessTransaction, actor: str, action: str, bound: BoundIdentity) -> None:
    await transaction.record(
        actor,
        action,
        f"user:{bound.user_id}",
        "done",
        issuer=bound.identity.issuer,
        subject=bound.identity.subject,
    )
