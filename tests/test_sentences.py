"""docs/sentences.md lists what the product says, and what it says is written as the house writes."""

import re
import sys
from pathlib import Path

import pytest

from tests import generated, sentences

HARD = (
    "must be ticked", "exclude each other", "is expected", "names what is no",
    "no such user", "is made", "end that",
)  # fmt: skip
"""Wordings that readers stumbled over."""


def test_the_list_of_sentences_is_current() -> None:
    assert sentences.page() == sentences.PAGE.read_text(), "run `make proto`"


def test_a_landing_cannot_leave_the_list_stale(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stale = tmp_path / "sentences.md"
    stale.write_text(sentences.PAGE.read_text() + "\n")
    monkeypatch.setattr(sentences, "PAGE", stale)
    monkeypatch.setattr(sys, "argv", ["generated", "--check"])
    with pytest.raises(SystemExit, match=r"sentences\.md is not what the code says"):
        generated.main()


def test_every_sentence_is_written_as_the_house_writes() -> None:
    rows = re.findall(r"^\| \S+ \| ([A-Z]\w+) \| (.+) \|$", sentences.page(), re.MULTILINE)

    assert len(rows) > 400, "sentences are found"
    for _word, sentence in rows:
        assert not sentence.endswith("."), sentence
        assert not any(words in sentence.lower() for words in HARD), sentence


def test_a_missing_permission_has_one_wording() -> None:
    rows = re.findall(
        r"^\| (\S+) \| Denied \| (.*you need the permission.*) \|$", sentences.page(), re.MULTILINE
    )

    assert len(rows) > 20
    for file, sentence in rows:
        assert "; an administrator of " in sentence, f"{file}: use `lacks` of kernel.errors: {sentence}"
    assert "only who holds" not in sentences.page(), "so it was said before"
