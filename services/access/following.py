"""What follows the reading of a case: images since the report, status, and the end of an assignment.

Whoever calls these holds the lock of the case (`hold_case`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel.events import CaseGrown, SightChanged
from kernel.ids import CaseId
from services.access.reading import KeptReading, Reading

if TYPE_CHECKING:
    from services.access.store import AccessTransaction


ACTOR = "service:access"
"""Who acts when access does by itself what follows from a fact."""


async def keep(transaction: AccessTransaction, reading: Reading) -> None:
    """Keeps what reporting said of a case, and what follows.

    Sight depends on a reading through filters alone, and that changes no revision, as an arrival does not.
    But a pre-read by its assignee ends an assignment (A33), and that changes sight.
    """
    case_id = reading.case_id
    await transaction.save_reading(reading)
    await mark_late_images(transaction, case_id)
    kept = await follow(transaction, case_id)
    if kept and kept.assignment and kept.assignment.is_ended_by(reading.signed):
        await end_assignment(transaction, case_id, "pre_read")
        await transaction.say(SightChanged(case_id, await transaction.bump_case(case_id)))
        await transaction.bump_revision()


async def after_indexing(transaction: AccessTransaction, case_id: CaseId) -> None:
    """What follows after the entry of a case was written."""
    kept = await follow(transaction, case_id)
    if kept and kept.projections:
        await mark_late_images(transaction, case_id)


async def mark_late_images(transaction: AccessTransaction, case_id: CaseId) -> None:
    """Says once that a case has images that its report has not seen, whatever was heard first."""
    version = await transaction.mark_late_images(case_id)
    if version is not None:
        await transaction.say(CaseGrown(case_id, version))


async def follow(transaction: AccessTransaction, case_id: CaseId) -> KeptReading | None:
    """Keeps what follows from the reading of a case in its row, as filters ask for it (A64)."""
    kept = await transaction.kept_reading(case_id)
    if kept is not None:
        await transaction.save_followed(case_id, kept.followed(), is_read=bool(kept.projections))
    return kept


async def end_assignment(transaction: AccessTransaction, case_id: CaseId, reason: str) -> None:
    """Lets nobody be the reader of a case; nothing if nobody was."""
    if (user_id := await transaction.unassign(case_id)) is None:
        return
    await transaction.record(
        ACTOR, "case.assignment_ended", f"case:{case_id}", "done", user=str(user_id), reason=reason
    )
    await follow(transaction, case_id)
