"""What an attack is tried on: the same running services as in the tests beside the code."""

from tests.access.conftest import access
from tests.ingest.conftest import ingest

__all__ = ["access", "ingest"]
