"""The command line: global options, login, every command, and one table from errors to exit codes."""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from kernel.errors import ReadroomError, Unauthenticated, code_of
from readroom import (
    audit,
    cases,
    deadletters,
    deletion,
    deliveries,
    explain,
    facilities,
    filters,
    folders,
    gateways,
    held,
    identities,
    manifests,
    patients,
    reading,
    received,
    sharing,
    users,
    volumes,
)
from readroom.acting import Place
from readroom.client import connect
from readroom.endpoints import Endpoints
from readroom.errors import EXIT_CODES, INTERRUPTED, UNEXPECTED
from readroom.session import Session
from readroom.show import harmless
from wire.access.v1.access_pb2 import CheckPermissionRequest


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    envvar="READROOM_DATA",
    default="data",
    show_default=True,
    show_envvar=True,
    help="Data directory of the running system.",
)
@click.option(
    "--session",
    "session_file",
    type=click.Path(path_type=Path),
    envvar="READROOM_SESSION",
    show_envvar=True,
    help="Session file.  [default: session.json in the data directory]",
)
@click.pass_context
def cli(context: click.Context, data: Path, session_file: Path | None) -> None:
    """Readroom: studies of many hospitals for exactly the people who may see them.

    Begin with `readroom login LOGIN`. Names do where ids are asked for; every command takes --json.
    Exit codes: 0 done, 2 invalid, 3 not found, 4 denied, 5 not logged in, 6 conflict or expired,
    7 unavailable or exhausted, 8 incomplete.
    """
    context.obj = Place(data, session_file or data / "session.json")


@cli.command()
@click.argument("login")
@click.pass_obj
def login(place: Place, login: str) -> None:
    """Log in as LOGIN with the development issuer.

    It exists only with embedded servers: whoever can read the issuer's key in the data directory may be
    anybody.
    """
    session = Session.begin(login)

    async def prove() -> None:
        async with connect(Endpoints.read(place.data), session) as readroom:
            await readroom.access.CheckPermission(CheckPermissionRequest(permission="operator"))

    try:
        asyncio.run(prove())
    except Unauthenticated:
        raise Unauthenticated(f"`{login}` cannot log in") from None
    session.write(place.session_file)
    click.echo(harmless(f"logged in as `{login}`"))


_AREAS = (
    facilities,
    gateways,
    held,
    users,
    identities,
    folders,
    cases,
    filters,
    explain,
    patients,
    reading,
    sharing,
    deliveries,
    deletion,
    received,
    deadletters,
    audit,
    volumes,
    manifests,
)
for _command in (command for area in _AREAS for command in area.COMMANDS):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command, by default that of the process, and answers its exit code."""
    try:
        code = cli.main(arguments, prog_name="readroom", standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except ReadroomError as error:
        named = not error.field or f"`{error.field}`" in error.sentence
        return _fail(
            error.sentence if named else f"`{error.field}`: {error.sentence}", code_of(error, EXIT_CODES)
        )
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does: there is nobody to tell, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNEXPECTED
    except OSError as error:
        return _fail(f"`{error.filename}`: {error.strerror}" if error.filename else str(error), UNEXPECTED)
    except Exception as error:
        if "READROOM_TRACEBACK" in os.environ:
            raise
        return _fail(f"unexpected failure: {error}", UNEXPECTED)


def _fail(sentence: str, code: int) -> int:
    click.echo(f"readroom: {harmless(sentence)}", err=True)
    return code
