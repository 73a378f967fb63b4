"""Who signs in as whom: the tables of identities and invitations."""

import asyncpg

from kernel.ids import UserId
from plumbing.db import Transaction
from services.access.identity import (
    MAX_WRONG_CODES,
    BoundIdentity,
    Identity,
    Invitation,
    InvitationId,
)


class IdentityStore(Transaction):
    """Keeps identities and invitations."""

    async def identity(self, identity: Identity) -> BoundIdentity | None:
        row = await self.connection.fetchrow(
            "select * from identities where issuer = $1 and subject = $2", identity.issuer, identity.subject
        )
        return _bound(row) if row else None

    async def identities(self, user_id: UserId) -> list[BoundIdentity]:
        """Those of a user, the oldest first."""
        rows = await self.connection.fetch(
            "select * from identities where user_id = $1 order by bound_at, issuer, subject", user_id
        )
        return [_bound(row) for row in rows]

    async def bind_identity(self, bound: BoundIdentity) -> bool:
        """Whether it was free; else nothing is changed."""
        return bool(
            await self.connection.fetchval(
                """
                insert into identities (issuer, subject, user_id, bound_by, bound_at)
                values ($1, $2, $3, $4, $5) on conflict do nothing returning true
                """,
                bound.identity.issuer,
                bound.identity.subject,
                bound.user_id,
                bound.bound_by,
                bound.bound_at,
            )
        )

    async def unbind_identity(self, user_id: UserId, identity: Identity) -> bool:
        """Whether the user had it."""
        return bool(
            await self.connection.fetchval(
                "delete from identities where user_id = $1 and issuer = $2 and subject = $3 returning true",
                user_id,
                identity.issuer,
                identity.subject,
            )
        )

    async def invitation(self, user_id: UserId) -> Invitation | None:
        row = await self.connection.fetchrow("select * from invitations where user_id = $1", user_id)
        return _invitation(row) if row else None

    async def tried_invitation(self, invitation_id: InvitationId) -> Invitation | None:
        """Counts a try as a wrong one; the invitation with it, None if it takes no try."""
        row = await self.connection.fetchrow(
            """
            update invitations set wrong_codes = wrong_codes + 1
            where invitation_id = $1 and ends_at > $2 and wrong_codes < $3
            returning *
            """,
            invitation_id,
            self.now,
            MAX_WRONG_CODES,
        )
        return _invitation(row) if row else None

    async def note_right_code(self, invitation_id: InvitationId) -> None:
        """The tries before were by who has the code."""
        await self.connection.execute(
            "update invitations set wrong_codes = 0 where invitation_id = $1", invitation_id
        )

    async def lock_invitation(self, invitation_id: InvitationId) -> Invitation | None:
        """The invitation, which nobody else uses or replaces until the end of the transaction."""
        row = await self.connection.fetchrow(
            "select * from invitations where invitation_id = $1 for update", invitation_id
        )
        return _invitation(row) if row else None

    async def save_invitation(self, invitation: Invitation) -> None:
        """In place of the one before of the same user."""
        await self.connection.execute(
            """
            insert into invitations (user_id, invitation_id, digest, invited_by, invited_at, ends_at)
            values ($1, $2, $3, $4, $5, $6)
            on conflict (user_id) do update set invitation_id = excluded.invitation_id,
                digest = excluded.digest, invited_by = excluded.invited_by,
                invited_at = excluded.invited_at, ends_at = excluded.ends_at, wrong_codes = 0, used_at = null
            """,
            invitation.user_id,
            invitation.id,
            invitation.digest,
            invitation.invited_by,
            invitation.invited_at,
            invitation.ends_at,
        )

    async def note_invitation_used(self, invitation_id: InvitationId) -> None:
        await self.connection.execute(
            "update invitations set used_at = $2 where invitation_id = $1", invitation_id, self.now
        )

    async def end_invitation(self, user_id: UserId) -> None:
        """The invitation of a user ends, if they have one."""
        await self.connection.execute("delete from invitations where user_id = $1", user_id)


def _bound(row: asyncpg.Record) -> BoundIdentity:
    return BoundIdentity(
        Identity(row["issuer"], row["subject"]), row["user_id"], row["bound_by"], row["bound_at"]
    )


def _invitation(row: asyncpg.Record) -> Invitation:
    return Invitation(
        row["invitation_id"],
        row["user_id"],
        row["digest"],
        row["invited_by"],
        row["invited_at"],
        row["ends_at"],
        row["wrong_codes"],
        row["used_at"],
    )
