"""The demo is a test too: the whole story, as `make demo` plays it."""

import subprocess
import sys

import pytest

from local.system import ROOT


@pytest.mark.demo
def test_the_story_is_true() -> None:
    played = subprocess.run(
        [sys.executable, "-m", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )

    assert played.returncode == 0, played.stdout + played.stderr
    assert "Every step is verified" in played.stdout
