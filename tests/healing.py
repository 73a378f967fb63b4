"""Healing as tests ask for it: everything is compared, at once."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from kernel.healing import Kind, Said, Versions
from plumbing.db import Database
from plumbing.healing import Healing


def healing(database: Database[Any], kinds: Sequence[Kind]) -> Healing[Any]:
    """One process of a service; a comparison is always due, and goes on without pauses."""
    return Healing(database, kinds, uuid4(), compare_every=timedelta(0), share=0)


async def heal(database: Database[Any], kinds: Sequence[Kind]) -> int:
    """Compares all versions; answers how much there was."""
    return await healing(database, kinds).compare()


def said(versions: Versions) -> Said:
    """All that an owner has said, on one page."""
    return Said(versions, "", datetime.now(UTC), complete=True)
