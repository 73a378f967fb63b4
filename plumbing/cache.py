"""Valkey, for what may be lost: rate windows. It holds no patient data and protects nothing alone.

While it does not answer, each process counts for itself: a limit becomes looser, never a wait.
"""

import asyncio
import ssl
from collections import Counter
from pathlib import Path
from typing import Any

from prometheus_client import Gauge
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from kernel.clock import Clock
from plumbing import log, remote
from plumbing.renewed import Text, asked

# Nobody waits longer than this for a counter.
_ANSWER_WITHIN_S = 0.2
# And while Valkey is away, only one call in this time tries it.
_ASK_AGAIN_AFTER_S = 1.0
_MAX_LOCAL_KEYS = 10_000

_VERIFIED: dict[str, Any] = {
    "ssl_cert_reqs": "required",
    "ssl_check_hostname": True,
    "ssl_min_version": ssl.TLSVersion.TLSv1_2,
}
UP = Gauge("readroom_cache_up", "Alert at 0: whether the cache answered when it was last asked")
UP.set(1)

_log = log.get()


class RateWindow:
    """Counts what happens under a key in windows of fixed length."""

    def __init__(self, url: Text, clock: Clock, ca: Path | None = None) -> None:
        """`ca` is of the server's certificate, where the URL says TLS; it is read for each connection."""
        self._url, self._ca = asked(url), ca
        self._connected_to = self._url()
        self._redis = self._client(self._connected_to)
        self._clock = clock
        self._away_until_s = 0.0
        self._local: Counter[tuple[str, int]] = Counter()

    def _client(self, url: str) -> Redis:
        encrypted = remote.context(url, remote.CACHE, self._ca) is not None
        return Redis.from_url(
            url,
            socket_timeout=_ANSWER_WITHIN_S,
            socket_connect_timeout=_ANSWER_WITHIN_S,
            retry=Retry(NoBackoff(), 0),
            **(_VERIFIED | {"ssl_ca_certs": str(self._ca)} if encrypted else {}),
        )

    async def allow(self, key: str, limit: int, window_s: int, *, times: int = 1) -> bool:
        """Counts one, or `times`; whether there are at most `limit` under `key` in this window of `window_s`
        seconds."""
        now_s = self._clock.now().timestamp()
        window = int(now_s // window_s)
        if not 0 < self._away_until_s - now_s <= _ASK_AGAIN_AFTER_S:  # more: the clock was set back
            try:
                count = await self._count(f"rate:{key}:{window_s}:{window}", window_s, times)
            except (RedisError, OSError, TimeoutError) as error:
                self._away_until_s = now_s + _ASK_AGAIN_AFTER_S
                UP.set(0)
                _log.warning("the cache does not answer: counting alone", exc_info=error)
            else:
                UP.set(1)
                return count <= limit
        return self._count_alone((f"{key}:{window_s}", window), times) <= limit

    async def _count(self, key: str, window_s: int, times: int) -> int:
        if (url := self._url()) != self._connected_to:
            before, self._redis, self._connected_to = self._redis, self._client(url), url
            await before.aclose()
        async with asyncio.timeout(_ANSWER_WITHIN_S), self._redis.pipeline(transaction=False) as pipeline:
            pipeline.incrby(key, times)
            pipeline.expire(key, 2 * window_s)
            count, _ = await pipeline.execute()
            return int(count)

    def _count_alone(self, key: tuple[str, int], times: int) -> int:
        if len(self._local) >= _MAX_LOCAL_KEYS and key not in self._local:
            self._local.clear()
        self._local[key] += times
        return self._local[key]

    async def close(self) -> None:
        await self._redis.aclose()
