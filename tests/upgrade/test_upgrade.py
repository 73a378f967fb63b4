"""The system starts on what the version before left, and the version before on what this one left."""

import asyncio
import io
import shutil
import subprocess
import sys
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from local.system import LocalSystem
from tests.databases import ROOT
from tests.upgrade.archive import unpack
from tests.upgrade.further import go_further
from tests.upgrade.make import ARCHIVE
from tests.upgrade.story import Further, look_again

AGE_LIMIT = timedelta(days=390)
"""The gateways' certificates end after 398 days."""


def upgrade(data: Path, folder: Path, further: Further | None = None) -> str:
    """Starts this version on the data and looks whether everything is there; answers whose data they were."""
    system = LocalSystem(data, durable=False)
    try:
        story = unpack(ARCHIVE, system.servers)
        assert datetime.now(UTC) - story.made_at < AGE_LIMIT, "make the data anew: tests/upgrade/README.md"
        system.start()
        asyncio.run(look_again(system, story, folder, further))
    finally:
        system.stop()
    return story.version


def test_everything_that_the_version_before_left_is_there_and_what_was_on_its_way_arrives(
    tmp_path: Path,
) -> None:
    upgrade(tmp_path / "data", tmp_path, go_further)


@pytest.mark.drill
def test_the_version_before_runs_on_the_schema_and_the_data_that_this_version_left(tmp_path: Path) -> None:
    version = upgrade(tmp_path / "data", tmp_path)
    before = _checkout(version, tmp_path / "before")

    command = [sys.executable, "-m", "tests.upgrade.look", str(tmp_path / "data")]
    looked = subprocess.run(command, cwd=before, capture_output=True, text=True, timeout=300, check=False)
    assert looked.returncode == 0, looked.stdout + looked.stderr


def _checkout(version: str, folder: Path) -> Path:
    """The code of a version, with today's way of looking at it."""
    packed = subprocess.run(["git", "archive", version], cwd=ROOT, capture_output=True, check=False)
    if packed.returncode != 0:
        pytest.skip(f"this checkout has no history with {version}")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as tar:
        tar.extractall(folder)
    shutil.copytree(ROOT / "tests" / "upgrade", folder / "tests" / "upgrade", dirs_exist_ok=True)
    return folder
