"""Commands on cases: the worklist, fetching images, who reads a case and how soon."""

from collections.abc import Sequence
from pathlib import Path

import click

from kernel.errors import Denied, NotFound, lacks
from readroom import names, rows
from readroom.acting import acting, listing
from readroom.client import Readroom
from readroom.export import save
from readroom.fetch import fetch_case, fetch_instance
from readroom.pages import every, first
from readroom.show import Column, Output, Table
from readroom.watch import DEFAULT_ROWS, MAX_ROWS, watch
from readroom.words import LEVELS, PRIORITIES
from wire.access.v1.access_pb2 import (
    CASE_ACT_OPEN,
    CASE_ORDER_PATIENT_NAME,
    CASE_ORDER_PRIORITY,
    CASE_ORDER_RECEIVED,
    CASE_ORDER_STUDY_DATE,
    LEVEL_REPORT,
    LEVEL_UNSPECIFIED,
    Assignable,
    AssignRequest,
    AssignResponse,
    CountCasesRequest,
    DescribeCaseRequest,
    ExportCasesRequest,
    ListAssignableRequest,
    ListCasesRequest,
    ListRelatedCasesRequest,
    ReadSearchRequest,
    SetPriorityRequest,
    UnassignRequest,
    WatchCasesRequest,
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
    help="Take only cases in which all these words are found: a name, a description, a physician, a "
    "facility; the beginning of a number; a modality; a date such as 2026-11-21, 2026-11, today, "
    'yesterday or -3d. A "phrase" stays together. name: id: ref: desc: mod: fac: date: '
    "status: choose the field.",
)
WHERE = click.option(
    "--where",
    metavar="FILTER",
    default="",
    help="Take only cases that satisfy this filter, such as \"Modality = 'CT'\" (docs/filter-language.md).",
)
EXPORT_LIMIT_S = 600
"""How long a list may take to be saved."""
LIMIT = click.option(
    "--limit", type=click.IntRange(min=1), help="List at most this many cases.  [default: all]"
)
FORCE = click.option(
    "--force", is_flag=True, help="Do it even while somebody else holds the lock of the case."
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
@LIMIT
@rows.COLUMNS
@click.option(
    "--csv",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Save the list to this file, for a spreadsheet, and show nothing; it is recorded that you did.",
)
@click.option(
    "--watch",
    "is_watched",
    is_flag=True,
    help="Keep the first cases of the list on the screen, and show what changes until you press Ctrl-C. "
    "Where the output is no terminal, each change is a line.",
)
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
    columns: Sequence[str] | None,
    file: Path | None,
    is_watched: bool,
) -> None:
    """List your worklist, or what you search for in it.

    A column in which no case says anything is left out, unless you name it.
    """
    by, ascending = ORDERS[order]
    facility_id = await _facility_named(readroom, facility)
    if is_watched:
        if file is not None:
            raise click.UsageError("--watch saves nothing: leave out --watch or --csv")
        if (limit or 0) > MAX_ROWS:
            raise click.UsageError(f"--watch shows at most {MAX_ROWS} cases: give a smaller --limit")
        watched = WatchCasesRequest(
            rows=limit or DEFAULT_ROWS,
            facility_id=facility_id,
            search=search,
            where=where,
            order=by,
            ascending=ascending != reverse,
        )
        await watch(readroom, out, watched, columns)
        return
    if file is not None:
        if limit is not None:
            raise click.UsageError("--csv saves the whole list: leave --limit out, or search for less")
        exported = ExportCasesRequest(
            facility_id=facility_id,
            search=search,
            where=where,
            order=by,
            ascending=ascending != reverse,
            columns=rows.fields_of(columns, out) if columns else [],
        )
        count = await save(readroom.access.ExportCases(exported, timeout=EXPORT_LIMIT_S), file)
        out.done(
            f"saved {count} {'case' if count == 1 else 'cases'} to `{file}`", case_count=count, file=str(file)
        )
        return
    request = ListCasesRequest(
        page_size=min(limit or 500, 500),
        facility_id=facility_id,
        search=search,
        where=where,
        order=by,
        ascending=ascending != reverse,
        columns=rows.fields_of(columns, out),
    )
    found = every(readroom.access.ListCases, request, lambda page: page.cases)
    asked = {"--facility": facility, "--search": search, "--where": where}
    rows.show(out, await first(found, limit), columns, _none([each for each in asked if asked[each]]))


def _none(asked: Sequence[str]) -> str:
    """Why a worklist is empty for which this was asked."""
    if asked:
        less = "one of them" if len(asked) > 1 else "it"
        return f"no case on your worklist satisfies {' and '.join(asked)}: leave {less} out to see more"
    return (
        "your worklist is empty: no case has come yet that you may see; if you miss one, ask an "
        "administrator of its facility"
    )


async def _facility_named(readroom: Readroom, facility: str | None) -> str:
    """The id of a facility that somebody gives by id or by a name on their list, empty if they give none.

    Not everybody may list facilities; everybody may read the names on their worklist.

    Raises NotFound if no case on the list is of a facility with this name.
    """
    if not facility or names.is_id(facility):
        return facility or ""
    request = ListCasesRequest(page_size=500, columns=["facility_id", "facility_name"])
    async for each in every(readroom.access.ListCases, request, lambda page: page.cases):
        if names.same(each.facility_name, facility):
            return str(each.facility_id)
    raise NotFound(f"no case on your list is of a facility called `{facility}`")


@case.command("show")
@click.argument("case_id")
@acting
async def show(readroom: Readroom, out: Output, case_id: str) -> None:
    """Show everything that your worklist says of a case."""
    answer = await readroom.access.DescribeCase(DescribeCaseRequest(case_id=case_id))
    out.details(rows.CASE, answer.case)


@case.command("related")
@click.argument("case_id")
@LIMIT
@rows.COLUMNS
@acting
async def related(
    readroom: Readroom, out: Output, case_id: str, limit: int | None, columns: Sequence[str] | None
) -> None:
    """List the other cases of the patient of a case that you see, the latest study first."""
    fields = rows.fields_of(columns, out)
    request = ListRelatedCasesRequest(case_id=case_id, page_size=min(limit or 500, 500), columns=fields)
    found = every(readroom.access.ListRelatedCases, request, lambda page: page.cases)
    none = "you see no other case of this patient"
    rows.show(out, await first(found, limit), columns, none)


@case.command("count")
@click.option("--facility", help="Count only cases of this facility.")
@SEARCH
@WHERE
@acting
async def count(readroom: Readroom, out: Output, facility: str | None, search: str, where: str) -> None:
    """Count the cases of your worklist, or what you search for in it, up to 10,000."""
    facility_id = await _facility_named(readroom, facility)
    request = CountCasesRequest(facility_id=facility_id, search=search, where=where)
    answer = await readroom.access.CountCases(request)
    if answer.more:
        said = f"more than {answer.count:,} cases"
    elif answer.unfinished:
        said = f"at least {answer.count:,} cases: counting all of them takes too long, so narrow the search"
    else:
        said = f"{answer.count:,} {'case' if answer.count == 1 else 'cases'}"
    out.done(said, count=answer.count, more=answer.more, unfinished=answer.unfinished)


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
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder, created if missing.",
)
@click.option("--instance", metavar="UID", help="Only this SOP Instance UID.  [default: all]")
@acting
async def fetch(readroom: Readroom, out: Output, case_id: str, to: Path, instance: str | None) -> None:
    """Fetch the images of a case, each checked against its digest.

    A file is named by its SOP Instance UID and gets its name when it is whole.
    """
    from readroom.meter import bar  # it takes as long to load as everything else of most commands

    try:
        with bar("fetching") as meter:
            if instance:
                paths = await fetch_instance(readroom, case_id, instance, to, meter)
            else:
                paths = await fetch_case(readroom, case_id, to, meter)
    except NotFound:
        await _must_open(readroom, case_id)
        raise
    out.done(
        f"saved {len(paths)} {'image' if len(paths) == 1 else 'images'} to `{to}`",
        instance_count=len(paths),
        files=[str(path) for path in paths],
    )


async def _must_open(readroom: Readroom, case_id: str) -> None:
    """Raises Denied for who sees the case and not its images; NotFound for who does not see it."""
    request = DescribeCaseRequest(case_id=case_id, columns=["may", "facility_name"])
    seen = (await readroom.access.DescribeCase(request)).case
    if CASE_ACT_OPEN not in seen.may:
        denied = lacks("study.view_images", at=f"`{seen.facility_name}`")
        raise Denied(f"you may see this case, but not its images: {denied.sentence}")


@case.command("assign")
@click.argument("case_id")
@click.argument("login")
@FORCE
@acting
async def assign(readroom: Readroom, out: Output, case_id: str, login: str, force: bool) -> None:
    """Say who is to read a case; they take the place of who was to read it before.

    They must have a privilege to report at its facility. This does not show them the case: you are warned if
    their filter hides it from them.
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
@listing
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
    """Take a case back from who was to read it."""
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
