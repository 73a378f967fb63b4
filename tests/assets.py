"""The script of the pages, ui/static/readroom.js: built from ui/elements by Node, committed, and stamped.

    python -m tests.assets           builds it (that is `make ui`; it needs npm)
    python -m tests.assets --check   fails if it was built from other sources, or changed since; needs no Node

Its first line holds two digests: of all that it is built from, and of what was built.
"""

import argparse
import hashlib
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

UI = Path(__file__).parent.parent / "ui"
BUILT = UI / "static/readroom.js"
_SETTINGS = ("package.json", "package-lock.json", "tsconfig.json")
_OPTIONS = ("--bundle", "--format=esm", "--target=es2022", "--charset=utf8", "--legal-comments=none")


def sources() -> list[Path]:
    """What the script is built from, in an order."""
    return [*(UI / name for name in _SETTINGS), *sorted((UI / "elements").rglob("*.ts"))]


def stamp(made_from: Iterable[Path], built: str) -> str:
    """The first line of what was built."""
    digest = hashlib.sha256(" ".join(_OPTIONS).encode())
    for path in made_from:
        digest.update(f"\0{path.relative_to(UI)}\0".encode() + path.read_bytes())
    of_built = hashlib.sha256(built.encode()).hexdigest()
    return f"// Built by `make ui`, never edited: {digest.hexdigest()} {of_built}\n"


def build() -> str:
    """What esbuild makes of the elements, once their types are right."""
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit("npm is not installed: `make debian` installs it")
    subprocess.run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], cwd=UI, check=True)
    tools = UI / "node_modules/.bin"
    subprocess.run([tools / "tsc"], cwd=UI, check=True)
    esbuild = [str(tools / "esbuild"), "elements/main.ts", *_OPTIONS, "--log-level=warning"]
    return subprocess.run(esbuild, cwd=UI, check=True, capture_output=True, text=True).stdout


def is_current() -> bool:
    """Whether what is committed was built from these sources, and is what was built."""
    first, _, built = BUILT.read_text().partition("\n")
    return f"{first}\n" == stamp(sources(), built)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare the stamp instead of building")
    if not parser.parse_args().check:
        built = build()
        BUILT.write_text(stamp(sources(), built) + built)
    elif not is_current():
        raise SystemExit("ui/static/readroom.js is not what ui/elements builds: run `make ui`")


if __name__ == "__main__":
    main()
