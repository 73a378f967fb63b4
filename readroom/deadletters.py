"""Commands on dead letters: facts that a service could not apply."""

import click

from kernel.errors import Conflict, Invalid, NotFound, Unavailable
from readroom.acting import acting, listing
from readroom.client import Readroom
from readroom.errors import Incomplete
from readroom.pages import every, first, newest
from readroom.show import Column, Output, instant
from wire.letters.v1.letters_pb2 import DeadLetter, DropRequest, ListDeadLettersRequest, ReplayRequest

Letter = tuple[str, DeadLetter]
"""A service and one of its dead letters."""

LETTER = (
    Column[Letter]("service", lambda each: each[0]),
    Column[Letter]("event_id", lambda each: each[1].event_id),
    Column[Letter]("subject", lambda each: each[1].subject),
    Column[Letter]("about_id", lambda each: each[1].about_id or None),
    Column[Letter]("failures", lambda each: each[1].failures),
    Column[Letter]("died_at", lambda each: instant(each[1].died_at) if each[1].HasField("died_at") else None),
    Column[Letter]("reason", lambda each: each[1].sentence.partition("\n")[0]),
    Column[Letter]("first_failed_at", lambda each: instant(each[1].first_failed_at), json_only=True),
    Column[Letter]("last_failed_at", lambda each: instant(each[1].last_failed_at), json_only=True),
    Column[Letter]("sentence", lambda each: each[1].sentence, json_only=True),
)


@click.group("dead-letters")
def dead_letters() -> None:
    """Facts that a service could not apply. Needs `operator`."""


@dead_letters.command("list")
@click.option("--service", help="List only the dead letters of this service.")
@newest
@listing
async def list_letters(readroom: Readroom, out: Output, service: str | None, limit: int) -> None:
    """List facts that failed, newest first, each service by itself.

    One without DIED AT is still being tried.
    """
    services = [_known(readroom, service)] if service else list(readroom.letters)
    out.items(LETTER, [(each, letter) for each in services for letter in await _of(readroom, each, limit)])


@dead_letters.command()
@click.argument("service")
@click.argument("event_ids", metavar="EVENT_ID...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Act on every dead letter of the service.")
@acting
async def replay(
    readroom: Readroom, out: Output, service: str, event_ids: tuple[str, ...], *, everything: bool
) -> None:
    """Have SERVICE apply dead facts now, once their cause is mended; ends with 8 if one failed again."""
    asked = await _asked(readroom, service, event_ids, everything=everything)
    failed = []
    for event_id in asked:
        try:
            await readroom.letters[service].Replay(ReplayRequest(event_id=event_id))
        except (Conflict, NotFound, Unavailable) as error:
            failed.append(f"`{event_id}`: {error.sentence}")
    if failed:
        raise Incomplete("; ".join([f"{len(failed)} of {len(asked)} failed", *failed]))
    out.done(f"`{service}` applied {len(asked)}", service=service, applied=len(asked))


@dead_letters.command()
@click.argument("service")
@click.argument("event_ids", metavar="EVENT_ID...", nargs=-1, required=True)
@acting
async def drop(readroom: Readroom, out: Output, service: str, event_ids: tuple[str, ...]) -> None:
    """Give dead facts up: SERVICE does not apply them, even if they come again."""
    for event_id in await _asked(readroom, service, event_ids, everything=False):
        await readroom.letters[service].Drop(DropRequest(event_id=event_id))
    out.done(f"`{service}` dropped {len(event_ids)}", service=service, dropped=len(event_ids))


async def _asked(
    readroom: Readroom, service: str, event_ids: tuple[str, ...], *, everything: bool
) -> list[str]:
    """The letters that a command names."""
    if bool(event_ids) is everything:
        raise Invalid("name the letters by EVENT_ID, or give `--all`")
    _known(readroom, service)
    if not everything:
        return list(event_ids)
    return [each.event_id for each in await _of(readroom, service, None) if each.HasField("died_at")]


async def _of(readroom: Readroom, service: str, limit: int | None) -> list[DeadLetter]:
    request = ListDeadLettersRequest(page_size=min(limit or 500, 500))
    found = every(readroom.letters[service].ListDeadLetters, request, lambda page: page.letters)
    return await first(found, limit)


def _known(readroom: Readroom, service: str) -> str:
    if service not in readroom.letters:
        raise NotFound(f"there is no service `{service}`: the services are {', '.join(readroom.letters)}")
    return service


COMMANDS = (dead_letters,)
