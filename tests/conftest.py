"""What every test may ask for: real servers, a fresh database of a service, certificates.

- `servers`: PostgreSQL, NATS with the stream, and Valkey, started once for each pytest process.
- `fresh_database("access")`: the address of an empty, migrated database of its own; any scope may ask.
- `peer`: DCMTK's storescp and Orthanc, where they are installed.
- `pki`: both certificate authorities, an identity for each service and the bff, the token issuer's key.

A test that kills servers or services starts its own: `LocalSystem(tmp_path / "data")` of `local.system`.
"""

import itertools
import os
import secrets
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from local.embedded import EmbeddedServers
from local.embedded.postgres import run_anywhere
from local.pki import Pki
from plumbing.busowner import set_up_once
from plumbing.components import COMPONENTS, SERVICES
from plumbing.migrating import migrate
from tests import peers

ROOT = Path(__file__).parents[1]

KEPT_DATABASES, DROPPED_AT_ONCE = 20, 10
"""How many databases of earlier tests stay, each of some MB; so many more, and as many of the oldest go."""

ROOM_BYTES = 4 << 30
"""What the memory file system must have free to be preferred: a database is cloned there in 50 ms instead
of 300 ms on a busy disk, and a folder of packs is gone at once. Containers often give it 64 MB."""


def pytest_configure() -> None:
    """Temporary folders are where there is room, also those of the processes that tests start."""
    if "TMPDIR" not in os.environ:
        os.environ["TMPDIR"] = tempfile.tempdir = str(_room())


@pytest.fixture(scope="session")
def servers() -> Iterator[EmbeddedServers]:
    """The servers of this pytest process. They spare the waiting for the disk, nothing else."""
    _remove_leftovers()
    data = _room() / f"readroom-tests-{os.getpid()}-{secrets.token_hex(4)}"
    started = EmbeddedServers(data, SERVICES, durable=False)
    started.start()
    run_anywhere(set_up_once(started.nats.setup_url))
    try:
        yield started
    finally:
        started.stop()
        started.remove()


def _room() -> Path:
    memory = Path("/dev/shm")
    has_room = memory.is_dir() and shutil.disk_usage(memory).free > ROOM_BYTES
    return memory if has_room else Path(tempfile.gettempdir())


def _remove_leftovers() -> None:
    """Data of sessions that were killed: their servers died with them."""
    for folder in _room().glob("readroom-tests-*"):
        if not Path(f"/proc/{folder.name.split('-')[2]}").exists():
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def fresh_database(servers: EmbeddedServers) -> Iterator[Callable[[str], str]]:
    """Answers the address of a new database, migrated for the service and empty."""
    numbers = itertools.count(1)
    templates: set[str] = set()
    made: deque[str] = deque()

    def make(service: str) -> str:
        role, template, name = (
            f"readroom_{service}",
            f"template_{service}",
            f"test_{service}_{next(numbers)}",
        )
        if service not in templates:
            servers.postgres.execute(f"create database {template} owner {role}")
            folders = [ROOT / folder for folder in COMPONENTS[service].migrations]
            run_anywhere(migrate(address(service, template), folders))
            templates.add(service)
        if len(made) >= KEPT_DATABASES + DROPPED_AT_ONCE:
            dropper.submit(drop, [made.popleft() for _ in range(DROPPED_AT_ONCE)])
        servers.postgres.execute(
            f"create database {name} template {template} strategy file_copy owner {role}"
        )
        made.append(name)
        return address(service, name)

    def drop(old: list[str]) -> None:
        try:
            servers.postgres.execute(*(f"drop database if exists {each}" for each in old))
        except asyncpg.ObjectInUseError:
            made.extend(old)  # somebody's still: look at it again later

    def address(service: str, name: str) -> str:
        return servers.database_url(service).removesuffix(f"readroom_{service}") + name

    # PostgreSQL drops a database when each of its processes has taken note, and one that a client is about to
    # sign in to takes note when they have. If that client is in the event loop that asks for a database, and
    # waits for the drop, both wait for `authentication_timeout`: 60 s. So nobody waits for a drop.
    dropper = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dropper")
    yield make
    dropper.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """Certificates and keys of a whole system."""
    return Pki.make(tmp_path_factory.mktemp("pki") / "pki", COMPONENTS.values(), datetime.now(UTC))


@pytest.fixture(scope="session", params=peers.PROGRAMS)
def peer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[peers.Peer]:
    """Each of the receivers of other projects, one after the other."""
    with peers.running(request.param, tmp_path_factory.mktemp(request.param)) as started:
        yield started
