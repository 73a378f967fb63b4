"""The rule whose text is nearest to a mapping value: a value that no rule has is most often a misspelt one.

Two texts are as near as the share of the pairs of neighbouring characters that they have in common, in the
form in which they are compared (Dice). A rule that has the value comes first; of equally near ones the first
by text.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from services.routing.domain import EndpointRule, mapping_key, match_key, rule_keys

NEAR_ENOUGH = 0.5
"""Half of the pairs: `ms 44` and `ms44`, not `north` and `south`."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A rule that may have been meant, and whether it has the very value."""

    rule: EndpointRule
    is_exact: bool


class Suggestions:
    """The rules of one hub, ready to be compared with values."""

    def __init__(self, rules: Iterable[EndpointRule]) -> None:
        self._rules = sorted(rules, key=lambda rule: (match_key(rule.text), rule.id))
        self._pairs = [_pairs(match_key(rule.text)) for rule in self._rules]
        self._by_pair: dict[str, list[int]] = defaultdict(list)
        for number, pairs in enumerate(self._pairs):
            for pair in pairs:
                self._by_pair[pair].append(number)

    def nearest(self, value: str) -> Suggestion | None:
        """The rule nearest to a mapping value, of several values to any; None if none is near enough."""
        keys = rule_keys(mapping_key(value))
        best: tuple[float, int] | None = None
        for text in keys:
            pairs = _pairs(text)
            common = Counter(number for pair in pairs for number in self._by_pair.get(pair, ()))
            for number, count in common.items():
                share = 2 * count / (len(pairs) + len(self._pairs[number]))
                if share >= NEAR_ENOUGH and (best is None or (-share, number) < best):
                    best = (-share, number)
        if best is None:
            return None
        rule = self._rules[best[1]]
        return Suggestion(rule, match_key(rule.text) in keys)


def nearest(rules: Iterable[EndpointRule], values: Iterable[str]) -> dict[str, Suggestion | None]:
    """The rule nearest to each mapping value."""
    suggestions = Suggestions(rules)
    return {value: suggestions.nearest(value) for value in values}


def _pairs(text: str) -> frozenset[str]:
    """The pairs of neighbouring characters, the blanks at both ends counting as one each."""
    padded = f" {text} "
    return frozenset(padded[i : i + 2] for i in range(len(padded) - 1))
