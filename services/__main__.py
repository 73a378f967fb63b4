"""`python -m services`: what a pod runs. `python -m local` starts it all at once on a laptop.

    python -m services NAME                                 one service; settings are in the environment
    python -m services migrate [--first-admin LOGIN]        the databases and the bus of the environment
    python -m services bus                                  the bus, again and again
    python -m services token-keys KEY [KEY]                 prints the key set of one or two keys in PEM
    python -m services invite LOGIN                         prints the code by which a user signs in first

`migrate` runs before services start, and may be repeated at any time: what is as it should be stays as it is.
Only `migrate` and `bus` are told the set-up user of the bus: READROOM_BUS_SETUP_URL, or the name of a file
with it, READROOM_BUS_SETUP_URL_FILE. Servers on other machines are reached over TLS alone, verified with
READROOM_BUS_SERVERS_CA and READROOM_…_SERVERS_CA.
"""

import argparse
import asyncio
import gc
import importlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from kernel.errors import Invalid, ReadroomError
from plumbing.components import COMPONENTS, PROCESSES, SERVICES

ROOT = Path(__file__).parents[1]
BUS = "bus"
_BUS_KEY = "READROOM_BUS_SETUP_URL"


def run_service(name: str) -> int:
    """Runs a service until it is told to stop; its exit code."""
    # What is imported stays: looking through it for garbage is a seventh of the start, and goes on after it.
    gc.disable()
    service = importlib.import_module(f"services.{name}.main")
    gc.freeze()
    gc.enable()
    code: int = service.main(os.environ)
    return code


def migrate(environ: Mapping[str, str], first_admin: str | None) -> int:
    """Brings each database to the newest form, and sets the bus up. Two at once do no harm."""
    from plumbing.busowner import set_up_once
    from plumbing.migrating import migrate as migrate_database

    async def bring_up(service: str, url: str, ca: Path | None) -> None:
        folders = [ROOT / folder for folder in COMPONENTS[service].migrations]
        for applied in await migrate_database(url, folders, ca):
            print(f"{service}: {applied}")

    async def everything() -> None:
        if not databases and not bus:
            keys = ", ".join(f"`READROOM_{name.upper()}_DATABASE_URL`" for name in PROCESSES)
            raise Invalid(f"no database is named: set one of {keys}, or `{_BUS_KEY}`")
        await asyncio.gather(*(bring_up(service, *database) for service, database in databases.items()))
        if bus:
            url, ca = bus
            for done in await set_up_once(url, ca=ca):
                print(f"bus: {done}")
        if first_admin:
            if "access" not in databases:
                raise Invalid("`--first-admin` needs `READROOM_ACCESS_DATABASE_URL`")
            access = importlib.import_module("services.access.main")
            url, ca = databases["access"]
            created = await access.create_first_admin(url, first_admin, ca)
            print(f"access: administrator `{first_admin}` " + ("created" if created else "not needed"))

    databases, bus = _databases(environ), _bus(environ)
    asyncio.run(everything())
    return 0


def invite(environ: Mapping[str, str], login: str) -> int:
    """Prints the code of a new invitation, and nothing else; to a terminal or a pipe, never into a log."""
    databases = _databases(environ)
    if "access" not in databases:
        raise Invalid("`invite` needs `READROOM_ACCESS_DATABASE_URL`: run it where access runs")
    access = importlib.import_module("services.access.main")
    url, ca = databases["access"]
    print(asyncio.run(access.invite(url, login, ca)))
    return 0


def token_keys(paths: Sequence[Path]) -> int:
    """Prints the file of keys by which services verify tokens: the public parts of these keys."""
    from plumbing.tokenkeys import key_set

    try:
        contents = [path.read_bytes() for path in paths]
    except OSError as error:
        raise Invalid(f"`{error.filename}` cannot be read: {error.strerror}") from error
    print(key_set(contents).decode(), end="")
    return 0


def keep_bus(environ: Mapping[str, str]) -> int:
    """Sets the bus up, and mends it every few seconds until it is told to stop."""
    from plumbing import log
    from plumbing.busowner import keep_up

    async def until_told_to_stop(url: str, ca: Path | None) -> None:
        keeping = asyncio.ensure_future(keep_up(url, ca=ca))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, keeping.cancel)
        with suppress(asyncio.CancelledError):
            await keeping

    bus = _bus(environ)
    if not bus:
        raise Invalid(f"the set-up user of the bus is not named: set `{_BUS_KEY}`")
    log.configure(BUS)
    asyncio.run(until_told_to_stop(*bus))
    return 0


Server = tuple[str, Path | None]
"""The address of a server, and the file with the authority of its certificate."""


def _bus(environ: Mapping[str, str]) -> Server | None:
    """The bus for who may set it up, if it is given."""
    from plumbing import config

    class Setup(config.ReachingSettings):
        prefix = "READROOM_BUS_"
        setup_url: config.NatsUrl

    if _BUS_KEY in environ or f"{_BUS_KEY}_FILE" in environ:
        setup = config.load(Setup, environ)
        return setup.setup_url.get_secret_value(), setup.servers_ca
    return None


def _databases(environ: Mapping[str, str]) -> dict[str, Server]:
    from plumbing import config

    def database_of(service: str) -> Server:
        class Database(config.ReachingSettings):
            prefix = f"READROOM_{service}_".upper()
            database_url: config.DatabaseUrl

        told = config.load(Database, environ)
        return told.database_url.get_secret_value(), told.servers_ca

    keys = {name: f"READROOM_{name}_DATABASE_URL".upper() for name in PROCESSES}
    return {
        name: database_of(name) for name, key in keys.items() if key in environ or f"{key}_FILE" in environ
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m services", description="Runs the services of Readroom.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in SERVICES:
        commands.add_parser(name, help=f"run {name}; its settings are READROOM_{name.upper()}_… variables")
    migrating = commands.add_parser(
        "migrate", help=f"migrate READROOM_…_DATABASE_URL databases, set up the bus of {_BUS_KEY}"
    )
    migrating.add_argument(
        "--first-admin", metavar="LOGIN", help="create this administrator if there is no user yet"
    )
    inviting = commands.add_parser("invite", help="print the code by which a user signs in first")
    inviting.add_argument("login", metavar="LOGIN")
    keys = commands.add_parser("token-keys", help="print the key set of one or two Ed25519 keys in PEM")
    keys.add_argument("key", nargs="+", type=Path, metavar="KEY")
    commands.add_parser(BUS, help=f"set up the bus of {_BUS_KEY}, and mend it every few seconds")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "migrate":
            return migrate(os.environ, chosen.first_admin)
        if chosen.command == "invite":
            return invite(os.environ, chosen.login)
        if chosen.command == "token-keys":
            return token_keys(chosen.key)
        if chosen.command == BUS:
            return keep_bus(os.environ)
        return run_service(chosen.command)
    except ReadroomError as error:
        print(error.sentence, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
