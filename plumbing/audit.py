"""Audit: who did what to what, and the chain that shows whether it still says so (SEC-15).

The row is written in the transaction of the effect (`Transaction.audit`); `sealing.py` chains it afterwards.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

import asyncpg
import msgspec

from kernel.database import Outcome


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One act, done or refused. It names people and things by login and id, never a patient.

    Attributes:
        actor: a login, `gateway:<id>` or `service:<name>`.
        action: noun and past participle, as in `case.distributed`.
        object: kind and id, as in `case:<id>`.
        outcome: whether it was done.
        detail: what else a reviewer needs to know.
    """

    actor: str
    action: str
    object: str
    outcome: Outcome
    detail: Mapping[str, str | int] = field(default_factory=dict)


CHAINED = """
    id, to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') as at,
    actor, action, object, outcome, detail::text as detail
"""
"""What a seal covers beside its number, as SQL that answers the same wherever it runs."""


@dataclass(frozen=True, slots=True)
class Link:
    """The place of a row in the chain."""

    number: int
    seal: bytes


class Chain:
    """Seals: HMAC-SHA-256 over number, row and the seal before it.

    Without the key nobody can make the seal of a row, so none can be changed, moved, inserted or taken from
    the middle without a trace.

    Attributes:
        start: stands before the first row.
    """

    def __init__(self, key: str, service: str) -> None:
        self._key = key.encode()
        self.start = Link(0, hmac.digest(self._key, f"audit of {service}".encode(), "sha256"))

    def after(self, before: Link, row: asyncpg.Record) -> Link:
        """The place of `row`, read as CHAINED, after another."""
        number = before.number + 1
        said = [
            number,
            *(row[name] for name in ("id", "at", "actor", "action", "object", "outcome", "detail")),
        ]
        return Link(number, hmac.digest(self._key, before.seal + msgspec.json.encode(said), "sha256"))
