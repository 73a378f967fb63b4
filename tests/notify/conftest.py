"""Notify's use cases on a PostgreSQL of their own, with a real mail server, and owners as a test says."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import pytest

from kernel.delivery import State
from kernel.ids import UUID7
from kernel.language import Language
from plumbing.db import Database
from plumbing.delivering import Sender
from services.notify.channels import MailServer as Post
from services.notify.domain import Bucket, Letter, Notice, Person
from services.notify.reminders import Reminders
from services.notify.rendering import Templates
from services.notify.store import NotifyTransaction
from services.notify.usecases import EVERYTHING, Letters, Notices, Office
from tests.clocks import Clock
from tests.conftest import OpenDatabase
from tests.notify.builders import LINK_BASE, OFFICE, Owners
from tests.notify.mailserver import MailServer, Received, mail_server


@dataclass
class Notify:
    """The use cases, and what a test wants to arrange or see around them."""

    database: Database[NotifyTransaction]
    clock: Clock
    owners: Owners
    server: MailServer
    post: Post
    notices: Notices
    letters: Letters
    sender: Sender[Notice, Letter]
    reminders: Reminders

    async def created(self, bucket: Bucket) -> None:
        """As when `share.created` is heard."""
        snapshot = await self.notices.fetch_bucket(bucket.id)
        async with self.database.transaction() as transaction:
            await self.notices.bucket_created(transaction, snapshot)

    async def ended(self, bucket: Bucket) -> None:
        """As when `share.revoked` is heard of a share that sharing has ended."""
        self.owners.buckets[bucket.id] = replace(bucket, mail_due=False)
        await self.told_that_it_ended(bucket)

    async def told_that_it_ended(self, bucket: Bucket) -> None:
        """As when `share.revoked` is heard, whatever sharing says."""
        snapshot = await self.notices.fetch_bucket(bucket.id)
        async with self.database.transaction() as transaction:
            await self.notices.bucket_ended(transaction, bucket.id, snapshot)

    async def changed(self, person: Person) -> None:
        """As when `user.changed` is heard."""
        users = await self.reminders.fetch(person.id)
        async with self.database.transaction() as transaction:
            await self.reminders.save(transaction, users)

    async def deliver(self) -> list[Received]:
        """Attempts what is due now; what has been received so far."""
        while await self.sender.deliver_next():
            pass
        return self.server.received

    async def remind(self) -> list[str]:
        """What is sent of reminders now: to whom."""
        before = len(self.server.received)
        await self.reminders.plan()
        return [mail.to for mail in (await self.deliver())[before:]]

    async def all(self) -> list[Notice]:
        async with self.database.transaction() as transaction:
            return list(await transaction.list_notices(None, 500, EVERYTHING))

    async def only(self) -> Notice:
        (notice,) = await self.all()
        return notice

    async def state(self) -> State:
        return (await self.only()).state

    async def query(self, sql: str, *values: Any) -> list[asyncpg.Record]:
        async with self.database.statements() as transaction:
            return list(await transaction.connection.fetch(sql, *values))


@pytest.fixture
async def notify(open_database: OpenDatabase) -> AsyncIterator[Notify]:
    clock, owners = Clock(), Owners()
    database = await open_database("notify", NotifyTransaction, clock, UUID7(clock), pool_size=16)
    async with mail_server() as server:
        post = Post("127.0.0.1", server.port, "none", "", "", "readroom@group.example", 2.0, clock)
        office = Office(OFFICE, Language.NL)
        letters = Letters(owners, owners, Templates(LINK_BASE), clock, office)
        notices = Notices(database, owners, owners)
        yield Notify(
            database,
            clock,
            owners,
            server,
            post,
            notices,
            letters,
            Sender("notice", database, letters.write, post, notices.settled),
            Reminders(database, owners, (30, 7, 1), office),
        )
        await post.close()
