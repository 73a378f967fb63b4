"""Rules of the house that concern access, as checks with a name and a reason."""

import ast
import re
from pathlib import Path

import pytest

from services.access.casequery import CaseQuery

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "services" / "access"

STORES = {
    "store.py",
    "casestore.py",
    "readingstore.py",
    "sightings.py",
    "listings.py",
    "showings.py",
    "bucketstore.py",
    "caserows.py",
    "folderstore.py",
    "movestore.py",
    "explainstore.py",
    "filterstore.py",
    "identitystore.py",
    "lintstore.py",
    "patientstore.py",
    "changestore.py",
}
READS_CASES = re.compile(r"\b(?:from|join|update|into)\s+cases\b", re.IGNORECASE)

# What reads or writes cases and answers no user: the index itself, writes behind `owned` or behind `sighted`,
# what is told only to who administers the facility of the case, a page of which `listed` tells only what the
# user sees, what sharing and notify ask for themselves, and where cases are that somebody else is shown.
INDEX_KEEPING = {"casestore.py", "movestore.py", "patientstore.py", "readingstore.py"}
BEHIND_OWNED = {
    "put_in_folder",
    "is_in_folder",
    "grant_case",
    "is_granted",
    "bump_case",
    "bump_cases",
}
BEHIND_SIGHTED = {"save_buckets"}
BEHIND_ADMINISTERED = {"explained_case", "case_values", "_NEWEST"}
BEHIND_LISTED = {"_of_those", "found_by_text", "assigned_to", "studied", "with_persons"}
ASKED_ABOUT = {"changed", "of_same_persons"}  # of these a list is asked, and answers what the user sees
FOR_SERVICES = {"describe_cases"}
ONLY_FACILITIES = {"facilities_shown"}
THE_PREDICATE = {"_texts", "_ask", "HIDDEN"}
RELATIONS = ("{cases.sighted}", "{cases.sighted_among(")
EXCEPTIONS = (
    BEHIND_OWNED
    | BEHIND_SIGHTED
    | BEHIND_ADMINISTERED
    | BEHIND_LISTED
    | ASKED_ABOUT
    | FOR_SERVICES
    | ONLY_FACILITIES
    | THE_PREDICATE
)


def _statements(path: Path) -> dict[str, str]:
    """The text of each function and each constant of the module that holds SQL over cases."""
    source = path.read_text()
    module = ast.parse(source)
    found = {}
    functions = [node for node in ast.walk(module) if isinstance(node, ast.FunctionDef)]
    nested = {inner for outer in functions for inner in ast.walk(outer) if inner is not outer}
    for node in ast.walk(module):
        if node in nested:
            continue
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            name = node.name
        elif node in module.body and isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
        else:
            continue
        text = ast.get_source_segment(source, node) or ""
        if READS_CASES.search(text):
            found[name] = text
    return found


def test_every_statement_over_cases_that_answers_a_user_takes_the_visibility_predicate() -> None:
    """One place says who sees a case; a statement that reads past it is a leak, or an exception here."""
    unguarded = {
        f"{path.name}: {name}"
        for path in FOLDER.glob("*.py")
        if path.name not in INDEX_KEEPING
        for name, text in _statements(path).items()
        if not (
            any(each in text for each in RELATIONS) and ("{cases.visible}" in text or "{cases.shown}" in text)
        )
        and name not in EXCEPTIONS
    }

    assert set() == unguarded


def test_only_the_module_that_knows_visibility_makes_a_query_over_cases() -> None:
    """Whoever asks for cases takes a `CaseQuery`, which carries user, filter and side."""
    with pytest.raises(TypeError, match="abstract"):
        CaseQuery()  # type: ignore[abstract]


def test_the_check_sees_a_statement_without_the_predicate(tmp_path: Path) -> None:
    leak = tmp_path / "leak.py"
    leak.write_text('async def peek(self):\n    return await self.fetch("select * from cases")\n')

    assert {"peek"} == set(_statements(leak))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_only_stores_speak_sql(path: Path) -> None:
    speaks = re.search(r"connection\.(fetch|execute)", path.read_text())

    assert bool(speaks) == (path.name in STORES)
