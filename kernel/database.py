"""What a use case needs of its database: transactions of its service, and an audit of what is refused."""

from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol, TypeVar

Outcome = Literal["done", "refused"]
"""Whether an act that is audited was done."""

T_co = TypeVar("T_co", covariant=True)


class Database(Protocol[T_co]):
    """Opens transactions, or single statements that commit by themselves; and audits what is refused.

    What a transaction does the store of the service says; a use case names it for its type alone.
    """

    def transaction(self) -> AbstractAsyncContextManager[T_co]: ...
    def statements(self) -> AbstractAsyncContextManager[T_co]: ...
    def audited(
        self, actor: str, action: str, object_: str, *, reason: bool = False
    ) -> AbstractAsyncContextManager[None]: ...
    async def refuse(self, actor: str, action: str, object_: str, **detail: str | int) -> None: ...
