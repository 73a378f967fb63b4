"""A hospital announces transfers without end (A26).

Position: a gateway certificate of one hospital.
"""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from kernel.errors import Exhausted
from kernel.ids import UUID7, GatewayId, TransferId
from plumbing.cache import RateWindow
from plumbing.db import Database
from services.ingest.domain import Announcer, Limits
from services.ingest.gateways import Gateways
from services.ingest.store import IngestTransaction
from services.ingest.transfers import Announcement
from tests.ingest.builders import a_uid
from tests.ingest.system import EnrolledGateway, Ingest
from tests.ingest.test_deletion import begin_transfer

A_MINUTE, KEPT = 30, 10


async def a_system(ingest: Ingest, **settings: int) -> tuple[EnrolledGateway, EnrolledGateway]:
    """Started with these limits; two hospitals."""
    ingest.environ |= {f"READROOM_INGEST_{name.upper()}": str(value) for name, value in settings.items()}
    await ingest.stop()
    await ingest.start()
    return await ingest.enrol("RIVERSIDE"), await ingest.enrol("HARBOUR")


async def announced(ingest: Ingest, gateway: EnrolledGateway, count: int) -> list[type]:
    """How each of so many announcements, of a study each, is answered."""
    answers = await asyncio.gather(
        *(begin_transfer(ingest, gateway, a_uid()) for _ in range(count)), return_exceptions=True
    )
    return [type(answer) for answer in answers if isinstance(answer, BaseException)]


@pytest.mark.proves("SEC-3", part="announcements of a gateway")
async def test_who_announces_without_end_is_refused_and_keeps_nobody_else(ingest: Ingest) -> None:
    flooding, other = await a_system(ingest, transfers_per_minute=A_MINUTE)
    # A minute may end in between: then twice as many are taken.
    refused = await announced(ingest, flooding, 3 * A_MINUTE)
    assert set(refused) == {Exhausted}
    assert len(refused) >= A_MINUTE
    rows = await ingest.one("select count(*) from transfers where gateway_id = $1", flooding.gateway_id)
    assert rows == 3 * A_MINUTE - len(refused)
    assert await announced(ingest, other, 1) == []


@pytest.mark.proves("SEC-3", part="announcements of a gateway")
async def test_of_one_gateway_the_newest_announcements_are_kept(ingest: Ingest) -> None:
    flooding, other = await a_system(ingest)
    await announced(ingest, other, 1)
    clock = ingest.clock
    database = await Database.connect(
        ingest.database_url, IngestTransaction, clock=clock, new_id=UUID7(clock), pool_size=1
    )
    rates = RateWindow(ingest.servers.cache_url, clock)
    nobody: Any = None  # no administrator comes in here
    limits = Limits(transfers_kept=KEPT)
    gateways = Gateways(database, nobody, rates, limits, UUID7(clock), clock, lambda: None)
    gateway_id = GatewayId(UUID(flooding.gateway_id))
    announcer = Announcer(gateway_id, "00", "10.0.0.7:4711")
    ids = [TransferId(uuid4()) for _ in range(3 * KEPT)]
    try:
        for number, each in enumerate(ids):
            age = timedelta(minutes=len(ids) - number)
            await gateways.begin_transfer(announcer, [Announcement(each, a_uid(), flooding.title, age)])
        await gateways.prune()
    finally:
        await rates.close()
        await database.close()
    kept = await ingest.rows("select transfer_id from transfers where gateway_id = $1", gateway_id)
    assert {row["transfer_id"] for row in kept} == set(ids[-KEPT:])
    assert await ingest.one("select count(*) from transfers") == KEPT + 1
