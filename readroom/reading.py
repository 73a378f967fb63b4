"""Commands on what reporting owns: locks, drafts, reports and addenda, and which read types are active."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import click

from kernel.errors import Invalid
from readroom import names
from readroom.acting import acting, listing
from readroom.client import Readroom
from readroom.show import Column, Output, as_object, clock, instant
from readroom.words import READ_TYPES
from wire.reporting.v1.reporting_pb2 import (
    ActivateReadTypeRequest,
    AddAddendumRequest,
    BreakLockRequest,
    CompleteRequest,
    Draft,
    ListReadTypesRequest,
    ListReportsRequest,
    ListReportsResponse,
    Lock,
    LockRequest,
    RenewLockRequest,
    ReopenRequest,
    Report,
    SaveDraftRequest,
    UnlockRequest,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of what is written about a case, and of who is about to write.

    Attributes:
        kind: `lock`, `lock elsewhere` (yours in another session), `report`, `addendum` of it, `draft`,
            `kept`: a text for its author alone, or `new images`, which came after the last report.
        name, login: whose it is.
        at: when it was signed or saved, the lock was taken, or the new images were first known.
        until: when the lock ends.
    """

    kind: str
    name: str
    login: str
    at: datetime | None = None
    until: datetime | None = None
    read_type: str | None = None
    report_id: str | None = None
    text: str | None = None
    image_count: int | None = None


ENTRY = (
    Column[Entry]("kind", lambda e: e.kind),
    Column[Entry]("read_type", lambda e: e.read_type),
    Column[Entry]("name", lambda e: e.name),
    Column[Entry]("at", lambda e: e.at),
    Column[Entry]("until", lambda e: e.until),
    Column[Entry]("report_id", lambda e: e.report_id),
    Column[Entry]("text", lambda e: e.text),
    Column[Entry]("login", lambda e: e.login or None, json_only=True),
    Column[Entry]("image_count", lambda e: e.image_count, json_only=True),
)


def lock_entry(lock: Lock) -> Entry:
    since = instant(lock.since) if lock.HasField("since") else None
    kind = "lock elsewhere" if lock.elsewhere else "lock"
    return Entry(kind, lock.holder_name, lock.holder_login, since, until=instant(lock.ends_at))


def new_images_entry(written: ListReportsResponse) -> Entry:
    count = written.images_since_report
    images = "1 image has come" if count == 1 else f"{count} images have come"
    since = instant(written.images_since) if written.HasField("images_since") else None
    return Entry("new images", "", "", since, text=f"{images} since the report", image_count=count)


def draft_entry(draft: Draft) -> Entry:
    kind = "kept" if draft.author_only else "draft"
    return Entry(kind, draft.author_name, draft.author_login, instant(draft.saved_at), text=draft.text)


def report_entries(report: Report) -> Iterator[Entry]:
    """A report and its addenda."""
    read_type, report_id = READ_TYPES.word(report.read_type), report.report_id
    yield Entry(
        "report",
        report.author_name,
        report.author_login,
        instant(report.completed_at),
        read_type=read_type,
        report_id=report_id,
        text=report.text,
    )
    for addendum in report.addenda:
        yield Entry(
            "addendum",
            addendum.author_name,
            addendum.author_login,
            instant(addendum.added_at),
            read_type=read_type,
            report_id=report_id,
            text=addendum.text,
        )


def entries(written: ListReportsResponse) -> Iterator[Entry]:
    """The lock, new images, reports with their addenda, drafts."""
    if written.HasField("lock"):
        yield lock_entry(written.lock)
    if written.images_since_report:
        yield new_images_entry(written)
    for report in written.reports:
        yield from report_entries(report)
    yield from map(draft_entry, written.drafts)


@click.group()
def reading() -> None:
    """What is written about a case, and who is about to write."""


@reading.command("lock")
@click.argument("case_id")
@click.option(
    "--take-over", is_flag=True, help="If you hold the lock in another session of yours, take it over."
)
@acting
async def lock(readroom: Readroom, out: Output, case_id: str, take_over: bool) -> None:
    """Take the exclusive right to report a case, until it ends or you renew it."""
    request = LockRequest(case_id=case_id, take_over=take_over)
    out.item(ENTRY, lock_entry((await readroom.reporting.Lock(request)).lock))


@reading.command("renew")
@click.argument("case_id")
@acting
async def renew(readroom: Readroom, out: Output, case_id: str) -> None:
    """Prolong your lock."""
    out.item(ENTRY, lock_entry((await readroom.reporting.RenewLock(RenewLockRequest(case_id=case_id))).lock))


@reading.command("unlock")
@click.argument("case_id")
@acting
async def unlock(readroom: Readroom, out: Output, case_id: str) -> None:
    """Give your lock back."""
    await readroom.reporting.Unlock(UnlockRequest(case_id=case_id))
    out.done(f"case {case_id} is not locked", case_id=case_id)


@reading.command("break")
@click.argument("case_id")
@acting
async def break_lock(readroom: Readroom, out: Output, case_id: str) -> None:
    """End somebody's lock; they are told by whom and when."""
    await readroom.reporting.BreakLock(BreakLockRequest(case_id=case_id))
    out.done(f"the lock of case {case_id} is broken", case_id=case_id)


def _text(command: Callable[..., None]) -> Callable[..., None]:
    file = click.option(
        "--file",
        type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
        help="File with the text in UTF-8; `-` is standard input.",
    )
    return click.option("--text", help="The text.")(file(command))


def written_text(text: str | None, file: Path | None) -> str:
    """The text of `--text`, or of the file that `--file` names."""
    if (text is None) == (file is None):
        raise Invalid("give the text once: with `--text` or with `--file`")
    if text is not None:
        return text
    try:
        with click.open_file(str(file), encoding="utf-8") as opened:
            content: str = opened.read()
    except UnicodeDecodeError:
        raise Invalid(f"`{file}` is not UTF-8") from None
    return content


@reading.command("draft")
@click.argument("case_id")
@_text
@acting
async def draft(readroom: Readroom, out: Output, case_id: str, text: str | None, file: Path | None) -> None:
    """Keep an unsigned text, in place of the one before; needs your lock."""
    request = SaveDraftRequest(case_id=case_id, text=written_text(text, file))
    out.item(ENTRY, draft_entry((await readroom.reporting.SaveDraft(request)).draft))


@reading.command("complete")
@click.argument("case_id")
@click.option("--type", "read_type", type=click.Choice(READ_TYPES.sayable), required=True)
@_text
@acting
async def complete(
    readroom: Readroom, out: Output, case_id: str, read_type: str, text: str | None, file: Path | None
) -> None:
    """Sign a report; needs your lock and ends it. A text that is refused is kept as your draft."""
    request = CompleteRequest(
        case_id=case_id, read_type=READ_TYPES.number(read_type), text=written_text(text, file)
    )
    out.item(ENTRY, next(report_entries((await readroom.reporting.Complete(request)).report)))


@reading.command("addendum")
@click.argument("case_id")
@click.argument("report_id")
@_text
@acting
async def addendum(
    readroom: Readroom, out: Output, case_id: str, report_id: str, text: str | None, file: Path | None
) -> None:
    """Add a signed addition to a report."""
    request = AddAddendumRequest(case_id=case_id, report_id=report_id, text=written_text(text, file))
    out.items(ENTRY, report_entries((await readroom.reporting.AddAddendum(request)).report))


@reading.command("reopen")
@click.argument("case_id")
@acting
async def reopen(readroom: Readroom, out: Output, case_id: str) -> None:
    """Let a case with a final report be read again."""
    await readroom.reporting.Reopen(ReopenRequest(case_id=case_id))
    out.done(f"case {case_id} can be read again", case_id=case_id)


@reading.command("show")
@click.argument("case_id")
@acting
async def show(readroom: Readroom, out: Output, case_id: str) -> None:
    """Show lock, reports and drafts of a case, as you may see them."""
    found = list(entries(await readroom.reporting.ListReports(ListReportsRequest(case_id=case_id))))
    out.told(written(found), [as_object(ENTRY, each) for each in found])


def written(found: Iterable[Entry]) -> Iterator[str]:
    """Each entry with a line that heads it, and its text as it was written."""
    empty = True
    for each in found:
        if not empty:
            yield ""
        empty = False
        until = f"until {clock(each.until)}" if each.until else ""
        at = clock(each.at) if each.at else ""
        yield "  ".join(filter(None, (each.kind, each.read_type, each.name, at, until)))
        if each.report_id:
            yield f"  report_id {each.report_id}"
        yield from (f"  {line}" for line in (each.text or "").splitlines())
    if empty:
        yield "nothing is written about this case, or nothing that you may see"


@click.group("read-type")
def read_type() -> None:
    """Which kinds of report are active at a facility."""


READ_TYPE = (Column[int]("read_type", READ_TYPES.word),)


@read_type.command("list")
@click.argument("facility")
@listing
async def list_read_types(readroom: Readroom, out: Output, facility: str) -> None:
    """List the read types active at FACILITY."""
    request = ListReadTypesRequest(facility_id=await names.facility_id(readroom, facility))
    out.items(READ_TYPE, (await readroom.reporting.ListReadTypes(request)).read_types)


def _switch(word: str, active: bool) -> None:
    @read_type.command(
        word, help=f"Switch TYPE {word} at FACILITY; without it, pre-read for the whole group."
    )
    @click.argument("read_type", metavar="TYPE", type=click.Choice(READ_TYPES.sayable))
    @click.argument("facility", required=False)
    @acting
    async def switch(readroom: Readroom, out: Output, read_type: str, facility: str | None) -> None:
        request = ActivateReadTypeRequest(
            facility_id=await names.facility_id(readroom, facility) if facility else "",
            read_type=READ_TYPES.number(read_type),
            active=active,
        )
        out.items(READ_TYPE, (await readroom.reporting.ActivateReadType(request)).read_types)


_switch("on", True)
_switch("off", False)

COMMANDS = (reading, read_type)
