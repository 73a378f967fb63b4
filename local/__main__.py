"""`python -m local [--data DIR] [--first-admin LOGIN]`: the whole system on this machine.

Starts PostgreSQL, NATS and Valkey on DIR, makes certificates and keys, migrates, starts one child process per
service and one that keeps the bus, writes DIR/endpoints.json (its keys: `readroom/endpoints.py`) and runs
until Ctrl-C or SIGTERM. A terminal is told how the first administrator signs in. A child that ends by itself
is started again, later each time; with `--strict` all end then, the reason is printed and the exit code is 1.
"""

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from kernel.errors import Invalid, ReadroomError
from local.portplan import BASE, plan
from local.restarting import keep_running
from local.system import LocalSystem
from readroom.endpoints import FILE


class _ToldToStop(SystemExit):
    """SIGINT, SIGTERM or SIGHUP came. An event loop lets a SystemExit through, and nothing else of ours."""


def run(system: LocalSystem, prepared: Callable[[], str] | None = None, *, is_strict: bool = True) -> int:
    """Runs the whole system until told to stop (0) or, if that is strict, until a part of it ends (1).

    `prepared` is called when everything is ready; what it answers is printed.
    """

    def told_to_stop(_number: int, _frame: FrameType | None) -> None:
        raise _ToldToStop

    _when_told_to_stop(told_to_stop)
    try:
        begin = time.monotonic()
        system.start()
        print(f"Readroom is ready after {time.monotonic() - begin:.1f} s. Ctrl-C ends it.")
        print(_where_things_are(system), flush=True)
        if prepared:
            print(prepared(), flush=True)
        if not is_strict:
            keep_running(system, lambda said: print(said, file=sys.stderr, flush=True))
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


def _how_to_sign_in(system: LocalSystem, login: str) -> str:
    """For a terminal an address that admits once. A code stands in no log: anybody else is told a command."""
    program = Path(sys.executable).with_name("readroom")
    command = f"{shlex.quote(str(program))} --data {shlex.quote(str(system.data_dir))}"
    if not sys.stdout.isatty():
        return f"  {'sign in':<16}`{command} login {login}`, then `{command} invite {login}`"
    try:
        code = system.invite(login)
    except ReadroomError as error:  # the administrator of this data has another login
        return f"  {'sign in':<16}{error.sentence}"
    address = f"{system.endpoints().pages}/welcome#{code}"
    return f"\nSign in as `{login}`, first by this address, later with your password:\n  {address}"


def _where_things_are(system: LocalSystem) -> str:
    endpoints = system.endpoints()
    places = {
        "pages": endpoints.pages,
        **endpoints.services,
        "DICOM over TLS": endpoints.dicom,
        "DICOMweb": endpoints.dicomweb,
        "gateways": endpoints.gateways,
        "database files": system.servers.postgres.home,
        "logs": system.data_dir / "logs",
        "all addresses": system.data_dir / FILE,
    }
    return "\n".join(f"  {name:<16}{place}" for name, place in places.items())


def _ports(text: str) -> Mapping[str, int]:
    """What `--ports` means."""
    if text == "any":
        return {}
    if not text.isdecimal() or not 1024 <= int(text) <= 60_000:
        raise argparse.ArgumentTypeError(f"expected a number from 1024 to 60000, or `any`, and not `{text}`")
    return plan(int(text))


def must_be_data(folder: Path) -> None:
    """Raises Invalid for a folder that holds something else: a system would strew its files there."""
    if folder.exists() and not folder.is_dir():
        raise Invalid(f"`{folder}` is a file: name a folder for the data, as in `make up DATA=data`")
    found = {each.name for each in folder.iterdir()} if folder.is_dir() else set()
    if found and not found & {"kept.json", "processes.json", "logs", "pki"}:
        raise Invalid(
            f"`{folder}` holds other files than the data of a system: name another folder, new or empty"
        )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m local", description="Runs Readroom on this machine.")
    parser.add_argument("--data", metavar="DIR", type=Path, default=Path("data"), help="default: data")
    parser.add_argument(
        "--first-admin", metavar="LOGIN", help="create this administrator if there is no user yet"
    )
    parser.add_argument(
        "--ports",
        metavar="BASE",
        type=_ports,
        default=plan(),
        help=f"of a new data directory: those from BASE on, or `any` for free ones; default: {BASE}",
    )
    parser.add_argument(
        "--strict", action="store_true", help="end everything when a part ends by itself, for tests"
    )
    chosen = parser.parse_args(arguments)
    login = chosen.first_admin
    try:
        must_be_data(chosen.data)
        system = LocalSystem(chosen.data, first_admin=login, ports=chosen.ports)
        prepared = (lambda: _how_to_sign_in(system, login)) if login else None
        return run(system, prepared, is_strict=chosen.strict)
    except ReadroomError as error:
        print(error.sentence, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
