"""What must hold of any filter holds of what the fuzzer found, and of what it begins with."""

import pytest

from tests.access.filter.fuzzing import CORPUS, seeds
from tests.access.filter.hostile import check


@pytest.mark.proves("SEC-13", part="fuzzed")
@pytest.mark.parametrize("data", [path.read_bytes() for path in sorted(CORPUS.iterdir())])
def test_what_the_fuzzer_found_breaks_nothing_any_more(data: bytes) -> None:
    check(data)


def test_no_example_breaks_anything() -> None:
    examples = list(seeds())
    assert len(examples) > 100
    for data in examples:
        check(data)
