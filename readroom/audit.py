"""Commands on the audit that every service keeps."""

from collections.abc import Iterator
from datetime import UTC, datetime

import click

from readroom.acting import listing
from readroom.client import Readroom
from readroom.errors import Incomplete
from readroom.show import Column, Output, instant
from wire.audit.v1.audit_pb2 import VerifyAuditRequest, VerifyAuditResponse

Verified = tuple[str, VerifyAuditResponse]
"""A service and its last word."""

_SEALED_WITHIN_S = 5
"""A row is sealed a second after it was written: the one of asking never is when it is answered."""


def _is_late(answer: VerifyAuditResponse) -> bool:
    """Whether rows wait for longer than it takes."""
    waits_s = datetime.now(UTC).timestamp() - answer.unsealed_since.ToSeconds()
    return bool(answer.unsealed) and waits_s > _SEALED_WITHIN_S


VERIFIED = (
    Column[Verified]("service", lambda v: v[0]),
    Column[Verified]("verified", lambda v: v[1].verified),
    Column[Verified]("anchors", lambda v: v[1].anchors),
    Column[Verified]("anchored_at", lambda v: instant(v[1].anchored_at) if v[1].anchors else None),
    Column[Verified]("unsealed", lambda v: v[1].unsealed if _is_late(v[1]) else 0),
    Column[Verified]("unsealed_since", lambda v: instant(v[1].unsealed_since) if _is_late(v[1]) else None),
    Column[Verified]("fault_number", lambda v: v[1].fault.number if v[1].HasField("fault") else None),
    Column[Verified]("fault", lambda v: v[1].fault.sentence or None),
)


@click.group()
def audit() -> None:
    """What the services wrote down about who did what."""


@audit.command()
@listing
async def verify(readroom: Readroom, out: Output) -> None:
    """Have every service verify its audit rows; ends with 8 if one is not as it was sealed.

    Needs `audit.read`. FAULT says what is wrong with the first row that is, by its number.
    """
    found = [(service, await _last_word(readroom, service)) for service in readroom.audit]
    out.items(VERIFIED, found)
    if faults := list(_faults(found)):
        raise Incomplete("; ".join(faults))


async def _last_word(readroom: Readroom, service: str) -> VerifyAuditResponse:
    answers = [answer async for answer in readroom.audit[service].VerifyAudit(VerifyAuditRequest())]
    if not answers or not answers[-1].done:
        raise Incomplete(f"`{service}` did not verify its audit to the end")
    return answers[-1]


def _faults(found: list[Verified]) -> Iterator[str]:
    for service, answer in found:
        if answer.HasField("fault"):
            yield f"audit row {answer.fault.number} of `{service}` {answer.fault.sentence}"


COMMANDS = (audit,)
