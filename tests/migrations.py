"""Migrations: each is committed with its checksum in migrations.lock, and only expands.

    python -m tests.migrations           adds the lines of new migrations to migrations.lock
    python -m tests.migrations --check   fails if a file and its line differ, or a migration contracts

A database remembers the checksum of each file that was applied to it, so a file that has landed never changes
again. And a migration runs while the version before it still serves: it may add, take nothing away, and keep
nobody who writes waiting.
"""

import argparse
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from kernel.errors import Invalid
from plumbing.migrating import CONCURRENTLY, index_changes, runs_concurrently

ROOT = Path(__file__).parent.parent
LOCK = "migrations.lock"
COMMAND = "make migrations"

BEFORE_THE_FIRST_LANDED_VERSION = {
    "plumbing/migrations/0002_audit_chain.sql",
    "services/access/migrations/0002_reading.sql",
    "services/ingest/migrations/0002_deletion.sql",
}
"""They contract. No landed version runs without them, and an applied file stays as it is."""

BEFORE_INDEXES_WERE_MADE_CONCURRENTLY = {
    "plumbing/migrations/0002_audit_chain.sql",
    "plumbing/migrations/0006_dead_letters_by_age.sql",
    "services/access/migrations/0004_deletion.sql",
    "services/access/migrations/0008_earlier_forms.sql",
    "services/access/migrations/0010_moves.sql",
    "services/ingest/migrations/0002_deletion.sql",
    "services/ingest/migrations/0005_bounded.sql",
    "services/ingest/migrations/0007_parts.sql",
    "services/ingest/migrations/0008_unfiled.sql",
    "services/reporting/migrations/0003_reports_by_type.sql",
    "services/reporting/migrations/0004_instance_counts.sql",
    "services/routing/migrations/0006_moves.sql",
    "services/sharing/migrations/0002_codes.sql",
    "services/sharing/migrations/0003_extensions_contacts_policies.sql",
    "services/sharing/migrations/0004_earlier_forms.sql",
}
"""They index tables of an earlier file in a transaction. They have landed, and stay as they are."""

_MARK = re.compile(r"--.*\bsafe for ([0-9a-f]{7,40}|v\d\S*): \S")
"""`-- safe for 4874741: it never read this column`: somebody looked at the version before, and says why it
works on. The mark stands on the line that contracts."""


def _patterns(reasons: dict[str, str]) -> dict[re.Pattern[str], str]:
    """A space in a pattern is any white space of the migration."""
    return {
        re.compile(p.replace(" ", r"\s+"), re.IGNORECASE | re.DOTALL): reason for p, reason in reasons.items()
    }


_CONSTRAINT = "(constraint|check|unique|primary key|foreign key|exclude)"

_STATEMENTS = _patterns(
    {
        r"\bdrop (table|(materialized )?view|function|procedure|routine|aggregate|type|domain|schema|sequence"
        r"|extension|owned)\b": "the version before may still use it",
        r"\bdrop index\b": "the version before may need it for `on conflict`",
        r"\bdrop (trigger|rule)\b": "the version before may rely on it",
        r"\brename\b": "the version before knows the old name",
        r"\bset schema\b": "the version before looks in the old schema",
        r"\balter (type|domain) \S+ (?!add value)": "the version before knows the old type",
        r"\brevoke\b": "the version before may need the right",
        r"\btruncate (?!on\b|or\b)": "the version before may need the rows",
    }
)
_OF_A_TABLE = _patterns(
    {
        r"\bcreate unique index\b": "the version before may write what it refuses",
        r"\bcreate (or replace )?(constraint )?trigger\b": "the version before may write what it refuses",
    }
)
_CLAUSES = _patterns(
    {
        r"drop constraint\b": "the version before may need it for `on conflict`",
        r"drop (?!constraint\b)": "the version before may still use the column",
        r"alter (column )?\S+ (set data )?type\b": "the version before reads and writes the old type",
        r"alter (column )?\S+ set not null\b": "the version before may write null",
        r"alter (column )?\S+ drop (default|expression|identity)\b": "the version before does not fill it in",
        rf"add {_CONSTRAINT}\b": "the version before may write what it refuses",
        rf"add (?!{_CONSTRAINT}\b)(?!.*\b(default|generated)\b).*\bnot null\b": (
            "the version before does not fill it in: give it a default"
        ),
    }
)
"""Of `alter table`."""

_OF_A_SERVED_TABLE = _patterns(
    {
        r"\bcreate index (?!concurrently\b)": (
            "the version before waits with whatever it writes until the index is made: put it into a file of "
            "its own that begins with `-- concurrently`"
        ),
    }
)
"""Not of a gateway's: it migrates its SQLite file before it serves, and alone."""

_SILENT = re.compile(
    r"(?P<comment>--[^\n]*|/\*.*?\*/)|(?P<text>[eE]'(?:\\.|''|[^'\\])*'|'(?:''|[^'])*')"
    r"|\$(?P<tag>\w*)\$(?P<body>.*?)\$(?P=tag)\$",
    re.DOTALL,
)


_EXPAND = (
    "a migration runs while the version before it serves. Only add. What that version does not use, take "
    "away with `-- safe for <its commit>: <why>` on the same line (docs/decisions/0009-upgrades.md)"
)


def migrations(root: Path) -> list[Path]:
    """Every migration, those of a folder by their numbers."""
    own = [root / "plumbing" / "migrations", root / "gateway" / "migrations", root / "web" / "migrations"]
    folders = [*own, *sorted(root.glob("services/*/migrations"))]
    return [path for folder in folders for path in sorted(folder.glob("*.sql"))]


def checksums(root: Path) -> dict[str, str]:
    """The SHA-256 of each migration by its path."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in migrations(root)
    }


def locked(root: Path) -> dict[str, str]:
    """What migrations.lock says: lines as `sha256sum` writes them."""
    path = root / LOCK
    lines = path.read_text().splitlines() if path.exists() else []
    return {name: checksum for checksum, name in (line.split(maxsplit=1) for line in lines if line)}


def changed(root: Path) -> list[str]:
    """The files that are not, or not any more, what their line says, and what to do."""
    present = checksums(root)
    return [
        f"{name} is not the file of its line in {LOCK}, which databases have applied: restore it, and put "
        f"the change into a new migration (if it has not landed yet: delete its line and run `{COMMAND}`)"
        for name, checksum in locked(root).items()
        if present.get(name) != checksum
    ]


def differences(root: Path) -> list[str]:
    """How files and lines differ."""
    lines = locked(root)
    return changed(root) + [
        f"{name} has no line in {LOCK}: run `{COMMAND}` and commit {LOCK}"
        for name in checksums(root)
        if name not in lines
    ]


def add_lines(root: Path) -> list[str]:
    """Adds the lines of new migrations, and changes none; answers whose they are."""
    lines, present = locked(root), checksums(root)
    new = [name for name in present if name not in lines]
    both = sorted((lines | {name: present[name] for name in new}).items())
    (root / LOCK).write_text("".join(f"{checksum}  {name}\n" for name, checksum in both))
    return new


def contractions(root: Path) -> list[str]:
    """What each migration takes away from the version before it, or keeps it waiting with, without a word of
    why that is safe."""
    found = []
    functions: dict[tuple[Path, str], str] = {}
    for path in migrations(root):
        name = str(path.relative_to(root))
        sql = path.read_text()
        lines = sql.splitlines()
        if fault := _misplaced(sql, path.parent):
            found.append(f"{name}: {fault}")
        contracting = list(_contracting(sql, path.parent, functions))
        if _of_a_service(path.parent) and name not in BEFORE_INDEXES_WERE_MADE_CONCURRENTLY:
            contracting += _blocking(sql)
        for number, reason in contracting:
            if name not in BEFORE_THE_FIRST_LANDED_VERSION and not _MARK.search(lines[number]):
                found.append(f"{name}, line {number + 1}: `{lines[number].strip()}`: {reason}")
    return found


def _of_a_service(folder: Path) -> bool:
    return folder.parent.name != "gateway"


def _misplaced(sql: str, folder: Path) -> str:
    """Why the file does not run, outside a transaction or within one; empty: it may."""
    if not runs_concurrently(sql):
        outside = re.search(r"\bindex\s+concurrently\b", _without_comments(sql), re.IGNORECASE)
        return (
            f"begin the file with `{CONCURRENTLY}`: `{outside[0]}` runs in no transaction" if outside else ""
        )
    if not _of_a_service(folder):
        return f"SQLite knows no `{CONCURRENTLY}`"
    try:
        index_changes(sql)
    except Invalid as error:
        return error.sentence
    return ""


def _contracting(sql: str, folder: Path, functions: dict[tuple[Path, str], str]) -> Iterator[tuple[int, str]]:
    """Line, from 0, and reason."""
    made = _made(sql)
    for start, statement in _statements(sql):
        for position, reason in (*_taken(statement, made), *_replaced(statement, folder, functions)):
            yield sql.count("\n", 0, start + position), reason


def _blocking(sql: str) -> Iterator[tuple[int, str]]:
    """Line, from 0, and reason."""
    made = _made(sql)
    for start, statement in _statements(sql):
        for position, reason in _of_an_old_table(statement, made, _OF_A_SERVED_TABLE):
            yield sql.count("\n", 0, start + position), reason


def _made(sql: str) -> set[str]:
    """The tables that the file makes: of them the version before knows nothing."""
    made = r"\bcreate\s+table\s+(?:if\s+not\s+exists\s+)?(\S+)"
    return set(re.findall(made, _without_comments(sql), re.IGNORECASE))


def _statements(sql: str) -> Iterator[tuple[int, str]]:
    """Position and text of each, without comments."""
    start = 0
    for statement in _without_comments(sql).split(";"):
        yield start, statement
        start += len(statement) + 1


def _of_an_old_table(
    statement: str, made: set[str], patterns: dict[re.Pattern[str], str]
) -> Iterator[tuple[int, str]]:
    for pattern, reason in patterns.items():
        if match := pattern.search(statement):
            table = re.search(r"\bon\s+(?:only\s+)?([\w.\"]+)", statement[match.end() :], re.IGNORECASE)
            if not table or table[1] not in made:
                yield match.start(), reason


def _taken(statement: str, made: set[str]) -> Iterator[tuple[int, str]]:
    for pattern, reason in _STATEMENTS.items():
        yield from ((match.start(), reason) for match in pattern.finditer(statement))
    yield from _of_an_old_table(statement, made, _OF_A_TABLE)
    altered = re.search(r"\balter\s+table\s+(?:if\s+exists\s+)?(?:only\s+)?(\S+)", statement, re.IGNORECASE)
    if altered and altered[1] not in made:
        for position, clause in _clauses(statement, altered.end()):
            yield from ((position, reason) for pattern, reason in _CLAUSES.items() if pattern.match(clause))


def _clauses(statement: str, start: int) -> Iterator[tuple[int, str]]:
    """Position and text of what stands between the commas outside parentheses."""
    depth = 0
    for position in range(start, len(statement) + 1):
        sign = statement[position : position + 1]
        depth += (sign == "(") - (sign == ")")
        if not sign or (sign == "," and depth == 0):
            clause = statement[start:position]
            yield position - len(clause.lstrip()), clause.strip()
            start = position + 1


def _replaced(
    statement: str, folder: Path, functions: dict[tuple[Path, str], str]
) -> Iterator[tuple[int, str]]:
    """`create or replace` with other arguments makes a second function, or fails."""
    made = re.search(
        r"\bcreate\s+(or\s+replace\s+)?(?:function|procedure)\s+([\w.\"]+)\s*"
        r"(\(.*?)\b(?:language|as|immutable|stable|volatile|strict|security|parallel|cost|rows)\b",
        statement,
        re.IGNORECASE | re.DOTALL,
    )
    if not made:
        return
    key, head = (folder, made[2].lower()), " ".join(made[3].lower().split())
    if made[1] and functions.get(key, head) != head:
        yield (
            made.start(),
            "it had other arguments or another result: give the new function a name of its own",
        )
    functions[key] = head


def _without_comments(sql: str) -> str:
    """The statements alone, each sign at its place: also those of `do`, not those of a function's body."""

    def blank(match: re.Match[str]) -> str:
        runs = match["body"] is not None and re.search(
            r"\bdo\s+(language\s+\w+\s+)?$", sql[: match.start()], re.IGNORECASE
        )
        if not runs:
            return re.sub(r"[^\n]", " ", match[0])
        fence = " " * (len(match["tag"]) + 2)
        return fence + _without_comments(match["body"]) + fence

    return _SILENT.sub(blank, sql)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    if parser.parse_args().check:
        if faults := differences(ROOT):
            raise SystemExit("\n".join(faults))
        if faults := contractions(ROOT):
            raise SystemExit("\n".join([*faults, _EXPAND]))
    elif faults := changed(ROOT):
        raise SystemExit("\n".join(faults))
    else:
        for name in add_lines(ROOT):
            print(f"{LOCK}: {name}")


if __name__ == "__main__":
    main()
