"""Reminders of privileges that expire: which have become due, and for whom."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from kernel.database import Database
from kernel.healing import Kind
from kernel.ids import UserId
from services.notify.domain import AboutPrivilege, Expiring, Message, Users, due_step
from services.notify.usecases import Access, Office

if TYPE_CHECKING:
    from services.notify.store import NotifyTransaction


class Reminders:
    """Tells users and the office of privileges before they expire (NTF-1, A51)."""

    def __init__(
        self, database: Database[NotifyTransaction], access: Access, steps: Collection[int], office: Office
    ) -> None:
        self._database = database
        self._access = access
        self._steps = steps
        self._messages = [Message.PRIVILEGE_EXPIRING]
        if office.address:
            self._messages.append(Message.PRIVILEGE_EXPIRING_OFFICE)

    async def fetch(self, user_id: UserId) -> Users:
        return await self._access.describe_users([user_id])

    async def save(self, transaction: NotifyTransaction, users: Users) -> int:
        """Keeps what is newer; a privilege that was renewed or taken away is not reminded of any more."""
        saved = 0
        for person in users.people.values():
            ending = [
                Expiring(each.user_id, each.facility_id, each.expires_at)
                for each in users.privileges
                if each.user_id == person.id and person.active
            ]
            if await transaction.save_user(person, ending):
                await transaction.cancel_reminders(
                    person.id, ending, "the privilege was renewed or taken away"
                )
                if person.active and person.email:
                    await self._ask_again(transaction, person.id)
                saved += 1
        return saved

    async def _ask_again(self, transaction: NotifyTransaction, user_id: UserId) -> None:
        """Asks once more for the last reminder of each privilege.

        One that was cancelled, because the user had no address or was not active, waits again.
        Any other stays as it is.
        """
        for expiring in await transaction.reminded(user_id):
            await self._ask(transaction, expiring, expiring.last_days)

    async def _ask(self, transaction: NotifyTransaction, expiring: Expiring, days: int | None) -> None:
        assert days is not None
        about = AboutPrivilege(expiring.user_id, expiring.facility_id, expiring.expires_at, days)
        for message in self._messages:
            await transaction.ask(message, about)

    async def plan(self) -> int:
        """Asks for the reminders that have become due; how many privileges they are about."""
        if not self._steps:
            return 0
        planned = 0
        async with self._database.transaction() as transaction:
            for expiring in await transaction.lock_due(self._steps):
                days = due_step(expiring, self._steps, transaction.now)
                if days is None:
                    continue
                await self._ask(transaction, expiring, days)
                await transaction.save_step(replace(expiring, last_days=days))
                planned += 1
        return planned

    def kinds(self) -> Sequence[Kind]:
        """What is kept of access, to be compared with it."""
        return [
            Kind("users", self._access.users_said, self._access.user_versions, self._stale, self._catch_up)
        ]

    async def _stale(self, told: Mapping[UUID, int]) -> Collection[UserId]:
        async with self._database.transaction() as transaction:
            known = await transaction.known_versions(told.keys())
        return [UserId(user_id) for user_id, version in told.items() if version > known.get(user_id, 0)]

    async def _catch_up(self, user_id: UserId) -> bool:
        users = await self.fetch(user_id)
        async with self._database.transaction() as transaction:
            return bool(await self.save(transaction, users))
