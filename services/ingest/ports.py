"""What every use case of ingest needs of its database; each says beside it what else its transactions do."""

from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Literal, Protocol, TypeVar

Outcome = Literal["done", "refused"]

T_co = TypeVar("T_co", covariant=True)


class Recorder(Protocol):
    """A transaction: one instant, and audit rows that commit with its effect."""

    @property
    def now(self) -> datetime: ...
    async def record(
        self, actor: str, action: str, object_: str, outcome: Outcome, **detail: str | int
    ) -> None: ...


class Database(Protocol[T_co]):
    """Opens transactions, or single statements that commit by themselves; and audits what is refused."""

    def transaction(self) -> AbstractAsyncContextManager[T_co]: ...
    def statements(self) -> AbstractAsyncContextManager[T_co]: ...
    def audited(self, actor: str, action: str, object_: str) -> AbstractAsyncContextManager[None]: ...
    async def refuse(self, actor: str, action: str, object_: str, **detail: str | int) -> None: ...
