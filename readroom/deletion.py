"""Commands on deletion: a case and everything of it, everywhere."""

import sys

import click

from kernel.errors import Conflict
from readroom import names
from readroom.acting import listing
from readroom.cases import case
from readroom.client import Readroom
from readroom.heldparts import HELD_PART, held_parts_of_case
from readroom.pages import every, first, newest
from readroom.show import Column, Output, Table, day, harmless, instant, person
from readroom.words import DELETIONS
from wire.access.v1.access_pb2 import DescribeCaseRequest
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
@click.option("--force", is_flag=True, help="Delete it even while somebody holds its lock.")
@click.option("--yes", is_flag=True, help="Do not ask first.")
@listing
async def delete(readroom: Readroom, out: Output, case_id: str, force: bool, yes: bool) -> None:
    """Delete a case for good: images, reports, shares and whatever else there is of it. Asks first.

    Nobody sees it any more when this is answered; `readroom deletions` shows how far the rest has come. While
    images that may show another patient are held with it, they are listed, and nothing is deleted.
    """
    if not yes:
        await _ask(readroom, case_id)
    try:
        answer = await readroom.ingest.DeleteStudy(DeleteStudyRequest(case_id=case_id, force=force))
    except Conflict as conflict:
        if conflict.field == "case_id":
            out.items(HELD_PART, await held_parts_of_case(readroom, case_id))
        raise
    out.item(await deletion_table(readroom), answer.deletion)


async def _ask(readroom: Readroom, case_id: str) -> None:
    """Says what would be deleted, and goes on only if somebody at a terminal agrees."""
    if not sys.stdin.isatty():
        raise click.UsageError("deleting is for good: add --yes where nobody can be asked")
    case = (await readroom.access.DescribeCase(DescribeCaseRequest(case_id=case_id))).case
    of = f"{person(case.patient_name) or 'no name'} ({case.patient_id or 'no ID'})"
    images = "1 image" if case.instance_count == 1 else f"{case.instance_count} images"
    what = " ".join(filter(None, (day(case.study_date), case.study_description)))
    click.echo(harmless(f"{of}: {what}, {images}, at {case.facility_name}"), err=True)
    click.confirm("Delete it for good, with its reports and shares?", abort=True, err=True)


@click.command()
@newest
@listing
async def deletions(readroom: Readroom, out: Output, limit: int) -> None:
    """List deletions and who has not confirmed them yet, newest first."""
    request = ListDeletionsRequest(page_size=min(limit, 500))
    found = every(readroom.ingest.ListDeletions, request, lambda page: page.deletions)
    out.items(await deletion_table(readroom), await first(found, limit))


COMMANDS = (case, deletions)
