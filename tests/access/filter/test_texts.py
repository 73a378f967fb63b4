"""What a predicate asks of one text."""

import re
import time
from itertools import product

from services.access.filter.texts import like
from services.access.filter.tree import Pattern, Wildcard

ANY, ONE = Wildcard.ANY_RUN, Wildcard.ONE_CHARACTER


def test_like_is_the_regular_expression_that_it_abbreviates() -> None:
    signs: dict[str | Wildcard, str] = {ANY: ".*", ONE: ".", "a": "a", "\n": "\n"}
    texts = ["".join(letters) for length in range(6) for letters in product("a\n", repeat=length)]

    for parts in (parts for length in range(1, 7) for parts in product(signs, repeat=length)):
        expression = re.compile("".join(signs[part] for part in parts), re.DOTALL)
        matches = like(Pattern(parts))
        assert [matches(text) for text in texts] == [bool(expression.fullmatch(text)) for text in texts], (
            parts
        )


def test_a_pattern_that_nearly_fits_everywhere_takes_no_time() -> None:
    """A regular expression would take hours."""
    text = "a" * 1024
    began = time.thread_time()

    assert not like(Pattern((ANY, ONE, "a", ANY, ONE, "a", ANY, ONE, "a", ANY, ONE, "a", ANY, "b")))(text)
    assert not like(Pattern((ANY, "a", ANY, "a", ANY, "a", ANY, "a", ANY, "ab")))(text)
    assert time.thread_time() - began < 0.5
