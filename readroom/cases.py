"""Commands on cases: the worklist, fetching images, who reads a case and how soon."""

from pathlib import Path

import click

from readroom import names
from readroom.acting import acting
from readroom.client import Readroom
from readroom.fetch import fetch_case, fetch_instance
from readroom.meter import bar
from readroom.pages import every, first
from readroom.show import Column, Output, Table, instant
from readroom.words import LEVELS, PRIORITIES, READ_TYPES
from wire.access.v1.access_pb2 import (
    CASE_ORDER_PATIENT_NAME,
    CASE_ORDER_PRIORITY,
    CASE_ORDER_RECEIVED,
    CASE_ORDER_STUDY_DATE,
    LEVEL_REPORT,
    LEVEL_UNSPECIFIED,
    PRIORITY_NORMAL,
    Assignable,
    AssignRequest,
    AssignResponse,
    Case,
    ListAssignableRequest,
    ListCasesRequest,
    ReadSearchRequest,
    SetPriorityRequest,
    UnassignRequest,
)

# By the word of a command: what a list is ordered by, and whether the smallest comes first.
ORDERS = {
    "received": (CASE_ORDER_RECEIVED, False),
    "study-date": (CASE_ORDER_STUDY_DATE, False),
    "patient-name": (CASE_ORDER_PATIENT_NAME, True),
    "priority": (CASE_ORDER_PRIORITY, False),
}
SEARCH = click.option(
    "--search",
    metavar="WORDS",
    default="",
    help="List only cases in which all these words are found: a name, a description, a physician, a "
    "facility; the beginning of a number; a modality; a date such as 2026-11-21, 2026-11, today, "
    'yesterday or -3d. A "phrase" stays together. name: id: ref: desc: mod: fac: date: '
    "status: choose the field.",
)
WHERE = click.option(
    "--where", metavar="FILTER", default="", help="List only cases that satisfy this filter."
)
FORCE = click.option(
    "--force", is_flag=True, help="Do it even if somebody else has locked the case to read it."
)


def _modalities(case: Case) -> list[str]:
    """Those that are answered, and how many are left out."""
    left_out = [f"and {case.modalities_left_out} more"] if case.modalities_left_out else []
    return [*case.modalities_in_study, *left_out]


def _notes(case: Case) -> list[str]:
    """What whoever opens the case should know."""
    held = ["images of another patient are held"] if case.another_patient_held else []
    return held + [f"{keyword} is written in several ways" for keyword in case.written_differently]


CASE = (
    Column[Case]("received_at", lambda c: instant(c.received_at)),
    Column[Case]("facility", lambda c: c.facility_name),
    Column[Case]("patient_name", lambda c: c.patient_name),
    Column[Case]("patient_id", lambda c: c.patient_id),
    Column[Case]("study_date", lambda c: c.study_date or None),
    Column[Case]("modalities_in_study", lambda c: _modalities(c)),
    Column[Case]("study_description", lambda c: c.study_description or None),
    Column[Case]("instance_count", lambda c: c.instance_count),
    Column[Case]("images_since_report", lambda c: c.images_since_report or None),
    Column[Case]("study_status_id", lambda c: "UNDISTRIBUTED" if c.undistributed else c.study_status_id),
    Column[Case]("priority", lambda c: PRIORITIES.word(c.priority) if c.priority > PRIORITY_NORMAL else None),
    Column[Case]("assignee", lambda c: c.assignee_login or None),
    Column[Case]("lock_holder", lambda c: c.lock_holder_name or None),
    Column[Case]("level", lambda c: LEVELS.word(c.level)),
    Column[Case]("notes", lambda c: _notes(c)),
    Column[Case]("sent_by", lambda c: c.calling_ae_title or None),
    Column[Case]("case_id", lambda c: c.case_id),
    Column[Case]("undistributed", lambda c: c.undistributed, json_only=True),
    Column[Case]("gateway_id", lambda c: c.gateway_id or None, json_only=True),
    Column[Case]("facility_id", lambda c: c.facility_id, json_only=True),
    Column[Case]("study_instance_uid", lambda c: c.study_instance_uid, json_only=True),
    Column[Case]("accession_number", lambda c: c.accession_number or None, json_only=True),
    Column[Case]("patient_birth_date", lambda c: c.patient_birth_date or None, json_only=True),
    Column[Case]("patient_sex", lambda c: c.patient_sex or None, json_only=True),
    Column[Case]("study_time", lambda c: c.study_time or None, json_only=True),
    Column[Case]("referring_physician_name", lambda c: c.referring_physician_name or None, json_only=True),
    Column[Case]("series_count", lambda c: c.series_count, json_only=True),
    Column[Case]("another_patient_held", lambda c: c.another_patient_held, json_only=True),
    Column[Case]("written_differently", lambda c: list(c.written_differently), json_only=True),
    Column[Case](
        "lock_ends_at",
        lambda c: instant(c.lock_ends_at) if c.HasField("lock_ends_at") else None,
        json_only=True,
    ),
    Column[Case](
        "images_since",
        lambda c: instant(c.images_since) if c.HasField("images_since") else None,
        json_only=True,
    ),
    Column[Case](
        "reported_read_types", lambda c: [READ_TYPES.word(t) for t in c.reported_read_types], json_only=True
    ),
    Column[Case](
        "reported_at", lambda c: instant(c.reported_at) if c.HasField("reported_at") else None, json_only=True
    ),
)


@click.group()
def case() -> None:
    """Studies at their facilities, as you may see them."""


@case.command("list")
@click.option("--facility", help="Only cases of this facility.")
@SEARCH
@WHERE
@click.option(
    "--order",
    type=click.Choice(list(ORDERS)),
    default="received",
    show_default=True,
    help="How the list is sorted: the newest or the most urgent case comes first, names go from A to Z.",
)
@click.option("--reverse", is_flag=True, help="Sort the other way round.")
@click.option("--limit", type=click.IntRange(min=1), help="List at most this many cases.  [default: all]")
@acting
async def list_cases(
    readroom: Readroom,
    out: Output,
    facility: str | None,
    search: str,
    where: str,
    order: str,
    reverse: bool,
    limit: int | None,
) -> None:
    """List your worklist, or what you search for in it."""
    # Not everybody may list facilities to find an id by name; everybody may read the names on their worklist.
    by_id = facility if facility and names.is_id(facility) else ""
    by_name = facility if facility and not by_id else None
    by, ascending = ORDERS[order]
    request = ListCasesRequest(
        page_size=min(limit or 500, 500),
        facility_id=by_id,
        search=search,
        where=where,
        order=by,
        ascending=ascending != reverse,
    )
    found = every(readroom.access.ListCases, request, lambda page: page.cases)
    wanted = (c async for c in found if by_name is None or names.same(c.facility_name, by_name))
    out.items(CASE, await first(wanted, limit))


@case.command("read-search")
@click.argument("words")
@acting
async def read_search(readroom: Readroom, out: Output, words: str) -> None:
    """Show what words of --search ask for, as a filter that --where takes."""
    answer = await readroom.access.ReadSearch(ReadSearchRequest(search=words))
    out.done(answer.expression or "this asks for nothing", expression=answer.expression)


@case.command("fetch")
@click.argument("case_id")
@click.option(
    "--to", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder; is made."
)
@click.option("--instance", metavar="UID", help="Only this SOP Instance UID.  [default: all]")
@acting
async def fetch(readroom: Readroom, out: Output, case_id: str, to: Path, instance: str | None) -> None:
    """Fetch the images of a case, each checked against its digest.

    A file is named by its SOP Instance UID and gets its name when it is whole.
    """
    with bar("fetching") as meter:
        if instance:
            paths = await fetch_instance(readroom, case_id, instance, to, meter)
        else:
            paths = await fetch_case(readroom, case_id, to, meter)
    out.done(
        f"saved {len(paths)} {'image' if len(paths) == 1 else 'images'} to `{to}`",
        instance_count=len(paths),
        files=[str(path) for path in paths],
    )


@case.command("assign")
@click.argument("case_id")
@click.argument("login")
@FORCE
@acting
async def assign(readroom: Readroom, out: Output, case_id: str, login: str, force: bool) -> None:
    """Let somebody read a case who may report at its facility, in place of who was to read it before.

    It gives them no sight: you are told if their filter hides the case from them all the same.
    """
    request = AssignRequest(case_id=case_id, assignee_login=login, force=force)
    answer = await readroom.access.Assign(request)
    out.warn(_warnings(answer))
    out.done(
        f"case {case_id} is assigned to `{answer.assignee_login}`",
        case_id=case_id,
        assignee=answer.assignee_login,
        assignee_level=LEVELS.word(answer.assignee_level),
        revision=answer.revision,
    )


@case.command("assignable")
@click.argument("case_id")
@acting
async def list_assignable(readroom: Readroom, out: Output, case_id: str) -> None:
    """List who may be assigned a case, and what they could do with it then.

    Where somebody's filter would hide the case from them all the same, the fields that it asks for are named.
    """
    request = ListAssignableRequest(case_id=case_id)
    found = every(readroom.access.ListAssignable, request, lambda page: page.users)
    out.items(ASSIGNABLE, await first(found, None))


def once_assigned(each: Assignable) -> str:
    """What somebody could do with a case that is assigned to them, and what keeps them from reporting."""
    if each.level == LEVEL_REPORT:
        return "report"
    why = f"their filter asks for {', '.join(each.hidden_by)}" if each.hidden_by else "their filter hides it"
    return f"{'nothing' if each.level == LEVEL_UNSPECIFIED else LEVELS.word(each.level)}: {why}"


ASSIGNABLE: Table[Assignable] = (
    Column("login", lambda each: each.login),
    Column("name", lambda each: each.name),
    Column("is_assignee", lambda each: each.is_assignee),
    Column("level_now", lambda each: LEVELS.word(each.level_now)),
    Column("once_assigned", once_assigned),
    Column("level", lambda each: LEVELS.word(each.level), json_only=True),
    Column("hidden_by", lambda each: list(each.hidden_by), json_only=True),
    Column("user_id", lambda each: each.user_id, json_only=True),
)


def _warnings(answer: AssignResponse) -> list[str]:
    """What keeps the assignee from reporting."""
    who, level = f"`{answer.assignee_login}`", answer.assignee_level
    if level == LEVEL_REPORT:
        return []
    if level == LEVEL_UNSPECIFIED:
        return [f"{who} does not see the case: their filter hides it"]
    return [f"{who} may only {LEVELS.word(level)} the case: their filter hides it from their privilege"]


@case.command("unassign")
@click.argument("case_id")
@FORCE
@acting
async def unassign(readroom: Readroom, out: Output, case_id: str, force: bool) -> None:
    """Let nobody in particular read a case."""
    answer = await readroom.access.Unassign(UnassignRequest(case_id=case_id, force=force))
    out.done(f"case {case_id} is assigned to nobody", case_id=case_id, revision=answer.revision)


@case.command("priority")
@click.argument("case_id")
@click.argument("priority", type=click.Choice(PRIORITIES.sayable))
@acting
async def set_priority(readroom: Readroom, out: Output, case_id: str, priority: str) -> None:
    """Say how soon a case is to be read."""
    request = SetPriorityRequest(case_id=case_id, priority=PRIORITIES.number(priority))
    answer = await readroom.access.SetPriority(request)
    out.done(f"case {case_id} is {priority}", case_id=case_id, priority=priority, revision=answer.revision)


COMMANDS = (case,)
