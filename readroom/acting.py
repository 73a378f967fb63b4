"""Who acts, and where: what every command but `login` begins with."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import click

from readroom.client import connect
from readroom.endpoints import Endpoints
from readroom.place import Place
from readroom.session import Session
from readroom.show import Output


def acting(
    command: Callable[..., Awaitable[None]],
) -> Callable[..., None]:
    """Makes a command of a function of `Readroom` and `Output`: acts as who is logged in; adds `--json`."""

    @wraps(command)
    def run(place: Place, *, as_json: bool, **arguments: Any) -> None:
        async def act() -> None:
            session = Session.read(place.session_file)
            async with connect(Endpoints.read(place.data), session) as readroom:
                await command(readroom, Output(as_json), **arguments)

        asyncio.run(act())

    runnable: Callable[..., None] = run
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(click.pass_obj(runnable))
