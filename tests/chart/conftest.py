"""Tests that need Helm skip, and say why, where there is none."""

import pytest

from tests.chart.rendering import Helm, helms


@pytest.fixture(scope="session")
def helm() -> Helm:
    """The first version of Helm that is installed."""
    return _needed()[0]


@pytest.fixture(scope="session")
def every_helm() -> list[Helm]:
    """All versions that are installed."""
    return _needed()


def _needed() -> list[Helm]:
    found = helms()
    if not found:
        pytest.skip("Helm is not installed: `make chart` fetches it")
    return found
