"""`make fuzz` looks for a filter that breaks the language.

    python -m tests.access.filter.fuzzing --minutes 10

The fuzzer, atheris, has wheels for CPython 3.11 on Linux. What it finds it leaves in `corpus/`, which the
tests check from then on.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml

CORPUS = Path(__file__).parent / "corpus"
EXAMPLES = Path(__file__).parents[2] / "cases/filter"
MAX_BYTES = 6_000  # more than the longest filter


def seeds() -> Iterator[bytes]:
    """Filters to begin with: the examples, for both sides."""
    for path in sorted(EXAMPLES.glob("*.yaml")):
        for case in yaml.safe_load(path.read_text()):
            if isinstance(case, dict) and isinstance(text := case.get("filter"), str):
                yield from (side + text.encode() for side in (b"\0", b"\1"))


def words() -> Iterator[str]:
    """Of the language, for the fuzzer to put together."""
    from services.access.filter.fields import FIELDS, Function, Operator

    yield from (name for field in FIELDS for name in (field.keyword, *field.aliases, *(field.choices or ())))
    yield from (f"{function}(" for function in Function if function)
    yield from (*Operator, "and", "or", "not", "null", "true", "false", "!=", "<>", "('", "', '", "')")
    yield from ("'$user'", "'18Y'", "'3d'", "'%a_\\\\%'", "'2026-11-21 10:15'", "'user1'", "’", "“", "ß", "İ")


def main() -> int:
    parser = argparse.ArgumentParser(description="look for a filter that breaks the language")
    parser.add_argument("--minutes", type=float, default=10.0)
    minutes = parser.parse_args().minutes
    try:
        import atheris
    except ImportError:
        print("skipped: atheris has wheels for CPython 3.11 on Linux only")
        return 0
    with atheris.instrument_imports(include=["services.access.filter"]):
        from tests.access.filter.hostile import check

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        begin = work / "corpus"
        begin.mkdir()
        for number, data in enumerate(seeds()):
            (begin / f"seed{number}").write_bytes(data)
        dictionary = work / "words"
        dictionary.write_text("".join(f'"{_escaped(word)}"\n' for word in words()))
        atheris.Setup(
            [
                sys.argv[0],
                f"-max_total_time={round(60 * minutes)}",
                f"-max_len={MAX_BYTES}",
                f"-dict={dictionary}",
                f"-artifact_prefix={CORPUS}/",
                "-print_final_stats=1",
                str(begin),
                str(CORPUS),
            ],
            check,
        )
        atheris.Fuzz()
    return 0


def _escaped(word: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word.encode())


if __name__ == "__main__":
    sys.exit(main())
