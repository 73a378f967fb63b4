"""What ends by itself is started again, later each time; ports are planned; wrong folders get a sentence."""

import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.errors import Invalid, Unavailable
from local.__main__ import must_be_data
from local.embedded.kept import Kept
from local.portplan import BASE, plan
from local.processes import Identity
from local.restarting import CALM_S, LONGEST_S, BackOff, keep_running
from local.system import LocalSystem
from plumbing.components import COMPONENTS
from tests.local.test_launcher import small_system
from tests.ports import free_port


class Enough(Exception):
    """The test has seen what it wanted."""


def test_each_end_waits_longer_until_the_part_is_calm() -> None:
    now_s = [0.0]
    back_off = BackOff(lambda: now_s[0])

    assert [back_off.next_s("ingest") for _ in range(7)] == [1, 2, 4, 8, 16, LONGEST_S, LONGEST_S]
    assert back_off.next_s("routing") == 1
    now_s[0] += LONGEST_S + CALM_S
    assert back_off.next_s("ingest") == 1


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSystem]:
    local = LocalSystem(tmp_path_factory.mktemp("again") / "data", durable=False, commands=small_system())
    local.start()
    yield local
    local.stop()
    local.servers.remove()


@pytest.mark.parametrize("name", ["routing", "nats"])
def test_a_part_that_ends_by_itself_is_started_again(name: str, system: LocalSystem) -> None:
    def pid() -> int:
        server = system.servers.by_name.get(name)
        return server.pid if server else system.service_pid(name)

    first, told = pid(), list[str]()
    identity = Identity.of(first)
    assert identity
    identity.signal(signal.SIGKILL)

    def tell(said: str) -> None:
        told.append(said)
        if "runs again" in said:
            raise Enough

    with pytest.raises(Enough):
        keep_running(system, tell, wait=lambda _seconds: None)

    assert told[0].startswith(f"{name} was ended by SIGKILL")
    assert told[0].endswith(f"{name} is started again in 1 s")
    assert pid() != first
    assert system.wait_for_an_end(within_s=0.1) is None


def test_every_edge_has_a_port_of_its_own_and_the_pages_the_first() -> None:
    ports = plan()

    assert ports["web_pages"] == BASE
    assert len(set(ports.values())) == len(ports)
    assert {f"{name}_{edge}" for name, each in COMPONENTS.items() for edge in each.ports} <= ports.keys()


def test_a_planned_port_is_kept_and_one_that_is_taken_is_said(tmp_path: Path) -> None:
    port = free_port()
    kept = Kept(tmp_path / "kept.json", {"web_pages": port})
    assert kept.port("web_pages") == port
    kept.release()
    again = Kept(tmp_path / "kept.json")
    assert again.port("web_pages") == port, "the data directory keeps it"
    again.release()

    with socket.create_server(("127.0.0.1", free_port())) as other:
        taken = other.getsockname()[1]
        with pytest.raises(Unavailable, match=rf"port {taken} of nats is taken .*`make up PORTS=any`"):
            Kept(tmp_path / "others.json", {"nats": taken}).port("nats")


def test_a_folder_that_holds_something_else_gets_a_sentence(tmp_path: Path) -> None:
    for fit in ("missing", "empty", "with spaces in it"):
        if fit != "missing":
            (tmp_path / fit).mkdir()
        must_be_data(tmp_path / fit)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    (tmp_path / "file").touch()

    with pytest.raises(Invalid, match="holds other files"):
        must_be_data(tmp_path / "photos")
    with pytest.raises(Invalid, match=re.escape("is a file: name a folder")):
        must_be_data(tmp_path / "file")
