"""The search for what a deletion leaves finds what there is, in every form in which it is kept."""

import pytest

from demo.traces import Words

WORDS = Words(["Vermeer", "6 mm nodule?"], ["1.2.840.10008.1", "2.25.77"])


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"(7,Vermeer^Ada,t)", {"vermeer"}),
        (b"VERMEER, with a 6 MM NODULE?", {"vermeer", "6 mm nodule?"}),
        (rb'(1,"\\x00' + b"Vermeer".hex().encode() + b'",2)', {"vermeer"}),
        (b"uid=2.25.77;", {"2.25.77"}),
        (rb'("\\x' + b"x 2.25.77 y".hex().encode() + b'")', {"2.25.77"}),
        (b"\x00\x16\x00" + b"1.2.840.10008.1\x00\x20\x00\x0d", {"1.2.840.10008.1"}),
        (b"2.25.777 12.25.77 1.2.840.10008.1.2", set()),
        (b"Verm eer", set()),
    ],
)
def test_words_are_found_in_any_case_and_uids_whole(content: bytes, found: set[str]) -> None:
    assert set(WORDS.within(content)) == found
