"""Who acts, and how they are answered: what every command but `login` begins with."""

import asyncio
import re
import shutil
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Any

import click

from kernel.errors import ReadroomError
from readroom.client import connect
from readroom.endpoints import Endpoints
from readroom.options import as_typed
from readroom.place import Place
from readroom.session import Session
from readroom.shortids import ShownIds
from readroom.show import Output

Command = Callable[..., Awaitable[None]]

_IDS = re.compile(r"case|\w+_ids?")
"""The parameters of commands that are ids, and may be short."""


def acting(command: Command) -> Callable[..., None]:
    """Makes a command of a function of `Readroom` and `Output`: acts as who is logged in; adds `--json`."""
    wide = click.option("--wide", is_flag=True, help="Show whole texts and ids, however wide.")
    return wide(_runnable(command))


def listing(command: Command) -> Callable[..., None]:
    """The same for a command that lists: adds `--columns`."""
    columns = click.option(
        "--columns",
        metavar="NAMES",
        help="Show these columns in this order; an unknown name lists those that there are.",
    )
    return columns(acting(command))


def _runnable(command: Command) -> Callable[..., None]:
    @wraps(command)
    def run(place: Place, *, as_json: bool, wide: bool, **arguments: Any) -> None:
        ids = ShownIds(place.current_file)
        columns = None
        if command.__annotations__.get("columns") is None:
            named = arguments.pop("columns", None)
            columns = [each.strip() for each in named.split(",")] if named else None
        is_narrow = sys.stdout.isatty() and not wide
        room = shutil.get_terminal_size().columns if is_narrow else None
        out = Output(as_json, columns, room, ids if is_narrow else None)

        async def act() -> None:
            session = Session.read(place.current_file, datetime.now(UTC))
            async with connect(Endpoints.read(place.data), session) as readroom:
                await command(
                    readroom, out, **{name: _full(ids, name, each) for name, each in arguments.items()}
                )

        try:
            asyncio.run(act())
        except ReadroomError as error:
            error.sentence = as_typed(error, click.get_current_context().command)
            error.field = None
            raise

    runnable: Callable[..., None] = run
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(click.pass_obj(runnable))


def _full(ids: ShownIds, name: str, value: Any) -> Any:
    """An argument of a command, with ids in full."""
    if not _IDS.fullmatch(name):
        return value
    if isinstance(value, tuple):
        return tuple(ids.full(each) for each in value)
    return ids.full(value) if isinstance(value, str) else value
