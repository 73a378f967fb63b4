"""Loads the plugin that reads `@pytest.mark.proves` (tests/rows.py)."""

pytest_plugins = ["tests.rows"]
