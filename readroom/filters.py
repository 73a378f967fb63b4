"""Commands on the filters of users: what one would do, what it is, and setting it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click
from rich.cells import cell_len

from kernel.errors import Invalid
from readroom import names
from readroom.acting import acting, listing
from readroom.client import Readroom
from readroom.pages import every
from readroom.show import YES, Column, Output, harmless, instant
from readroom.users import made_from
from readroom.words import HISTORICAL
from wire.access.v1.access_pb2 import (
    DescribeFilterRequest,
    Filter,
    FilterCaution,
    FilteredUser,
    FilterFault,
    FilterForm,
    LintRequest,
    LintResponse,
    ListFiltersRequest,
    SaveFilterRequest,
)

Command = Callable[..., Any]

_FORM = (
    click.option(
        "--referring-physician",
        "referring_physicians",
        multiple=True,
        metavar="NAME",
        help="The case names a referring physician whose name contains NAME, in capitals or not. Give it "
        "again for another name: one of them is enough.",
    ),
    click.option(
        "--modality",
        "modalities",
        multiple=True,
        help="The study has this modality. Give it again for another: one of them is enough.",
    ),
    click.option(
        "--facility",
        "facilities",
        multiple=True,
        help="This facility owns the case. Give it again for another: one of them is enough.",
    ),
    click.option(
        "--description",
        "description_words",
        multiple=True,
        metavar="WORD",
        help="The study description contains WORD, in capitals or not. Give it again for another word: all "
        "of them must be there.",
    ),
    click.option(
        "--age-from",
        default="",
        metavar="AGE",
        help="Patients of at least this age at the study date, such as 18Y.",
    ),
    click.option(
        "--age-to",
        default="",
        metavar="AGE",
        help="Patients of at most this age at the study date, such as 17Y.",
    ),
    click.option("--study-from", default="", metavar="DATE", help="Studies of this date or a later one."),
    click.option("--study-to", default="", metavar="DATE", help="Studies of this date or an earlier one."),
)


def form_options(command: Command) -> Command:
    """What the form of a filter asks; it is AND-ed with the expression."""
    for option in reversed(_FORM):
        command = option(command)
    return command


async def a_form(readroom: Readroom, *, facilities: tuple[str, ...], **filled: Any) -> FilterForm:
    """The form as it is filled in by options."""
    return FilterForm(facility_ids=[await names.facility_id(readroom, each) for each in facilities], **filled)


@click.group("filter")
def filter_() -> None:
    """Filters: which cases a user sees of those that their privileges show.

    docs/filter-language.md says how they are written.
    """


@filter_.command("lint")
@click.argument("expression", default="")
@click.option(
    "--for",
    "login",
    metavar="LOGIN",
    help="The user who is to have the filter.  [default: somebody like you]",
)
@form_options
@acting
async def lint_filter(
    readroom: Readroom, out: Output, expression: str, login: str | None, **filled: Any
) -> None:
    """Say what a filter would do, or what is wrong with it."""
    user_id = await names.user_id(readroom, login) if login else ""
    form = await a_form(readroom, **filled)
    request = LintRequest(user_id=user_id, form=form, expression=expression)
    found = await readroom.access.Lint(request)
    if found.HasField("fault"):
        _refuse(found.fault)
    await _with_names(readroom, found.offered_form)
    out.told(lint_lines(found, expression), lint_object(found))


@filter_.command("show")
@click.argument("login")
@acting
async def show_filter(readroom: Readroom, out: Output, login: str) -> None:
    """Show the filter of a user."""
    request = DescribeFilterRequest(user_id=await names.user_id(readroom, login))
    found = (await readroom.access.DescribeFilter(request)).filter
    await _with_names(readroom, found.form)
    out.item(FILTER, found)


@filter_.command("set")
@click.argument("login")
@click.argument("expression", default="")
@click.option(
    "--historical",
    type=click.Choice(HISTORICAL.sayable),
    default="off",
    show_default=True,
    help="If the filter shows a study of a patient, the user may also view: nothing more, the patient's "
    "studies that are not later, or all of them.",
)
@form_options
@made_from
@acting
async def set_filter(
    readroom: Readroom,
    out: Output,
    login: str,
    expression: str,
    historical: str,
    version: int | None,
    **filled: Any,
) -> None:
    """Set the filter of a user: form, expression or both, in place of what it was."""
    form = await a_form(readroom, **filled)
    if not expression.strip() and not form.ByteSize():
        raise Invalid("a filter that asks nothing is none: `readroom filter clear` takes it away")
    user_id = await names.user_id(readroom, login)
    linted = await readroom.access.Lint(LintRequest(user_id=user_id, form=form, expression=expression))
    if linted.HasField("fault"):
        _refuse(linted.fault)
    wanted = Filter(
        user_id=user_id, form=form, expression=expression, historical=HISTORICAL.number(historical)
    )
    saved = await _saved(readroom, wanted, version)
    await _with_names(readroom, saved.form)
    out.item(FILTER, saved)
    out.warn(caution.sentence for caution in linted.cautions)


@filter_.command("clear")
@click.argument("login")
@made_from
@acting
async def clear_filter(readroom: Readroom, out: Output, login: str, version: int | None) -> None:
    """Take the filter of a user away: they see what their privileges show."""
    await _saved(readroom, Filter(user_id=await names.user_id(readroom, login)), version)
    out.done(f"`{login}` has no filter", login=login)


@filter_.command("list")
@click.option("--broken", is_flag=True, help="List only filters that Readroom cannot read any more.")
@listing
async def list_filters(readroom: Readroom, out: Output, broken: bool) -> None:
    """List who has a filter, by login."""
    found = every(readroom.access.ListFilters, ListFiltersRequest(), lambda page: page.filters)
    out.items(FILTERED, [user async for user in found if user.broken or not broken])


FILTER = (
    Column[Filter]("login", lambda f: f.login),
    Column[Filter]("form", lambda f: _form_words(f.form)),
    Column[Filter]("expression", lambda f: f.expression or None),
    Column[Filter]("historical", lambda f: HISTORICAL.word(f.historical)),
    Column[Filter]("version", lambda f: f.version),
    Column[Filter]("changed_by", lambda f: f.changed_by or None),
    Column[Filter](
        "changed_at", lambda f: instant(f.changed_at) if f.HasField("changed_at") else None, json_only=True
    ),
    Column[Filter]("fault", lambda f: f.fault or None),
)

FILTERED = (
    Column[FilteredUser]("login", lambda u: u.login),
    Column[FilteredUser]("historical", lambda u: HISTORICAL.word(u.historical)),
    Column[FilteredUser]("version", lambda u: u.version),
    Column[FilteredUser]("broken", lambda u: u.broken),
    Column[FilteredUser]("user_id", lambda u: u.user_id, json_only=True),
)


def _form_words(form: FilterForm) -> list[str]:
    """What is filled in, one entry for each field."""
    return [
        f"{_WORDS.get(field.name) or field.name.replace('_', ' ')}: "
        f"{value if isinstance(value, str) else ', '.join(value)}"
        for field, value in form.ListFields()
    ]


_WORDS = {"facility_ids": "facilities"}
_OPTIONS = {
    "referring_physicians": "--referring-physician",
    "modalities": "--modality",
    "facilities": "--facility",
    "description_words": "--description",
    "age_from": "--age-from",
    "age_to": "--age-to",
    "study_from": "--study-from",
    "study_to": "--study-to",
}
"""How each field of the form is typed."""


async def _with_names(readroom: Readroom, form: FilterForm) -> None:
    """Puts names where the form has ids of facilities; a facility that you may not list keeps its id."""
    if form.facility_ids:
        form.facility_ids[:] = map(await names.facility_name(readroom), form.facility_ids)


async def _saved(readroom: Readroom, wanted: Filter, version: int | None) -> Filter:
    described = await readroom.access.DescribeFilter(DescribeFilterRequest(user_id=wanted.user_id))
    wanted.version = described.filter.version if version is None else version
    return (await readroom.access.SaveFilter(SaveFilterRequest(filter=wanted))).filter


# Lint in words


def _refuse(fault: FilterFault) -> None:
    """Draws the fault, and raises Invalid with what is wrong."""
    for line in fault_lines(fault):
        click.echo(line, err=True)
    option = _OPTIONS.get(fault.field)
    place = f"line {fault.line}, column {fault.column}: " if fault.line else f"`{option}`: " if option else ""
    said = f"{fault.problem}; {fault.expected}" if fault.expected else fault.problem
    raise Invalid(f"{place}{said}", field=None if place else fault.field)


def fault_lines(fault: FilterFault) -> Iterator[str]:
    """The line of the fault with carets under it, and the filter repaired."""
    for line in fault.picture.splitlines():
        yield f"  {harmless(line)}"
    first, *more = fault.repaired.splitlines() or [""]
    if first:
        yield f"{YES} write  {harmless(first)}"
    for line in more:
        yield f"         {harmless(line)}"


def lint_lines(found: LintResponse, expression: str) -> Iterator[str]:
    """What a filter shows, what to mind, and on how many cases it was tried."""
    first, *more = found.reading.splitlines() or [""]
    yield f"{YES} shows {first}"
    for line in more:
        yield f"    {line}"
    for caution in found.cautions:
        yield f"! {caution.sentence}"
        for line in _carets(expression, caution):
            yield f"    {line}"
    if found.form_expression:
        yield f"  the form says {found.form_expression}"
    if found.HasField("offered_form"):
        yield f"  as a form: {'; '.join(_form_words(found.offered_form))}"
    among = "all" if found.tried_on_all else "the newest"
    yield f"  it shows {found.shown} of {among} {found.tried_on} cases of the facilities that you administer"
    for case in found.samples:
        yield f"    {case.patient_name}, {case.study_description}, {case.facility_name}"


def _carets(expression: str, caution: FilterCaution) -> Iterator[str]:
    """The line that a caution is about, with carets under it."""
    lines = expression.splitlines()
    if not 1 <= caution.line <= len(lines):
        return
    line = lines[caution.line - 1]
    at = caution.column - 1
    yield line
    yield " " * cell_len(line[:at]) + "^" * max(1, cell_len(line[at : at + caution.length]))


def lint_object(found: LintResponse) -> Mapping[str, Any]:
    """The same for machines."""
    return {
        "reading": found.reading,
        "cautions": [
            {"line": each.line, "column": each.column, "length": each.length, "sentence": each.sentence}
            for each in found.cautions
        ],
        "form_expression": found.form_expression or None,
        "offered_form": _form_words(found.offered_form) if found.HasField("offered_form") else None,
        "shown": found.shown,
        "tried_on": found.tried_on,
        "tried_on_all": found.tried_on_all,
        "samples": [case.case_id for case in found.samples],
    }


COMMANDS = (filter_,)
