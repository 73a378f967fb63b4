"""Transactions of sharing whose statements are noted."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from services.sharing.store import SharingTransaction


class Heard:
    """A connection that notes each statement."""

    said: list[str]

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._connection, name)
        if name not in ("execute", "executemany", "fetch", "fetchrow", "fetchval"):
            return attribute

        async def heard(sql: str, *values: Any) -> Any:
            Heard.said.append(sql)
            return await attribute(sql, *values)

        return heard


class HeardTransaction(SharingTransaction):
    """A transaction whose statements are noted."""

    def __init__(self, connection: Any, *, now: datetime, new_id: Callable[[], UUID]) -> None:
        super().__init__(cast("Any", Heard(connection)), now=now, new_id=new_id)
