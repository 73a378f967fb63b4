"""How often somebody may be wrong: limits on passwords and codes, by account and by address.

A try counts before it is judged, so that many at once are no more than many in a row. The database counts, so
all processes count together. It holds keyed digests: people type passwords where a login belongs.
"""

import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from kernel.errors import Exhausted, Unavailable
from plumbing.db import Database
from web.store import WebTransaction

WINDOW = timedelta(minutes=1)
"""From the first wrong try on; after it, the count begins again."""


class Attempts:
    """Counts the tries that were not right.

    Args:
        kind: what its keys are, such as `login`; two kinds never share a count.
        limit: wrong tries in a window.
        secret: for the digests.
    """

    def __init__(self, database: Database[WebTransaction], kind: str, limit: int, secret: str) -> None:
        self._database = database
        self._kind = kind
        self._limit = limit
        self._secret = secret.encode()

    @asynccontextmanager
    async def counted(self, key: str) -> AsyncIterator[None]:
        """A try: it counts unless it was right, or a part of Readroom was away and nobody could judge it.

        Raises Exhausted if there were too many.
        """
        await self._begin(key)
        try:
            yield
        except Unavailable:
            await self._take_back(key)
            raise
        await self._take_back(key)

    async def _begin(self, key: str) -> None:
        async with self._database.statements() as tx:
            counts = await tx.count_attempt(self._digest(key), self._limit, tx.now, tx.now - WINDOW)
        if not counts:
            raise Exhausted("there were too many wrong attempts: wait for a minute, then try again")

    async def _take_back(self, key: str) -> None:
        async with self._database.statements() as tx:
            await tx.take_back_attempt(self._digest(key))

    def _digest(self, key: str) -> bytes:
        said = f"{self._kind}\0{key}".encode(errors="surrogatepass")
        return hmac.digest(self._secret, said, hashlib.sha256)
