"""Loads the plugins: `@pytest.mark.proves` (tests/rows.py), which worker runs what (tests/workers.py)."""

pytest_plugins = ["tests.rows", "tests.workers"]
