"""What notify hears, from sharing, access and ingest; and what it does by itself: plan, count."""

from collections.abc import Sequence
from typing import Any

from prometheus_client import Gauge

from kernel.events import CaseDeleted, Fact, ShareCreated, ShareExpired, ShareRevoked, UserChanged
from kernel.ids import BucketId, CaseId, UserId
from plumbing import log, timers
from plumbing.hearing import Hearing, without_asking
from services.notify.domain import Bucket, Users
from services.notify.reminders import Reminders
from services.notify.usecases import Notices

OPEN = Gauge(
    "readroom_notify_notices", "Notices that are not settled, by state; alert if `dead` grows", ["state"]
)

SENDERS = 16
"""Mails on their way at once: most of the time each waits for an owner, the mail server or a commit."""

LOOK_INTERVAL_S = 1.0
"""How soon a reminder is asked for that became due by the clock."""

COUNT_INTERVAL_S = 15
"""How old the gauge may be: about what a scrape takes to come round."""

_log = log.get()


def hearings(notices: Notices, reminders: Reminders) -> Sequence[Hearing[Any, Any]]:
    """For each fact heard: whom to ask, and what to do with the answer."""

    async def fetch_bucket(fact: Fact) -> Bucket | None:
        return await notices.fetch_bucket(BucketId(fact.id))

    async def bucket_created(transaction: Any, _fact: Fact, bucket: Bucket | None) -> None:
        await notices.bucket_created(transaction, bucket)

    async def bucket_ended(transaction: Any, fact: Fact, bucket: Bucket | None) -> None:
        await notices.bucket_ended(transaction, BucketId(fact.id), bucket)

    async def fetch_user(fact: Fact) -> Users:
        return await reminders.fetch(UserId(fact.id))

    async def save_user(transaction: Any, _fact: Fact, users: Users) -> None:
        await reminders.save(transaction, users)

    async def case_deleted(transaction: Any, fact: Fact, _nothing: None) -> None:
        await notices.case_deleted(transaction, CaseId(fact.id), fact.version)

    return [
        Hearing(ShareCreated, fetch_bucket, bucket_created),
        *(Hearing(fact, fetch_bucket, bucket_ended) for fact in (ShareRevoked, ShareExpired)),
        Hearing(UserChanged, fetch_user, save_user),
        without_asking(
            CaseDeleted, case_deleted, because="notify keeps nothing of cases, so it purges nothing"
        ),
    ]


async def plan(reminders: Reminders) -> None:
    """Asks for each reminder in the second in which it becomes due."""

    async def once() -> None:
        if planned := await reminders.plan():
            _log.info("privileges expire soon", count=planned)

    await timers.every(LOOK_INTERVAL_S, once)


async def count(notices: Notices) -> None:
    """Keeps the gauge."""

    async def once() -> None:
        for state, number in (await notices.count_open()).items():
            OPEN.labels(state.value).set(number)

    await timers.every(COUNT_INTERVAL_S, once)
