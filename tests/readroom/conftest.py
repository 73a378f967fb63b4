"""A whole system of its own processes, and a command line on it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from readroom.cli import main
from services.local import LocalSystem


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Answer]


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSystem]:
    """The system, with `admin` as its first administrator."""
    started = LocalSystem(tmp_path_factory.mktemp("system") / "data", first_admin="admin", durable=False)
    started.start()
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture
def readroom(
    system: LocalSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Run:
    """Runs `readroom ARGUMENTS…` on the system, with a session file of this test."""
    monkeypatch.setenv("READROOM_DATA", str(system.data_dir))
    monkeypatch.setenv("READROOM_SESSION", str(tmp_path / "session.json"))
    monkeypatch.delenv("READROOM_TRACEBACK", raising=False)

    def run(*arguments: str | Path) -> Answer:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        said = capfd.readouterr()
        return Answer(code, said.out, said.err)

    return run


@pytest.fixture
def admin(readroom: Run) -> Run:
    """The same, logged in as an administrator of everything."""
    assert readroom("login", "admin").code == 0
    permissions = ("access.admin", "facility.admin", "gateway.admin")
    asked = [word for permission in permissions for word in ("--permission", permission)]
    assert readroom("user", "change", "admin", *asked).code == 0
    return readroom
