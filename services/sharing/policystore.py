"""The tables of policies of sending facilities, and of what senders chose last."""

from kernel import versions
from kernel.ids import FacilityId
from plumbing.db import Transaction
from services.sharing.validity import Policy
from services.sharing.wanted import Preferences


class PolicyStore(Transaction):
    """Keeps what facilities and senders have chosen."""

    async def policy(self, facility_id: FacilityId) -> Policy:
        """What was set for a facility, else the default."""
        row = await self.connection.fetchrow(
            """
            select facility_id, default_days, maximum_days, unlimited_allowed, further_sharing_allowed,
                version
            from policies where facility_id = $1
            """,
            facility_id,
        )
        return Policy(**row) if row else Policy(facility_id)

    async def lock_policy(self, facility_id: FacilityId) -> versions.Change:
        """Who set it last; until this transaction ends nobody else sets any."""
        await self.connection.execute("lock table policies in share row exclusive mode")
        row = await self.connection.fetchrow(
            "select version, changed_by, changed_at from policies where facility_id = $1", facility_id
        )
        return versions.Change(*row) if row else versions.NEVER_SAVED

    async def save_policy(self, policy: Policy, by: str) -> None:
        await self.connection.execute(
            """
            insert into policies (facility_id, default_days, maximum_days, unlimited_allowed,
                further_sharing_allowed, version, changed_by, changed_at)
            values ($1, $2, $3, $4, $5, $6, $7, $8)
            on conflict (facility_id) do update set default_days = excluded.default_days,
                maximum_days = excluded.maximum_days, unlimited_allowed = excluded.unlimited_allowed,
                further_sharing_allowed = excluded.further_sharing_allowed, version = excluded.version,
                changed_by = excluded.changed_by, changed_at = excluded.changed_at
            """,
            policy.facility_id,
            policy.default_days,
            policy.maximum_days,
            policy.unlimited_allowed,
            policy.further_sharing_allowed,
            policy.version,
            by,
            self.now,
        )

    async def preferences(self, login: str) -> Preferences:
        """What a sender chose last, else the default."""
        row = await self.connection.fetchrow(
            "select two_factor, send_mail from preferences where login = $1", login
        )
        return Preferences(**row) if row else Preferences()

    async def save_preferences(self, login: str, preferences: Preferences) -> None:
        await self.connection.execute(
            """
            insert into preferences (login, two_factor, send_mail) values ($1, $2, $3)
            on conflict (login) do update
                set two_factor = excluded.two_factor, send_mail = excluded.send_mail
            """,
            login,
            preferences.two_factor,
            preferences.send_mail,
        )
