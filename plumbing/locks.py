"""Advisory locks of PostgreSQL: who holds what nobody else may do meanwhile.

A lock has two integers: its class, and within the class what it is about. So no id that comes from outside
can pick the lock of another class; ids of one class that share the 32 bits only wait for each other.
"""

import asyncio
from collections.abc import Iterable
from enum import IntEnum
from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


ASK_AGAIN_S = 0.2
"""Between two questions for a lock that somebody holds."""


class LockClass(IntEnum):
    """The classes of locks, over all databases. A number is never given to another class."""

    GATEWAY = 1
    """Whoever indexes instances of a gateway, and whoever ends it; `gateway_lock_class` in ingest's SQL."""

    MIGRATION = 2
    """Whoever migrates a database."""

    SEAL = 3
    """Whoever seals audit rows."""

    ADMINISTRATION = 4
    """Alone: whoever changes what users are compiled from. Together with others: whoever acts on what their
    user is, so that nobody loses the right to do what they are doing."""

    CASE = 5
    """Whoever indexes or purges a case, by its CaseId."""

    TEXTS = 6
    """Whoever counts texts to a mobile number, by its keyed digest."""

    BUCKET = 7
    """Whoever grants, changes or opens a bucket, by a few bits of its id."""

    PATIENT = 8
    """Whoever makes, links or drops a patient record, by a digest of its number."""


_EARLIER = {
    LockClass.MIGRATION: 0x5245_4144_524F_4F4D,
    LockClass.SEAL: 0x5345_414C_5345_414C,
    LockClass.ADMINISTRATION: 0x4143_4345_5353,
}
"""The one integer by which the version before knows the lock. For one release both are held, so that
processes of both versions keep out of each other's way."""


def _key(about: int) -> int:
    """32 bits of it, as PostgreSQL's integer."""
    low = about & 0xFFFF_FFFF
    return low - (1 << 32) if low >> 31 else low


def _keys(lock: LockClass, about: int, earlier: int | None) -> tuple[int, int, int | None]:
    """Class, key, and the integer of the version before: for an id never that of another class."""
    if lock in _EARLIER:
        earlier = _EARLIER[lock]
    elif earlier in _EARLIER.values():
        earlier = None
    return lock, _key(about), earlier


async def hold(
    connection: "Connection", lock: LockClass, about: int = 0, *, earlier: int | None = None
) -> None:
    """Waits for the lock and holds it until the end of the transaction.

    `earlier` is how the version before calls the lock of this id, as a signed integer of 64 bits.
    """
    await connection.execute(
        "select pg_advisory_xact_lock($1, $2), pg_advisory_xact_lock($3)", *_keys(lock, about, earlier)
    )


async def hold_all(
    connection: "Connection", lock: LockClass, abouts: Iterable[tuple[int, int | None]]
) -> None:
    """Holds several locks of a class, each with how the version before calls it if it knows it.

    Taken in the order of their keys, so that two who want the same ones do not wait for each other for ever.
    """
    keys = sorted({_keys(lock, about, earlier)[1:] for about, earlier in abouts}, key=lambda each: each[0])
    await connection.execute(
        """
        select pg_advisory_xact_lock($1, key), pg_advisory_xact_lock(earlier)
        from unnest($2::integer[], $3::bigint[]) as wanted (key, earlier)
        """,
        lock,
        [key for key, _ in keys],
        [earlier for _, earlier in keys],
    )


async def hold_together(connection: "Connection", lock: LockClass) -> None:
    """Waits for the lock and holds it until the end of the transaction, beside others who hold it so."""
    await connection.execute(
        "select pg_advisory_xact_lock_shared($1, $2), pg_advisory_xact_lock_shared($3)",
        *_keys(lock, 0, None),
    )


async def try_hold(connection: "Connection", lock: LockClass) -> bool:
    """Holds the lock until the end of the transaction, if nobody else does."""
    return bool(
        await connection.fetchval(
            "select pg_try_advisory_xact_lock($1, $2) and pg_try_advisory_xact_lock($3)",
            *_keys(lock, 0, None),
        )
    )


async def hold_for_session(connection: "Connection", lock: LockClass) -> None:
    """Waits for the lock and holds it for as long as the connection lives.

    It asks again and again. A statement that waits would keep a snapshot, and `create index concurrently`
    of the holder waits for snapshots: both would wait for each other.
    """
    class_, about, earlier = _keys(lock, 0, None)
    questions: list[tuple[str, tuple[int, ...]]] = [("pg_try_advisory_lock($1, $2)", (class_, about))]
    if earlier is not None:
        questions.append(("pg_try_advisory_lock($1)", (earlier,)))
    for question, keys in questions:
        while True:
            if await connection.fetchval(f"select {question}", *keys):
                break
            await asyncio.sleep(ASK_AGAIN_S)
