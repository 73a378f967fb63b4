"""Advisory locks: one class each, so that nobody's id picks the lock of somebody else."""

import re
from pathlib import Path

from plumbing.locks import LockClass

ROOT = Path(__file__).parents[2]

CALL = re.compile(r"pg_(?:try_)?advisory_\w+\(")
OF_A_CLASS = re.compile(r"pg_(?:try_)?advisory_\w+\(\s*\w+_lock_class\(\)\s*,")
DECLARED = re.compile(r"create function (\w+)_lock_class\(\) returns integer .*? select (\d+) ")


def sources() -> dict[str, str]:
    paths = [path for folder in ("plumbing", "services") for path in (ROOT / folder).rglob("*")]
    return {str(path.relative_to(ROOT)): path.read_text() for path in paths if path.suffix in (".py", ".sql")}


def test_every_lock_has_a_class() -> None:
    """Who chooses the id that a lock of one integer is made from, chooses any lock."""
    elsewhere = {
        name
        for name, text in sources().items()
        if name != "plumbing/locks.py" and len(CALL.findall(text)) != len(OF_A_CLASS.findall(text))
    }
    assert elsewhere == set()


def test_a_class_that_sql_declares_is_in_the_table() -> None:
    declared = {
        (name.upper(), int(number)) for text in sources().values() for name, number in DECLARED.findall(text)
    }
    assert declared <= {(each.name, each.value) for each in LockClass}
