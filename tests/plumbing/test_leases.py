"""Leases: one process at a time does a task, and another goes on when it dies."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from local.embedded import EmbeddedServers
from plumbing.db import Database
from plumbing.leases import Lease
from tests.plumbing.telling import Ledger, a_database, new_id
from tests.wait import eventually


@pytest.fixture
async def database(servers: EmbeddedServers) -> AsyncIterator[Database[Ledger]]:
    async with a_database(servers) as made:
        yield made


def a_lease(database: Database[Ledger], task: str = "describe", *, held_for_s: float = 30) -> Lease:
    """As a process of its own has it."""
    return Lease(database, task, new_id(), held_for=timedelta(seconds=held_for_s))


async def test_of_many_processes_one_has_the_lease_and_renews_it(database: Database[Ledger]) -> None:
    leases = [a_lease(database) for _ in range(8)]
    held = await asyncio.gather(*(lease.hold() for lease in leases))
    assert held.count(True) == 1
    assert await asyncio.gather(*(lease.hold() for lease in leases)) == held
    assert await a_lease(database, "another task").hold()


async def test_a_lease_that_is_not_renewed_ends_and_another_process_takes_it(
    database: Database[Ledger],
) -> None:
    dead, alive = a_lease(database, held_for_s=0.3), a_lease(database, held_for_s=0.3)
    assert await dead.hold()
    assert not await alive.hold()
    await eventually(alive.hold)
    assert not await dead.hold()


async def test_a_lease_that_is_given_back_is_free_at_once_and_only_its_holder_gives_it_back(
    database: Database[Ledger],
) -> None:
    first, second = a_lease(database), a_lease(database)
    assert await first.hold()
    await second.give_back()
    assert not await second.hold()
    await first.give_back()
    assert await second.hold()


async def test_a_lease_of_a_time_before_the_clock_was_set_back_binds_nobody(
    database: Database[Ledger],
) -> None:
    assert await a_lease(database).hold()
    async with database.statements() as statements:
        await statements.connection.execute("update leases set ends_at = ends_at + interval '1 day'")
    assert await a_lease(database).hold()
