"""PostgreSQL: its cluster made, started and stopped by ourselves."""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from kernel.errors import Unavailable
from local.embedded import binaries
from local.embedded.kept import Kept
from local.embedded.servers import START_LIMIT_S, STOP_LIMIT_S, EmbeddedServer
from local.processes import Child, ProcessTable, until
from plumbing.files import write_private

T = TypeVar("T")

SUPERUSER = "readroom"

# Every password is random and long: stretching guards nothing, and costs both sides at each connection.
_PASSWORDS = {"scram_iterations": "1"}

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
    **_PASSWORDS,
}

_SPARING = {"fsync": "off", "max_wal_size": "128MB"}


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
        return str(binaries.private_home(self._account, self._folder))

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

    def remove(self) -> None:
        """Deletes all its data, wherever they are."""
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.with_suffix(".owner").unlink(missing_ok=True)

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
        options += [word for name, value in _PASSWORDS.items() for word in ("-c", f"{name}={value}")]
        options += [] if self._durable else ["--no-sync"]
        making = self._processes.spawn(
            "initdb",
            [initdb, "-D", draft, "-U", SUPERUSER, f"--pwfile={password}", *options],
            environment={"PATH": os.defpath},
            folder=home,
            account=self._account,
        )
        if not making.wait(START_LIMIT_S):
            making.end(signal.SIGKILL, STOP_LIMIT_S)
        self._processes.forget(making)
        password.unlink()
        if making.exit_code != 0:
            raise Unavailable(f"PostgreSQL's initdb failed: {making.last_words()}")
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

    def create_databases(self, names: Sequence[str]) -> None:
        """Makes each database and the role of the same name that owns it, where they are missing."""

        async def run() -> None:
            async with self._connected() as connection:
                present = {row[0] for row in await connection.fetch("select datname from pg_database")}
                for name in names:
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
