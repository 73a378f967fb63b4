"""Loads the plugins: `@pytest.mark.proves` (tests/rows.py), which worker runs what (tests/workers.py)."""

from hypothesis import settings

pytest_plugins = ["tests.rows", "tests.workers"]

# A property says what is right, never how fast: the machine may be busy with other things.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
