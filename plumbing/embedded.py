"""Real PostgreSQL, NATS with JetStream and Valkey on this machine, for a laptop, the demo and the tests.

    servers = EmbeddedServers(Path("data"))
    servers.start()                     # all three, in parallel
    servers.database_url("access")      # postgresql://readroom_access:…@127.0.0.1:…/readroom_access
    servers.nats.kill(); servers.nats.start()
    servers.stop()

Everything is on loopback with random passwords. Ports and passwords are chosen at the first start and kept
(`kept.py`), so that a restarted server is found where it was. Children end with this process; what a killed
process left over is ended by the next start (`processes.py`).
"""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from kernel.errors import Unavailable
from plumbing import binaries
from plumbing.kept import Kept
from plumbing.processes import Child, ProcessTable, until, write_private

T = TypeVar("T")

START_LIMIT_S = 30.0
"""How long a server may take until it answers: recovery after a crash replays at most `max_wal_size`."""

STOP_LIMIT_S = 2.0
"""How long a server may take to end when asked to; then it is killed, which loses nothing either."""

DATABASES = ("ingest", "routing", "access")
"""One database and one role for each service: `readroom_SERVICE`."""

SUPERUSER = "readroom"

# The error log says what failed, not with which values: those are patient data.
_POSTGRES_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "wal_level": "minimal",  # nobody replicates an embedded server
    "max_wal_senders": "0",
}

_SPARING = {"fsync": "off", "max_wal_size": "128MB"}

_NATS_SETTINGS = """\
server_name: readroom
listen: "127.0.0.1:{port}"
system_account: SYSTEM
accounts {{
  SYSTEM {{ exports: [{{ service: "$SYS.REQ.SERVER.PING.JSZ" }}] }}
  READROOM {{
    jetstream: enabled
    users: [{{ user: "readroom", password: "{password}" }}]
    # Lets a service see at its start that the server syncs always.
    imports: [{{ service: {{ account: SYSTEM, subject: "$SYS.REQ.SERVER.PING.JSZ" }} }}]
  }}
}}
jetstream {{ store_dir: "{store}", sync_interval: always }}
"""

_VALKEY_SETTINGS = """\
bind 127.0.0.1
port {port}
requirepass {password}
save ""
appendonly no
"""


class EmbeddedServer:
    """One server; start, stop and kill it singly to try what happens without it."""

    stop_signal: int = signal.SIGTERM
    death_signal: int = signal.SIGKILL

    def __init__(self, name: str, folder: Path, processes: ProcessTable, kept: Kept) -> None:
        self.name = name
        self._folder = folder
        self._processes = processes
        self._kept = kept
        self._child: Child | None = None

    @property
    def port(self) -> int:
        return self._kept.port(self.name)

    @property
    def pid(self) -> int:
        """The number of its process. Raises Unavailable while there is none."""
        return self._running().pid

    def start(self) -> None:
        """Starts it and waits until it answers; on the same port and data as before."""
        if self._child and self._child.exit_code is None:
            return
        port = self.port
        child = self._child = self._spawn(port)
        if until(lambda: child.exit_code is not None or self._answers(port), START_LIMIT_S):
            if child.exit_code is None:
                return
            code = child.exit_code
            self._forget()
            raise Unavailable(f"{self.name} ended with {code} at its start: {child.last_words()}")
        self.kill()
        raise Unavailable(f"{self.name} does not answer: see `{child.log}`")

    def stop(self) -> None:
        """Asks it to end, and insists after a while."""
        if self._child:
            self._child.end(self.stop_signal, STOP_LIMIT_S)
            self._forget()

    def kill(self) -> None:
        """Ends it without warning (SIGKILL)."""
        if self._child:
            self._child.end(signal.SIGKILL, STOP_LIMIT_S)
            self._forget()

    def freeze(self) -> None:
        """Stops it and its descendants where they are: connections stay, answers do not come."""
        self._running().signal_family(signal.SIGSTOP)

    def thaw(self) -> None:
        self._running().signal_family(signal.SIGCONT)

    def _running(self) -> Child:
        if self._child is None:
            raise Unavailable(f"{self.name} is not running")
        return self._child

    def _forget(self) -> None:
        if self._child:
            self._processes.forget(self._child)
            self._child = None

    def _spawn(self, port: int) -> Child:
        raise NotImplementedError

    def _answers(self, port: int) -> bool:
        raise NotImplementedError


class Postgres(EmbeddedServer):
    """PostgreSQL, run as an unprivileged account when we are root."""

    stop_signal = signal.SIGINT  # disconnects the clients and ends orderly ("fast")
    death_signal = signal.SIGQUIT  # ends at once with all its processes; the next start recovers

    def __init__(self, folder: Path, processes: ProcessTable, kept: Kept, *, durable: bool) -> None:
        super().__init__("postgres", folder, processes, kept)
        self._durable = durable
        self._account = binaries.unprivileged_account()

    @property
    def password(self) -> str:
        return self._kept.password("postgres")

    @property
    def home(self) -> Path:
        """Where its data are: in the data directory, or in our private folder if it cannot reach that."""
        return self._folder / self._kept.text("postgres_folder", self._choose_home)

    def _choose_home(self) -> str:
        if self._account is None or binaries.reaches(self._account, self._folder):
            return "postgres"
        return str(binaries.private_folder(self._account) / f"data-{secrets.token_hex(8)}")

    def _spawn(self, port: int) -> Child:
        program = binaries.locate("postgres", os.environ)
        if self._account:
            program = binaries.within_reach(program, self._account)
        home = self._make_home()
        data = home / "data"
        if not data.exists():
            self._make_cluster(program.with_name("initdb"), home)
        self._clear(data)
        settings = _POSTGRES_SETTINGS | {"port": str(port)} | ({} if self._durable else _SPARING)
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return self._processes.spawn(
            self.name,
            [program, "-D", data, *options],
            environment={"PATH": os.defpath},
            folder=home,
            account=self._account,
            death_signal=self.death_signal,
        )

    def _make_home(self) -> Path:
        home = binaries.make_folder(self.home, 0o700)
        if self._account and home.stat().st_uid != self._account.uid:
            os.chown(home, self._account.uid, self._account.gid)
        return home

    def _make_cluster(self, initdb: Path, home: Path) -> None:
        draft, password = home / "data.draft", home / "password"
        shutil.rmtree(draft, ignore_errors=True)  # a first start that was interrupted
        write_private(password, self.password.encode())
        if self._account:
            os.chown(password, self._account.uid, self._account.gid)
        # The builtin locale sorts alike on every system.
        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"]
        command = [str(initdb), "-D", str(draft), "-U", SUPERUSER, f"--pwfile={password}", *options]
        account = self._account
        made = subprocess.run(
            command if self._durable else [*command, "--no-sync"],
            env={"PATH": os.defpath},
            cwd=home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
        password.unlink()
        if made.returncode != 0:
            cause = (made.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise Unavailable(f"PostgreSQL's initdb failed: {cause}")
        draft.rename(home / "data")

    def _clear(self, data: Path) -> None:
        """After a SIGKILL: its processes notice and end; its lock file may name a stranger's by now."""

        def unused() -> bool:
            return not any(_works_in(data, entry) for entry in Path("/proc").glob("[0-9]*"))

        lock = data / "postmaster.pid"
        if lock.exists():
            if not until(unused, STOP_LIMIT_S):
                raise Unavailable(f"processes of another start still use `{data}`: end them first")
            lock.unlink(missing_ok=True)

    def _answers(self, port: int) -> bool:
        # The eighth line of the lock file is the server's state, which `pg_ctl` waits for as well.
        try:
            lines = (self.home / "data/postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[7].strip() == "ready"

    def url(self, database: str, user: str, password: str) -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def execute(self, *statements: str) -> None:
        """Runs statements as the superuser, each in a transaction of its own."""

        async def run() -> None:
            async with self._connected() as connection:
                for statement in statements:
                    await connection.execute(statement)

        run_anywhere(run())

    def create_databases(self, services: Sequence[str]) -> None:
        """Makes the role and the database of each service, where they are missing."""

        async def run() -> None:
            async with self._connected() as connection:
                present = {row[0] for row in await connection.fetch("select datname from pg_database")}
                for name in (f"readroom_{service}" for service in services):
                    if name in present:
                        continue
                    # A first start that was interrupted may have made the role only.
                    await connection.execute(f"drop role if exists {name}")
                    await connection.execute(
                        f"create role {name} login password '{self._kept.password(name)}'"
                    )
                    await connection.execute(f"create database {name} owner {name}")
                    await connection.execute(f"revoke all on database {name} from public")

        run_anywhere(run())

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        connection = await asyncpg.connect(
            self.url("postgres", SUPERUSER, self.password), timeout=START_LIMIT_S
        )
        try:
            yield connection
        finally:
            await connection.close()


def _works_in(folder: Path, process: Path) -> bool:
    try:
        return (process / "cwd").readlink() == folder.resolve()
    except OSError:  # it ended, or it is another user's
        return False


def run_anywhere(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end from any thread, one with a running event loop included."""
    with ThreadPoolExecutor(max_workers=1) as runner:
        return runner.submit(asyncio.run, coroutine).result()


class Nats(EmbeddedServer):
    """NATS with JetStream that syncs before it acknowledges."""

    def __init__(self, folder: Path, processes: ProcessTable, kept: Kept) -> None:
        super().__init__("nats", folder, processes, kept)

    @property
    def password(self) -> str:
        return self._kept.password("nats")

    def _spawn(self, port: int) -> Child:
        home = binaries.make_folder(self._folder / "nats", 0o700)
        settings = _NATS_SETTINGS.format(port=port, password=self.password, store=home)
        write_private(home / "nats.conf", settings.encode())
        program = binaries.locate("nats-server", os.environ)
        return self._processes.spawn(
            self.name, [program, "-c", home / "nats.conf"], environment={}, folder=home
        )

    def _answers(self, port: int) -> bool:
        # With the password, so that it is ours and not a stranger's; NATS answers a PING once it serves.
        options = json.dumps({"user": "readroom", "pass": self.password, "verbose": False, "pedantic": False})
        return _says(port, f"CONNECT {options}\r\nPING\r\n".encode(), b"PONG\r\n")


class Valkey(EmbeddedServer):
    """Valkey, which keeps nothing on disk: it holds only what may be lost."""

    def __init__(self, folder: Path, processes: ProcessTable, kept: Kept) -> None:
        super().__init__("valkey", folder, processes, kept)

    @property
    def password(self) -> str:
        return self._kept.password("valkey")

    def _spawn(self, port: int) -> Child:
        home = binaries.make_folder(self._folder / "valkey", 0o700)
        settings = _VALKEY_SETTINGS.format(port=port, password=self.password)
        write_private(home / "valkey.conf", settings.encode())
        program = binaries.locate("valkey-server", os.environ)
        return self._processes.spawn(self.name, [program, home / "valkey.conf"], environment={}, folder=home)

    def _answers(self, port: int) -> bool:
        return _says(port, f"AUTH {self.password}\r\nPING\r\n".encode(), b"+PONG\r\n")


def _says(port: int, question: bytes, answer: bytes) -> bool:
    """Whether who listens on the port gives this answer within a second."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(question)
            heard = b""
            while answer not in heard and len(heard) < 65536:
                if not (more := connection.recv(4096)):
                    return False
                heard += more
            return answer in heard
    except OSError:
        return False


class EmbeddedServers:
    """The three servers of one data directory.

    `durable=False` spares PostgreSQL the waiting for the disk: a power cut may then destroy the data, the
    death of any process still loses nothing.
    """

    def __init__(self, data_dir: Path, *, databases: Sequence[str] = DATABASES, durable: bool = True) -> None:
        self.data_dir = data_dir.absolute()
        self._databases = databases
        self._durable = durable
        self._opened = False

    def open(self) -> None:
        """Takes the directory, made if missing, and ends what an earlier start left over; starts nothing."""
        if self._opened:
            return
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        # Root's PostgreSQL passes through the directory to its own data; every secret in it is 0600.
        binaries.make_folder(self.data_dir, 0o711 if os.geteuid() == 0 else 0o700)
        self.processes = ProcessTable(self.data_dir)
        self.processes.open()
        self.kept = Kept(self.data_dir / "kept.json")
        self.postgres = Postgres(self.data_dir, self.processes, self.kept, durable=self._durable)
        self.nats = Nats(self.data_dir, self.processes, self.kept)
        self.valkey = Valkey(self.data_dir, self.processes, self.kept)
        self._opened = True

    def start(self) -> None:
        """Starts all three and returns when they answer and every service has its database."""
        self.open()
        try:
            with ThreadPoolExecutor(max_workers=3) as starters:
                for start in [starters.submit(server.start) for server in self.servers]:
                    start.result()
            self.postgres.create_databases(self._databases)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends all three and gives the directory back."""
        if not self._opened:
            return
        with ThreadPoolExecutor(max_workers=3) as stoppers:
            for stop in [stoppers.submit(server.stop) for server in self.servers]:
                stop.result()
        self.kept.release()
        self.processes.close()
        self._opened = False

    def remove(self) -> None:
        """Deletes all data of stopped servers, also those that are not in the data directory."""
        home = Postgres(
            self.data_dir, ProcessTable(self.data_dir), Kept(self.data_dir / "kept.json"), durable=False
        ).home
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(self.data_dir, ignore_errors=True)

    @property
    def servers(self) -> tuple[EmbeddedServer, ...]:
        return self.postgres, self.nats, self.valkey

    def database_url(self, service: str) -> str:
        """The address of a service's database, for its own role."""
        role = f"readroom_{service}"
        return self.postgres.url(role, role, self.kept.password(role))

    @property
    def nats_url(self) -> str:
        return f"nats://readroom:{self.nats.password}@127.0.0.1:{self.nats.port}"

    @property
    def cache_url(self) -> str:
        return f"redis://:{self.valkey.password}@127.0.0.1:{self.valkey.port}/0"
