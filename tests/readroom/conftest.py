"""A whole system of its own processes, and a command line on it."""

import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from demo.dicom_files import SyntheticCT, written_as
from demo.modality import Called, PynetdicomModality
from local.processes import until
from local.system import LocalSystem
from plumbing.tls import TLSFiles
from readroom.cli import main
from readroom.session import Session


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


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times are shown in the zone of the machine, which tests do not know."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(scope="package")
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


SITE, TITLE = "Linden", "LINDEN"
PEOPLE = (
    ("ivy", "Dr Ivy Vos", "radiologist", ("report", "--read-types", "preliminary,final,other,pre-read")),
    ("marsh", "Dr Iris Marsh", "radiologist", ("report", "--read-types", "preliminary,final")),
    ("rowan", "Dr Rowan Fell", "referring-physician", ("view",)),
    ("chief", "Chief", "administrator", ("view",)),
)
numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Ward:
    """A case that nobody has read, and how to act as somebody."""

    run: Run
    case_id: str
    send: Callable[..., None]
    """Sends the image with this number of the study, with these elements; the first was sent."""

    def by(self, login: str, *arguments: str | Path) -> Answer:
        """As this user, who logs in once: a lock is held in one session."""
        file = Path(os.environ["READROOM_SESSION"]).with_name(f"session of {login}.json")
        os.environ["READROOM_SESSION"] = str(file)
        if not file.exists() or Session.read(file, datetime.now(UTC)).login != login:
            assert self.run("login", login).code == 0
        return self.run(*arguments)

    def reading(self, login: str, verb: str, *arguments: str | Path) -> Answer:
        return self.by(login, "reading", verb, self.case_id, *arguments)

    def shown(self, login: str) -> list[tuple[str, str | None, str | None]]:
        """Kind, read type and text of each entry that they are shown."""
        entries = self.reading(login, "show", "--json").json
        return [(entry["kind"], entry["read_type"], entry["text"]) for entry in entries]

    def listed(self, login: str, key: str) -> object:
        """What their worklist says of the case."""
        cases = self.by(login, "case", "list", "--json").json
        return next((case[key] for case in cases if case["case_id"] == self.case_id), None)


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the gateway's identity is, and what it sends."""
    return tmp_path_factory.mktemp("linden")


@pytest.fixture
def site(admin: Run, folder: Path) -> Run:
    """A facility with people and a gateway, made by the first test that asks."""
    identity = folder / "gateway"
    if not identity.exists():
        admin("facility", "create", SITE)
        for login, name, role, privilege in PEOPLE:
            assert admin("user", "create", login, "--name", name, "--role", role).code == 0
            assert admin("privilege", "set", login, SITE, *privilege).code == 0
        assert admin("user", "create", "support", "--name", "Support", "--role", "operator").code == 0
        assert (
            admin("gateway", "enrol", "linden", "--ae-title", f"{TITLE}={SITE}", "--to", identity).code == 0
        )
        assert admin("login", "support").code == 0
        assert admin("read-type", "on", "pre-read").code == 0
        admin("login", "admin")
        for read_type in ("preliminary", "pre-read"):
            assert admin("read-type", "on", read_type, SITE).code == 0
    return admin


@pytest.fixture
def ward(site: Run, system: LocalSystem, folder: Path) -> Ward:
    study = SyntheticCT(slices=1, size=16, name=f"linden-{next(numbers)}")
    host, _, port = system.endpoints().dicom.rpartition(":")
    identity = TLSFiles(*(folder / "gateway" / name for name in ("gateway.pem", "gateway.key", "ca.pem")))
    called = Called(host, int(port), "READROOM", identity)

    def send(number: int, **elements: str) -> None:
        path = replace(study, slices=number).write(folder / f"{study.name}-{number}")[-1]
        sent = written_as(path, path.with_name("sent.dcm"), **elements) if elements else path
        PynetdicomModality(TITLE).send([sent], called, lambda: None)

    send(1)
    found: list[str] = []

    def arrived() -> bool:
        cases = site("case", "list", "--json").json
        found.extend(c["case_id"] for c in cases if c["study_instance_uid"] == study.study_instance_uid)
        return bool(found)

    assert site("login", "ivy").code == 0
    assert until(arrived, 10.0)
    return Ward(site, found[0], send)
