"""Generated files: wire/ from protos/, docs/facts/ from the facts, the chart's table of values, and
docs/sentences.md. `--check` fails if one of these differs, except the table, which a test looks at.

Run as `python -m tests.generated` (that is `make proto`).
"""

import argparse
import filecmp
import shutil
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

from tests import facts, sentences
from tests.chart import valuestable

ROOT = Path(__file__).parent.parent


def generate_wire(destination: Path) -> None:
    """Writes `destination`/wire from protos/."""
    plugins = Path(sys.executable).parent
    arguments = [
        "protoc",
        f"-I{ROOT / 'protos'}",
        f"-I{Path(protoc.__file__).parent / '_proto'}",
        *(f"--{kind}_out={destination}" for kind in ("python", "grpc_python")),
        *(f"--{kind}_out=quiet:{destination}" for kind in ("mypy", "mypy_grpc")),
        *(f"--plugin=protoc-gen-{kind}={plugins / f'protoc-gen-{kind}'}" for kind in ("mypy", "mypy_grpc")),
        *(str(path.relative_to(ROOT / "protos")) for path in sorted((ROOT / "protos").rglob("*.proto"))),
    ]
    if protoc.main(arguments) != 0:  # type: ignore[no-untyped-call]
        raise SystemExit("protoc failed")
    (destination / "wire" / "__init__.py").touch()


def differences(committed: Path, fresh: Path) -> list[str]:
    """Files that exist on one side only or differ."""
    names = {path.relative_to(side) for side in (committed, fresh) for path in side.rglob("*.py*")}
    names = {name for name in names if name.suffix in (".py", ".pyi")}
    return sorted(
        str(name)
        for name in names
        if not (committed / name).exists()
        or not (fresh / name).exists()
        or not filecmp.cmp(committed / name, fresh / name, shallow=False)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        generate_wire(Path(folder))
        fresh = Path(folder) / "wire"
        if not check:
            facts.generate()
            valuestable.write()
            sentences.write()
            shutil.rmtree(ROOT / "wire", ignore_errors=True)
            shutil.copytree(fresh, ROOT / "wire")
        elif differing := differences(ROOT / "wire", fresh):
            raise SystemExit("wire/ is not what protos/ generates; run `make proto`: " + ", ".join(differing))
        elif differing := facts.differing():
            raise SystemExit(
                "docs/facts/ is not what the facts generate; run `make proto`: " + ", ".join(differing)
            )
        elif sentences.page() != sentences.PAGE.read_text():
            raise SystemExit("docs/sentences.md is not what the code says; run `make proto`")


if __name__ == "__main__":
    main()
