"""What every service is told about its audit rows, in tests."""

from pathlib import Path
from uuid import uuid4

AUDIT_KEY = "audit " * 6


def audit_settings(folder: Path) -> dict[str, str]:
    """A key, and an anchor file of its own in `folder`; by the names of the environment."""
    return {"AUDIT_KEY": AUDIT_KEY, "AUDIT_ANCHOR_FILE": str(folder / f"anchors-{uuid4()}.jsonl")}
