"""`python -m services`: what a pod runs, and everything at once on a laptop.

    python -m services NAME                                 one service; settings are in the environment
    python -m services migrate [--first-admin LOGIN]        the databases and the bus of the environment
    python -m services bus                                  the bus, again and again
    python -m services all [--data DIR] [--first-admin LOGIN]

`migrate` runs before services start, and may be repeated at any time: what is as it should be stays as it is.
Only `migrate` and `bus` are told the set-up user of the bus: READROOM_BUS_SETUP_URL, or the name of a file
with it, READROOM_BUS_SETUP_URL_FILE. Servers on other machines are reached over TLS alone, verified with
READROOM_BUS_SERVERS_CA and READROOM_…_SERVERS_CA.

`all` starts PostgreSQL, NATS and Valkey on DIR, makes certificates and keys, migrates, starts `bus` and one
child process per service, writes DIR/endpoints.json (its keys: `plumbing/endpoints.py`) and runs until Ctrl-C
or SIGTERM. If a child ends by itself, all end, the reason is printed and the exit code is 1.
"""

import argparse
import asyncio
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from kernel.errors import Invalid, ReadroomError
from plumbing.endpoints import FILE
from services import SERVICES

if TYPE_CHECKING:
    from services.local import LocalSystem

ROOT = Path(__file__).parents[1]
BUS = "bus"
_BUS_KEY = "READROOM_BUS_SETUP_URL"


class _ToldToStop(BaseException):
    """SIGINT, SIGTERM or SIGHUP came."""


def run_service(name: str) -> int:
    code: int = importlib.import_module(f"services.{name}.main").main(os.environ)
    return code


def migrate(environ: Mapping[str, str], first_admin: str | None) -> int:
    """Brings each database to the newest form, and sets the bus up. Two at once do no harm."""
    from plumbing.busowner import set_up_once
    from plumbing.db import migrate as migrate_database

    async def bring_up(service: str, url: str, ca: Path | None) -> None:
        folders = [ROOT / "plumbing" / "migrations", ROOT / "services" / service / "migrations"]
        for applied in await migrate_database(url, folders, ca):
            print(f"{service}: {applied}")

    async def everything() -> None:
        if not databases and not bus:
            keys = ", ".join(f"`READROOM_{name.upper()}_DATABASE_URL`" for name in SERVICES)
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
    from pydantic_settings import SettingsConfigDict

    from plumbing import config

    class Setup(config.ReachingSettings):
        model_config = SettingsConfigDict(env_prefix="READROOM_BUS_")
        setup_url: config.NatsUrl

    if _BUS_KEY in environ or f"{_BUS_KEY}_FILE" in environ:
        setup = config.load(Setup, environ)
        return setup.setup_url.get_secret_value(), setup.servers_ca
    return None


def _databases(environ: Mapping[str, str]) -> dict[str, Server]:
    from pydantic_settings import SettingsConfigDict

    from plumbing import config

    def database_of(service: str) -> Server:
        class Database(config.ReachingSettings):
            model_config = SettingsConfigDict(env_prefix=f"READROOM_{service}_".upper())
            database_url: config.DatabaseUrl

        told = config.load(Database, environ)
        return told.database_url.get_secret_value(), told.servers_ca

    keys = {name: f"READROOM_{name}_DATABASE_URL".upper() for name in SERVICES}
    return {
        name: database_of(name) for name, key in keys.items() if key in environ or f"{key}_FILE" in environ
    }


def run_all(system: "LocalSystem") -> int:
    """Runs the whole system until told to stop (0) or until a part of it ends (1)."""

    def told_to_stop(_number: int, _frame: FrameType | None) -> None:
        raise _ToldToStop

    _when_told_to_stop(told_to_stop)
    try:
        begin = time.monotonic()
        system.start()
        print(f"Readroom is ready after {time.monotonic() - begin:.1f} s. Ctrl-C ends it.")
        print(_where_things_are(system), flush=True)
        reason = system.wait_for_an_end()
    except _ToldToStop:
        return 0
    finally:
        _when_told_to_stop(signal.SIG_IGN)  # it is stopping already
        system.stop()
    print(f"stopped: {reason}", file=sys.stderr)
    return 1


def _when_told_to_stop(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handler)


def _where_things_are(system: "LocalSystem") -> str:
    endpoints = system.endpoints()
    places = {
        **endpoints.services,
        "DICOM over TLS": endpoints.dicom,
        "gateways": endpoints.gateways,
        "database files": system.servers.postgres.home,
        "logs": system.data_dir / "logs",
        "all addresses": system.data_dir / FILE,
    }
    return "\n".join(f"  {name:<16}{place}" for name, place in places.items())


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m services", description="Runs the services of Readroom.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in SERVICES:
        commands.add_parser(name, help=f"run {name}; its settings are READROOM_{name.upper()}_… variables")
    first_admin = argparse.ArgumentParser(add_help=False)
    first_admin.add_argument(
        "--first-admin", metavar="LOGIN", help="create this administrator if there is no user yet"
    )
    commands.add_parser(
        "migrate",
        parents=[first_admin],
        help=f"migrate READROOM_…_DATABASE_URL databases, set up the bus of {_BUS_KEY}",
    )
    commands.add_parser(BUS, help=f"set up the bus of {_BUS_KEY}, and mend it every few seconds")
    everything = commands.add_parser("all", parents=[first_admin], help="run everything on this machine")
    everything.add_argument("--data", metavar="DIR", type=Path, default=Path("data"), help="default: data")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "all":
            from services.local import LocalSystem  # not for a pod

            return run_all(LocalSystem(chosen.data, first_admin=chosen.first_admin))
        if chosen.command == "migrate":
            return migrate(os.environ, chosen.first_admin)
        if chosen.command == BUS:
            return keep_bus(os.environ)
        return run_service(chosen.command)
    except ReadroomError as error:
        print(error.sentence, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
