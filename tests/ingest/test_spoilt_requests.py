"""A few of the spoilt requests that `make fuzz` tries by the million."""

import random
from collections.abc import Callable

import pytest

from tests.ingest import fuzzing_web
from tests.ingest.fuzzing import spoilt


@pytest.mark.parametrize("target", fuzzing_web.TARGETS)
def test_a_spoilt_request_has_an_outcome_that_somebody_expects(
    target: Callable[[fuzzing_web.Spoil, random.Random], bytes],
) -> None:
    chance = random.Random(13)
    assert not any(target(spoilt, chance) for _ in range(300))
