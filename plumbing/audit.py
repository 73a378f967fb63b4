"""Audit: who did what to what. The row is written in the transaction of the effect (`Transaction.audit`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


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
    outcome: Literal["done", "refused"]
    detail: Mapping[str, str | int] = field(default_factory=dict)
