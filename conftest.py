"""Loads the plugins: `@pytest.mark.proves` (tests/rows.py), which worker runs what (tests/workers.py)."""

import gc
import os
import sys

from hypothesis import settings

pytest_plugins = ["tests.rows", "tests.workers"]

# A property says what is right, never how fast: the machine may be busy with other things.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# Some images forbid bytecode. Then each worker compiles every test anew, and each process that a test starts
# everything of ours.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_collection_finish() -> None:
    """What was collected lives until the end: the collector need not walk through it after each test."""
    gc.collect()
    gc.freeze()
