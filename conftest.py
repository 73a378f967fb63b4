"""Loads the plugins: which rows are proven (tests/rows.py), which worker runs what
(tests/workers.py), what it costs (tests/costs.py).
"""

import gc
import os
import sys

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.rows", "tests.workers", "tests.costs"]

# A property says what is right, never how fast: the machine may be busy with other things.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# Some images forbid bytecode. Then each worker compiles every test anew, and each process that a test starts
# everything of ours.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


# What is collected lives until the end: looking through it for garbage, now and after each test, finds none.
gc.disable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    gc.freeze()
    gc.enable()
