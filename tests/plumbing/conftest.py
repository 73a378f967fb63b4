"""Servers of a module's own."""

from collections.abc import Iterator

import pytest

from local.embedded import EmbeddedServers


@pytest.fixture(scope="module")
def own_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    """A test may do with them what it likes, if it starts them again."""
    made = EmbeddedServers(tmp_path_factory.mktemp("servers") / "data", [], durable=False)
    made.start()
    yield made
    made.stop()
    made.remove()
