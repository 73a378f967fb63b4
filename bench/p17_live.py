"""P17: worklists that tell what changes: 200 that are watched, 100 changes a second.

From the commit of a change to each message that tells it, at every list that shows the case. And the share of
a processor that access and PostgreSQL take for it, beyond what the same changes take when nobody watches.
Half of the users see the same as others, as radiologists of one group do; the lists of the rest are distinct.
"""

import asyncio
import contextlib
import os
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import grpc

from bench.peers import processor_seconds
from bench.results import Result, at_most, percentile, spread
from kernel.clock import MonotonicClock
from local.system import LocalSystem
from plumbing import minting, rpc, tls
from readroom.endpoints import Endpoints
from readroom.session import read_private
from wire.access.v1 import access_pb2, access_pb2_grpc

WATCHERS = int(os.environ.get("BENCH_P17_WATCHERS", "200"))
CHANGES_A_SECOND = 100
SECONDS = int(os.environ.get("BENCH_P17_SECONDS", "20"))
FACILITIES, CASES = 20, 20_000
EACH_SEES = 5
"""Facilities."""
DUE_MS = 1000  # A69

Committed = dict[str, list[float]]
"""When the changes of each case were committed."""


async def measure() -> Sequence[Result]:
    results = []
    async with _system() as (system, connection):
        lively = await _load(connection)
        alone = await _share(system, _change(connection, lively, defaultdict(list)))
        for what, alike in (("half of them alike", True), ("all distinct", False)):
            committed: Committed = defaultdict(list)
            delays: list[float] = []
            async with _watching(system, committed, delays, alike=alike):
                delays.clear()
                shares = await _share(system, _change(connection, lively, committed))
            results += _results(what, delays, shares, alone)
    return results


def _results(
    what: str, delays: Sequence[float], shares: tuple[float, float], alone: tuple[float, float]
) -> list[Result]:
    what = f"{WATCHERS} watched lists, {what}, {CHANGES_A_SECOND} changes a second"
    in_ms = [1000 * each for each in delays]
    told = Result(
        id="P17",
        what=f"{what}: commit to message, p50",
        ours=percentile(in_ms, 0.5),
        unit="ms",
        runs=len(in_ms),
        spread=spread(in_ms),
    )
    late = Result(
        id="P17",
        what=f"{what}: commit to message, p99",
        ours=percentile(in_ms, 0.99),
        unit="ms",
        runs=len(in_ms),
        spread=spread(in_ms),
        due=at_most(DUE_MS),
    )
    takes = [
        Result(
            id="P17",
            what=f"{what}: share of a processor that {whose} takes for it",
            ours=100 * (share - before),
            unit="%",
            runs=1,
            spread="",
        )
        for whose, share, before in zip(("access", "PostgreSQL"), shares, alone, strict=True)
    ]
    return [late, told, *takes]


@contextlib.asynccontextmanager
async def _system() -> AsyncIterator[tuple[LocalSystem, "asyncpg.Connection[Any]"]]:
    with tempfile.TemporaryDirectory(prefix="readroom-bench-") as name:
        system = LocalSystem(Path(name) / "data", first_admin="bench")
        system.start()
        try:
            connection = await asyncpg.connect(system.servers.database_url("access"))
            yield system, connection
            await connection.close()
        finally:
            system.stop()


def _id(kind: int, number: int) -> UUID:
    return UUID(int=(kind << 120) + number)


async def _load(connection: "asyncpg.Connection[Any]") -> list[UUID]:
    """Facilities, users and cases; answers the newest cases, which the lists show."""
    await connection.executemany(
        "insert into facilities (facility_id, name, time_zone, version) values ($1, $2, 'UTC', 1)",
        [(_id(2, number), f"Hospital {number}") for number in range(FACILITIES)],
    )
    users = range(2 * WATCHERS)
    await connection.executemany(
        "insert into users (user_id, login, name, role, active, version)"
        " values ($1, $2, $2, 'radiologist', true, 1)",
        [(_id(1, number), f"user{number}") for number in users],
    )
    await connection.executemany(
        "insert into privileges (user_id, facility_id, level, read_types) values ($1, $2, 3, '{final}')",
        [
            (_id(1, number), _id(2, (_first(number) + place) % FACILITIES))
            for number in users
            for place in range(EACH_SEES)
        ],
    )
    distinct = "(AssignedToUser = '$user' or StudyStatusID in ('READY_TO_READ', 'ASSIGNED'))"
    await connection.executemany(
        "insert into user_filters (user_id, expression, historical, version, changed_by, changed_at)"
        " values ($1, $2, 'off', 1, '', now())",
        [(_id(1, number), distinct) for number in users if _is_distinct(number)],
    )
    await connection.execute(
        """
        insert into cases (case_id, facility_id, received_at, study_instance_uid, undistributed, placed_at,
            placement_version, patient_name, patient_id, patient_birth_date, patient_sex, study_date,
            study_time,
            study_description, accession_number, referring_physician_name, modalities_in_study, series_count,
            instance_count, settled, version, derived, derived_in, status_group, status_facility,
            parts_version
        )
        select ('03000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
            ('02000000-0000-0000-0000-' || lpad(to_hex(n % $2), 12, '0'))::uuid,
            now() - n * interval '1 minute', '1.2.' || n, false, now(), 1, 'Doe^' || n, 'P' || n, '', 'F',
            '20261101', '120000', 'CT CHEST', 'A' || n, 'Roe^Jane', '{CT}', 1, 1, true, 1, 1, 1,
            'READY_TO_READ', 'READY_TO_READ', 1
        from generate_series(0, $1 - 1) as made (n)
        """,
        CASES,
        FACILITIES,
    )
    await connection.execute("vacuum analyze cases")
    rows = await connection.fetch("select case_id from cases order by received_at desc limit $1", 200)
    return [row["case_id"] for row in rows]


def _is_distinct(number: int) -> bool:
    """Of the first lists every second one; of the others all."""
    return number >= WATCHERS or number % 2 == 1


def _first(number: int) -> int:
    return 2 * number % FACILITIES


async def _change(
    connection: "asyncpg.Connection[Any]", lively: Sequence[UUID], committed: Committed
) -> None:
    """Other titles for cases at random, and when each was committed."""
    chance = random.Random(1)
    began = time.perf_counter()
    for number in range(SECONDS * CHANGES_A_SECOND):
        due = began + number / CHANGES_A_SECOND
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        case_id = chance.choice(lively)
        await connection.execute(
            "update cases set calling_ae_title = $2, version = version + 1 where case_id = $1",
            case_id,
            f"AE{number}",
        )
        committed[str(case_id)].append(time.perf_counter())


async def _share(system: LocalSystem, change: Any) -> tuple[float, float]:
    """Processor seconds a second of access and of PostgreSQL while the changes are made."""
    postgres = system.servers.postgres.pid

    def used() -> tuple[float, float]:
        children = Path(f"/proc/{postgres}/task/{postgres}/children").read_text().split()
        return (
            processor_seconds([system.service_pid("access")]),
            processor_seconds([postgres, *map(int, children)]),
        )

    before, began = used(), time.perf_counter()
    await change
    after, took = used(), time.perf_counter() - began
    return (after[0] - before[0]) / took, (after[1] - before[1]) / took


async def _all(events: Sequence[asyncio.Event]) -> None:
    for each in events:
        await each.wait()


@contextlib.asynccontextmanager
async def _watching(
    system: LocalSystem, committed: Committed, delays: list[float], *, alike: bool
) -> AsyncIterator[None]:
    """Everybody watches; a message that tells of a case is held against the first change not told before."""
    endpoints = Endpoints.read(system.data_dir)
    caller = rpc.TLSFiles(endpoints.caller_certificate, endpoints.caller_key, endpoints.service_ca)
    channel = grpc.aio.secure_channel(
        endpoints.services["access"],
        tls.grpc_channel_credentials(caller),
        options=[("grpc.ssl_target_name_override", "access.readroom")],
    )
    stub = access_pb2_grpc.AccessServiceStub(channel)
    key = read_private(endpoints.issuer_key)
    started = [asyncio.Event() for _ in range(WATCHERS)]
    told: dict[str, dict[int, float]] = defaultdict(dict)

    async def watch(place: int) -> None:
        login = f"user{place if alike else WATCHERS + place}"
        now = MonotonicClock().now()
        token = minting.mint(key, login=login, session="bench", audience="access", now=now)
        headers = (("authorization", f"Bearer {token}"),)
        stream = stub.WatchCases(access_pb2.WatchCasesRequest(rows=50), timeout=600, metadata=headers)
        async for answer in stream:
            came = time.perf_counter()
            started[place].set()
            for row in answer.rows:
                last = told[row.case.case_id].get(place, 0.0)
                changed = [at for at in committed[row.case.case_id] if at > last]
                if changed:
                    delays.append(came - changed[0])
                told[row.case.case_id][place] = came

    tasks = [asyncio.create_task(watch(place)) for place in range(WATCHERS)]
    try:
        all_started = asyncio.create_task(_all(started))
        await asyncio.wait({*tasks, all_started}, timeout=120, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
        if not all_started.done():
            raise RuntimeError("not everybody was told their list within 120 s")
        yield
        await asyncio.sleep(1)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await channel.close()
