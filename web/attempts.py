"""How often somebody may be wrong: limits on passwords and codes, by account and by address.

A try counts before it is judged, so that many at once are no more than many in a row. The database counts, so
all processes count together. It holds keyed digests: people type passwords where a login belongs.
"""

import hashlib
import hmac
from datetime import timedelta

from kernel.errors import Exhausted
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

    async def begin(self, key: str) -> None:
        """Counts one more; raises Exhausted if there were too many."""
        async with self._database.statements() as tx:
            counts = await tx.count_attempt(self._digest(key), self._limit, tx.now, tx.now - WINDOW)
        if not counts:
            raise Exhausted("there were too many wrong attempts: wait for a minute, then try again")

    async def take_back(self, key: str) -> None:
        """The last one does not count: it was right, or nobody could judge it."""
        async with self._database.statements() as tx:
            await tx.take_back_attempt(self._digest(key))

    def _digest(self, key: str) -> bytes:
        said = f"{self._kind}\0{key}".encode(errors="surrogatepass")
        return hmac.digest(self._secret, said, hashlib.sha256)
