"""Real PostgreSQL, NATS with JetStream and Valkey on this machine, for a laptop, the demo and the tests.

    servers = EmbeddedServers(Path("data"), ["access"])
    servers.start()                     # all three, in parallel
    servers.database_url("access")      # postgresql://readroom_access:…@127.0.0.1:…/readroom_access
    servers.nats.kill(); servers.nats.start()
    servers.stop()

`servers.sink`, a mail server and a text gateway, is started by whoever needs it. Everything is on loopback
with random passwords. Ports and passwords are chosen at the first start and kept (`kept.py`), so that a
restarted server is found where it was. Children end with this process; what a killed process left over is
ended by the next start (`processes.py`).
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from local.embedded import binaries
from local.embedded.kept import Kept
from local.embedded.postgres import Postgres
from local.embedded.servers import EmbeddedServer, Nats, Sink, Valkey
from local.processes import ProcessTable
from plumbing.components import COMPONENTS, SERVICES


class EmbeddedServers:
    """The three servers of one data directory, and in them a database for each of `components`.

    Those of them that are services have a user of the bus as well.

    `durable=False` spares PostgreSQL the waiting for the disk: a power cut may then destroy the data, the
    death of any process still loses nothing.
    """

    def __init__(
        self,
        data_dir: Path,
        components: Sequence[str],
        *,
        durable: bool = True,
        ports: Mapping[str, int] | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.processes = ProcessTable(self.data_dir)
        self.kept = Kept(self.data_dir / "kept.json", ports)
        self.postgres = Postgres(self.data_dir, self.processes, self.kept, durable=durable)
        on_the_bus = [name for name in components if name in SERVICES]
        self.nats = Nats(self.data_dir, self.processes, self.kept, on_the_bus)
        self.valkey = Valkey(self.data_dir, self.processes, self.kept)
        self.sink = Sink(self.data_dir, self.processes, self.kept)
        self._components = components

    def open(self) -> None:
        """Takes the directory, made if missing, and ends what an earlier start left over; starts nothing."""
        if not self.processes.is_open:
            self.data_dir.parent.mkdir(parents=True, exist_ok=True)
            # Root's PostgreSQL passes through the directory to its own data; every secret in it is 0600.
            binaries.make_folder(self.data_dir, 0o711 if os.geteuid() == 0 else 0o700)
            self.processes.open()

    def start(self) -> None:
        """Starts all three and returns when they answer and every component has its database."""
        self.open()
        try:
            with ThreadPoolExecutor(max_workers=3) as starters:
                starts = [starters.submit(server.start) for server in self.servers]
                try:
                    for start in starts:
                        start.result()
                except BaseException:
                    self.processes.abandon()  # the other starts need not be waited for
                    raise
            self.postgres.create_databases([_database(name) for name in self._components])
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends all three and gives the directory back."""
        if self.processes.is_open:
            with ThreadPoolExecutor(max_workers=4) as stoppers:
                for stop in [stoppers.submit(server.stop) for server in (*self.servers, self.sink)]:
                    stop.result()
            self.kept.release()
            self.processes.close()

    def remove(self) -> None:
        """Deletes all data of stopped servers, also those that are not in the data directory."""
        if self.data_dir.exists():
            self.postgres.remove()
            shutil.rmtree(self.data_dir)

    @property
    def servers(self) -> tuple[EmbeddedServer, ...]:
        return self.postgres, self.nats, self.valkey

    @property
    def by_name(self) -> Mapping[str, EmbeddedServer]:
        """Every server, by the name of its process."""
        return {server.name: server for server in (*self.servers, self.sink)}

    def database_url(self, service: str) -> str:
        """The address of a service's database, for its own role."""
        name = _database(service)
        return self.postgres.url(name, name, self.kept.password(name))

    @property
    def nats_url(self) -> str:
        """For who may do everything on the bus; a service has its own, `nats.url(SERVICE)`."""
        return self.nats.url()

    @property
    def cache_url(self) -> str:
        return f"redis://:{self.valkey.password}@127.0.0.1:{self.valkey.port}/0"


def _database(service: str) -> str:
    """The name of a service's database, and of its role."""
    return COMPONENTS[service].database
