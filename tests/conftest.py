"""What every test may ask for: real servers, a fresh database of a service, certificates.

- `servers`: PostgreSQL, NATS with the stream, and Valkey, started once for each pytest process.
- `fresh_database("access")`: the address of an empty, migrated database of the test's own.
- `open_database("access", …)`: such a database, with connections that are open already.
- `clones.make("access")`: its address, for fixtures that keep it for several tests.
- `peer`: DCMTK's storescp and Orthanc, where they are installed.
- `pki`: both certificate authorities, an identity for each service and the bff, the token issuer's key.

A test that kills servers or services starts its own: `LocalSystem(tmp_path / "data")` of `local.system`.
"""

import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pytest

from kernel.clock import Clock
from kernel.ids import NewId
from local.embedded import EmbeddedServers
from local.embedded.postgres import run_anywhere
from local.pki import Pki
from plumbing.busowner import set_up_once
from plumbing.components import COMPONENTS, PROCESSES
from plumbing.db import Database
from tests import peers
from tests.databases import Databases, Lent, Pool, Pools, T

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
    started = EmbeddedServers(data, PROCESSES, durable=False)
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
def clones(servers: EmbeddedServers) -> Iterator[Databases]:
    """For fixtures that keep a database for several tests: `clones.make("access")` is its address."""
    made = Databases(servers)
    yield made
    made.close()


@pytest.fixture
def fresh_database(clones: Databases) -> Iterator[Callable[[str], str]]:
    """Answers the address of a database of this test's own, migrated for the service and empty."""
    lent: list[Lent] = []

    def lend(service: str) -> str:
        lent.append(clones.lend(service))
        return lent[-1].address

    yield lend
    for each in lent:
        clones.take_back(each)


class OpenDatabase(Protocol):
    """What the fixture `open_database` is."""

    async def __call__(
        self, service: str, transaction: type[T], clock: Clock, new_id: NewId, pool_size: int = 8
    ) -> Database[T]: ...


@pytest.fixture(scope="session")
async def pools(clones: Databases) -> AsyncIterator[Pools]:
    made = Pools(clones)
    yield made
    await made.close()


@pytest.fixture
async def open_database(pools: Pools) -> AsyncIterator[OpenDatabase]:
    """Opens a database of this test's own, migrated for the service and empty; the next test gets it."""
    lent: list[tuple[Pool, Database[Any]]] = []

    async def lend(
        service: str, transaction: type[T], clock: Clock, new_id: NewId, pool_size: int = 8
    ) -> Database[T]:
        pool = await pools.lend(service, clock, new_id)
        database = pool.database(transaction, clock, new_id, pool_size)
        lent.append((pool, database))
        return database

    yield lend
    for pool, database in lent:
        await pools.take_back(pool, database)


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """Certificates and keys of a whole system."""
    return Pki.make(tmp_path_factory.mktemp("pki") / "pki", COMPONENTS.values(), datetime.now(UTC))


@pytest.fixture(scope="session", params=peers.PROGRAMS)
def peer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[peers.Peer]:
    """Each of the receivers of other projects, one after the other."""
    with peers.running(request.param, tmp_path_factory.mktemp(request.param)) as started:
        yield started
