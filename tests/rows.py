"""Which rows of docs/requirements.md, and which rules of docs/rules.md, are proven by which tests.

A pytest plugin: every collected test's `@pytest.mark.proves("ACC-15")` is read. An unknown id fails the
collection. `pytest --rows` prints the table and runs no test; a row proven only by marks with `part=…`
is printed as partly, never as proven.
"""

import re
from collections import defaultdict
from pathlib import Path

import pytest

_DOCS = Path(__file__).parent.parent / "docs"
_ROW = re.compile(r"^\| ([A-Z]+-?\d+) \| (.+) \|$", re.MULTILINE)
_RULE_ID = re.compile(r"A\d+")
_RULE = re.compile(r"^- \*\*(A\d+) ([^*]+)\*\*", re.MULTILINE)


def read_rows(text: str) -> dict[str, str]:
    """Id and sentence of each row of the requirements."""
    return dict(_ROW.findall(text))


def read_rules(text: str) -> dict[str, str]:
    """Id and heading of each rule: of what the requirements leave open."""
    return {rule: " ".join(heading.split()) for rule, heading in _RULE.findall(text)}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rows", action="store_true", help="print which rows are proven; run no test")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    rows = read_rows((_DOCS / "requirements.md").read_text())
    rows |= read_rules((_DOCS / "rules.md").read_text())
    whole: defaultdict[str, list[str]] = defaultdict(list)
    parts: defaultdict[str, list[str]] = defaultdict(list)
    for item in items:
        for mark in item.iter_markers("proves"):
            for row in mark.args:
                if row not in rows:
                    raise pytest.UsageError(f"{item.nodeid} proves `{row}`, which docs/ lacks")
                part = mark.kwargs.get("part")
                if part is None:
                    whole[row].append(item.nodeid)
                else:
                    parts[row].append(part)
    if config.getoption("rows"):
        print(_table(rows, whole, parts))
        items.clear()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if session.config.getoption("rows") and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = pytest.ExitCode.OK


def _table(rows: dict[str, str], whole: dict[str, list[str]], parts: dict[str, list[str]]) -> str:
    lines = []
    for row, sentence in rows.items():
        if row in whole:
            state = f"proven by {len(whole[row])}"
        elif row in parts:
            state = "partly: " + ", ".join(sorted(set(parts[row])))
        else:
            state = "-"
        lines.append(f"{row:8} {sentence[:70]:70} {state}")
    rules = {row for row in rows if _RULE_ID.fullmatch(row)}
    for name, among in (("rows", rows.keys() - rules), ("rules", rules)):
        proven = len(among & whole.keys())
        partly = len(among & parts.keys() - whole.keys())
        left = len(among) - proven - partly
        lines.append(f"{proven} proven, {partly} partly, {left} not, of {len(among)} {name}")
    return "\n".join(lines)
