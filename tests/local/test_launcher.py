"""`python -m local`: everything starts, a part that ends ends all, and nothing stays behind.

What children are is seen best with tiny ones: a command that serves `/readyz` and does as it is told by
lines on its standard output. The last tests start the real services.
"""

import asyncio
import itertools
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import asyncpg
import pytest

from kernel.errors import Conflict, Unavailable
from local.processes import Identity, until
from local.system import LocalSystem
from plumbing.components import PROCESSES, SERVICES
from readroom.endpoints import Endpoints
from tests.processes import processes_of

ROOT = Path(__file__).parents[2]

STOP_WITHIN_S = 5.0
"""What the issue promises of Ctrl-C."""

_SMALL_SERVICE = """
import http.server, os, signal, sys
name = {name!r}
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()
    def log_message(self, *ignored):
        pass
host, port = os.environ["READROOM_" + name.upper() + "_HTTP_LISTEN"].split(":")
print(os.environ["READROOM_" + name.upper() + "_DATABASE_URL"], flush=True)
{more}
http.server.HTTPServer((host, int(port)), Ready).serve_forever()
"""


def _small(name: str, more: str = "") -> list[str]:
    return [sys.executable, "-c", _SMALL_SERVICE.format(name=name, more=more)]


def small_system(**more: str) -> dict[str, Sequence[str]]:
    return {name: _small(name, more.get(name, "")) for name in ("ingest", "routing")}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSystem]:
    """A started system of two small services; whoever stops something starts it again."""
    local = LocalSystem(tmp_path_factory.mktemp("small") / "data", durable=False, commands=small_system())
    local.start()
    yield local
    local.stop()
    local.servers.remove()


def test_everything_is_ready_and_said_where(system: LocalSystem) -> None:
    endpoints = Endpoints.read(system.data_dir)
    assert set(endpoints.services) == {"ingest", "routing"}
    assert endpoints.issuer_key.exists()
    assert stat.S_IMODE((system.data_dir / "endpoints.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(endpoints.issuer_key.stat().st_mode) == 0o600
    log = (system.data_dir / "logs" / "routing.log").read_text()
    assert log.strip() == system.servers.database_url("routing")


def test_addresses_and_authorities_are_the_same_after_a_restart(system: LocalSystem) -> None:
    first, authority = Endpoints.read(system.data_dir), system.pki.service_ca.read_bytes()
    system.stop()
    with pytest.raises(Unavailable, match="no system runs on"):
        Endpoints.read(system.data_dir)

    system.start()

    assert Endpoints.read(system.data_dir) == first
    assert system.pki.service_ca.read_bytes() == authority


def test_secrets_are_chosen_once_and_reach_only_their_service(system: LocalSystem) -> None:
    told = {name: system.environment(name) for name in SERVICES}
    files = {
        key: Path(value) for each in told.values() for key, value in each.items() if key.endswith("_FILE")
    }
    secrets = {key: path for key, path in files.items() if path.suffix == ".key"}
    first = {key: path.read_text() for key, path in secrets.items()}
    assert {"READROOM_SHARING_LINK_SECRET_FILE", "READROOM_SHARING_CODE_PEPPER_FILE"} < secrets.keys()
    assert len(set(first.values())) == len(secrets) >= len(SERVICES)
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.values()} == {0o600}

    system.stop()
    system.start()

    assert {key: path.read_text() for key, path in secrets.items()} == first


def test_a_service_is_killed_and_started_singly(system: LocalSystem) -> None:
    first = system.service_pid("ingest")

    system.kill_service("ingest")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(_http(system, "ingest"))
    system.start_service("ingest")

    assert system.service_pid("ingest") != first
    assert system.wait_for_an_end(within_s=0.1) is None  # a killing that was meant is not reported


@pytest.mark.parametrize(
    ("last_act", "reason"),
    [
        ("sys.exit('the key is missing')", "ingest ended with exit code 1: the key is missing"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "ingest was ended by SIGSEGV: postgresql://"),
    ],
)
def test_a_service_that_ends_at_its_start_is_named_with_the_reason(
    last_act: str, reason: str, tmp_path: Path
) -> None:
    system = LocalSystem(tmp_path / "data", durable=False, commands=small_system(ingest=last_act))

    with pytest.raises(Unavailable) as refused:
        system.start()

    assert refused.value.sentence.startswith(reason)
    assert not processes_of(system.data_dir, system.servers.postgres.home)
    system.servers.remove()


def test_a_second_system_on_the_same_data_is_refused_and_the_first_runs_on(system: LocalSystem) -> None:
    second = LocalSystem(system.data_dir, commands=small_system())

    with pytest.raises(Conflict, match="is in use"):
        second.start()
    second.stop()

    assert Endpoints.read(system.data_dir)
    assert system.wait_for_an_end(within_s=0.1) is None


_ALL = """
import sys
from pathlib import Path
from local.__main__ import run
from local.system import LocalSystem
sys.exit(run(LocalSystem(Path({data!r}), durable=False, commands={commands!r})))
"""


class _Running:
    """`python -m local` as a process of its own, on small services."""

    def __init__(self, data: Path, commands: Mapping[str, Sequence[str]]) -> None:
        self.data = data
        self.process = subprocess.Popen(
            [sys.executable, "-c", _ALL.format(data=str(data), commands=dict(commands))],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        self.greeting = list(itertools.islice(self.process.stdout, 10))
        assert self.greeting, self.process.communicate()
        self.home = LocalSystem(data).servers.postgres.home

    def children(self) -> set[int]:
        return processes_of(self.data, self.home) - {self.process.pid}

    def remove(self) -> None:
        self.process.kill()
        self.process.communicate()
        until(lambda: not self.children(), 10.0)
        LocalSystem(self.data).servers.remove()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[_Running]:
    run = _Running(tmp_path / "data", small_system())
    yield run
    run.remove()


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.drill), signal.SIGTERM])
def test_a_signal_ends_everything_in_time_and_leaves_no_process(number: int, running: _Running) -> None:
    begin = time.monotonic()
    running.process.send_signal(number)

    _, err = running.process.communicate(timeout=30)

    assert time.monotonic() - begin < STOP_WITHIN_S
    assert (running.process.returncode, err) == (0, "")
    assert running.greeting[0].startswith("Readroom is ready after")
    assert running.greeting[-1].split() == ["all", "addresses", str(running.data / "endpoints.json")]
    assert not running.children()


@pytest.mark.drill
def test_services_that_do_not_listen_to_sigterm_are_ended_in_time_too(tmp_path: Path) -> None:
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    run = _Running(tmp_path / "data", small_system(ingest=deaf, routing=deaf))
    begin = time.monotonic()
    run.process.terminate()

    run.process.communicate(timeout=30)

    assert time.monotonic() - begin < STOP_WITHIN_S
    assert not run.children()
    run.remove()


def test_a_part_that_ends_by_itself_ends_all_with_the_reason(running: _Running) -> None:
    pid = next(pid for pid in running.children() if b"'routing'" in Path(f"/proc/{pid}/cmdline").read_bytes())
    _kill(pid)

    _, err = running.process.communicate(timeout=30)

    assert running.process.returncode == 1
    assert err.startswith("stopped: routing was ended by SIGKILL: postgresql://")
    assert not running.children()


@pytest.mark.drill
def test_a_server_that_ends_by_itself_ends_all_with_the_reason(running: _Running) -> None:
    pid = next(
        pid for pid in running.children() if b"nats-server" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    _kill(pid)

    _, err = running.process.communicate(timeout=30)

    assert running.process.returncode == 1
    assert err.startswith("stopped: nats was ended by SIGKILL")


def test_after_sigkill_of_the_parent_its_children_end_and_the_next_start_works(running: _Running) -> None:
    running.process.kill()
    running.process.communicate()

    assert until(lambda: not running.children(), 10.0)
    again = LocalSystem(running.data, durable=False, commands=small_system())
    again.start()
    again.stop()


def test_sigterm_while_everything_starts_leaves_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    process = subprocess.Popen(
        [sys.executable, "-c", _ALL.format(data=str(data), commands=small_system())], cwd=ROOT
    )
    assert until(lambda: (data / "processes.json").exists(), 30.0)
    begin = time.monotonic()
    process.terminate()

    process.wait(timeout=30)

    assert time.monotonic() - begin < STOP_WITHIN_S
    system = LocalSystem(data)
    assert not processes_of(data, system.servers.postgres.home)
    system.servers.remove()


def _kill(pid: int) -> None:
    identity = Identity.of(pid)
    assert identity
    identity.signal(signal.SIGKILL)


def _http(system: LocalSystem, name: str) -> tuple[str, int]:
    host, _, port = system.endpoints().http[name].rpartition(":")
    return host, int(port)


def _services(*arguments: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services", *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
    )


def test_migrate_says_which_keys_it_looked_for() -> None:
    ran = _services("migrate", environment={})
    assert ran.returncode == 1
    keys = ", ".join(f"`READROOM_{name.upper()}_DATABASE_URL`" for name in PROCESSES)
    assert ran.stderr.strip() == f"no database is named: set one of {keys}, or `READROOM_BUS_SETUP_URL`"


def test_whoever_keeps_the_bus_names_the_key_that_they_lack() -> None:
    ran = _services("bus", environment={})
    assert ran.returncode == 1
    assert ran.stderr.strip() == "the set-up user of the bus is not named: set `READROOM_BUS_SETUP_URL`"


def test_migrate_sets_the_bus_up_with_an_address_from_a_file(system: LocalSystem, tmp_path: Path) -> None:
    address = tmp_path / "bus"
    address.write_text(system.servers.nats.setup_url + "\n")
    for expected in ("bus: made the stream `FACTS`", ""):
        ran = _services("migrate", environment={"READROOM_BUS_SETUP_URL_FILE": str(address)})
        assert (ran.returncode, ran.stderr) == (0, "")
        assert ran.stdout.partition("\n")[0] == expected


def test_a_service_without_settings_names_the_first_keys() -> None:
    ran = _services("routing", environment={})
    assert ran.returncode == 1
    assert "`READROOM_ROUTING_LISTEN` is not set" in ran.stderr


def test_an_unknown_service_is_refused() -> None:
    ran = _services("radiology", environment={})
    assert ran.returncode == 2
    assert "invalid choice: 'radiology'" in ran.stderr


@pytest.mark.drill
def test_the_real_system_starts_twice_and_has_one_first_administrator(tmp_path: Path) -> None:
    for _ in range(2):
        system = LocalSystem(tmp_path / "data", first_admin="anna", durable=False)
        system.start()
        try:
            users = asyncio.run(_logins(system.servers.database_url("access")))
            assert users == ["anna"]
            system.kill_service("ingest")
            system.start_service("ingest")
            assert system.wait_for_an_end(within_s=0.1) is None
        finally:
            begin = time.monotonic()
            system.stop()
            assert time.monotonic() - begin < STOP_WITHIN_S
    system.servers.remove()


async def _logins(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        return [row["login"] for row in await connection.fetch("select login from users")]
    finally:
        await connection.close()
