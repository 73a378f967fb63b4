"""Rate windows: counted in Valkey, alone while it is away, never waited for."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis

from local.embedded import EmbeddedServers
from plumbing import cache
from plumbing.cache import RateWindow
from tests.wait import Stopwatch, eventually


class SettableClock:
    def __init__(self) -> None:
        self.time = datetime(2026, 11, 21, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
async def window(servers: EmbeddedServers, clock: SettableClock) -> AsyncIterator[RateWindow]:
    """Connected: on a busy machine the first answer may take longer than it is waited for."""
    made = RateWindow(servers.cache_url, clock)

    async def answers() -> bool:
        clock.advance(3600)  # past the time in which it counts alone
        await made.allow("anybody there", 1, 60)
        return bool(cache.UP._value.get())

    await eventually(answers)
    yield made
    await made.close()


def a_key(request: pytest.FixtureRequest) -> str:
    return f"{request.node.name}:{time.time_ns()}"


async def allowed(window: RateWindow, key: str, times: int, limit: int = 3) -> list[bool]:
    return [await window.allow(key, limit, 60) for _ in range(times)]


async def test_what_exceeds_the_limit_is_refused_until_the_next_window(
    request: pytest.FixtureRequest, window: RateWindow, clock: SettableClock
) -> None:
    key = a_key(request)
    assert await allowed(window, key, 5) == [True, True, True, False, False]
    assert cache.UP._value.get() == 1
    assert await allowed(window, f"{key}x", 1) == [True]
    clock.advance(60)
    assert await allowed(window, key, 1) == [True]


async def test_processes_count_together(
    request: pytest.FixtureRequest, servers: EmbeddedServers, window: RateWindow, clock: SettableClock
) -> None:
    key = a_key(request)
    another = RateWindow(servers.cache_url, clock)
    assert await allowed(window, key, 2) == [True, True]
    assert await allowed(another, key, 2) == [True, False]
    await another.close()


async def test_what_is_counted_leaves_valkey_by_itself(
    request: pytest.FixtureRequest, servers: EmbeddedServers, window: RateWindow
) -> None:
    key = a_key(request)
    await allowed(window, key, 1)
    redis = Redis.from_url(servers.cache_url)
    (kept,) = [name async for name in redis.scan_iter(f"rate:{key}*")]
    assert 0 < await redis.ttl(kept) <= 120
    await redis.aclose()


async def test_without_valkey_each_process_counts_alone(clock: SettableClock) -> None:
    window = RateWindow("redis://127.0.0.1:1", clock)
    assert await allowed(window, "k", 4) == [True, True, True, False]
    assert cache.UP._value.get() == 0
    clock.advance(60)
    assert await allowed(window, "k", 1) == [True]
    await window.close()


async def test_a_silent_valkey_costs_200_ms_once_a_second(clock: SettableClock) -> None:
    connections = 0

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        window = RateWindow(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", clock)
        watch = Stopwatch()
        assert await allowed(window, "k", 50, limit=50) == [True] * 50
        assert watch.seconds() < 0.4
        assert connections == 1
        clock.advance(1)
        await allowed(window, "k", 1)
        assert connections == 2
        await window.close()


async def test_it_counts_together_again_when_valkey_is_back(
    request: pytest.FixtureRequest, servers: EmbeddedServers, clock: SettableClock
) -> None:
    key = a_key(request)
    window = RateWindow(servers.cache_url, clock)
    window._away_until_s = clock.now().timestamp() + 1
    await allowed(window, key, 2)
    clock.advance(1)
    assert await allowed(window, key, 4) == [True, True, True, False]
    await window.close()


async def test_local_counts_are_bounded(clock: SettableClock) -> None:
    window = RateWindow("redis://127.0.0.1:1", clock)
    for number in range(10_001):
        await window.allow(str(number), 1, 60)
    assert len(window._local) <= 10_000
    await window.close()
