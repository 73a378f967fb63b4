"""Commands on deletion: a case and everything of it, everywhere."""

import click

from kernel.errors import Conflict
from readroom import names
from readroom.acting import acting
from readroom.cases import case
from readroom.client import Readroom
from readroom.heldparts import HELD_PART, held_parts_of_case
from readroom.pages import every, first, newest
from readroom.show import Column, Output, Table, instant
from readroom.words import DELETIONS
from wire.ingest.v1.ingest_pb2 import DeleteStudyRequest, Deletion, ListDeletionsRequest


async def deletion_table(readroom: Readroom) -> Table[Deletion]:
    """The columns of a deletion."""
    name = await names.facility_name(readroom)
    return (
        Column("asked_at", lambda d: instant(d.asked_at)),
        Column("case_id", lambda d: d.case_id),
        Column("facility", lambda d: name(d.facility_id) or None),
        Column("deleted_by", lambda d: d.deleted_by),
        Column("state", lambda d: DELETIONS.word(d.state)),
        Column("closed_at", lambda d: instant(d.closed_at) if d.HasField("closed_at") else None),
        Column("waiting_for", lambda d: list(d.waiting_for)),
        Column("deletion_id", lambda d: d.deletion_id, json_only=True),
    )


@case.command("delete")
@click.argument("case_id")
@click.option("--force", is_flag=True, help="Also while somebody holds its lock.")
@acting
async def delete(readroom: Readroom, out: Output, case_id: str, force: bool) -> None:
    """Delete a case for good: images, reports, shares and whatever else there is of it.

    Nobody sees it any more when this is answered; `readroom deletions` shows how far the rest has come. While
    images that may show another patient are held with it, they are listed, and nothing is deleted.
    """
    try:
        answer = await readroom.ingest.DeleteStudy(DeleteStudyRequest(case_id=case_id, force=force))
    except Conflict as conflict:
        if conflict.field == "case_id":
            out.items(HELD_PART, await held_parts_of_case(readroom, case_id))
        raise
    out.item(await deletion_table(readroom), answer.deletion)


@click.command()
@newest
@acting
async def deletions(readroom: Readroom, out: Output, limit: int) -> None:
    """List deletions and who has not confirmed them yet, newest first."""
    request = ListDeletionsRequest(page_size=min(limit, 500))
    found = every(readroom.ingest.ListDeletions, request, lambda page: page.deletions)
    out.items(await deletion_table(readroom), await first(found, limit))


COMMANDS = (case, deletions)
