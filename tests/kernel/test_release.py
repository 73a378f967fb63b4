"""The version that a gateway tells is the one that is released."""

import tomllib
from pathlib import Path

from kernel.release import VERSION


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["project"]["version"] == VERSION
