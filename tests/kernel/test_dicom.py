import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword

from kernel.dicom import (
    INDEXED_ATTRIBUTES,
    MAPPING_TAGS,
    MAX_ATTRIBUTE_CHARACTERS,
    MAX_CHARACTERS,
    IndexedAttribute,
    cut_value,
    parse_ae_title,
    parse_uid,
)
from kernel.errors import Invalid


@pytest.mark.parametrize("text", ["1.2.840.10008.1.1", "2.25.32980073569858662929564197", "1" * 64])
def test_digits_and_dots_are_a_uid(text: str) -> None:
    assert text == parse_uid(text, "sop_instance_uid")


@pytest.mark.proves("SEC-4", part="the form of a UID")
@pytest.mark.parametrize("text", ["", "1" * 65, "1.2/../3", "1.2\\3", "1.2.3\n", "1.2.3\0", "1.2.x", "١.٢"])
def test_nothing_else_is_a_uid(text: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse_uid(text, "sop_instance_uid")

    assert refusal.value.field == "sop_instance_uid"
    assert not text or text not in refusal.value.sentence


def test_an_ae_title_is_trimmed() -> None:
    assert parse_ae_title("  CT 1   ", "ae_title") == "CT 1"


@pytest.mark.parametrize("text", ["", "   ", "A" * 17, "A\\B", "A\tB", "A\n", "É"])
def test_what_the_standard_forbids_is_no_ae_title(text: str) -> None:
    with pytest.raises(Invalid, match="ae_title"):
        parse_ae_title(text, "ae_title")


@pytest.mark.parametrize("attribute", INDEXED_ATTRIBUTES, ids=lambda attribute: attribute.keyword)
def test_an_indexed_attribute_is_as_the_dictionary_has_it(attribute: IndexedAttribute) -> None:
    assert (attribute.tag, attribute.vr) == (tag_for_keyword(attribute.keyword), dictionary_VR(attribute.tag))


def test_the_tag_of_the_worked_example_can_be_a_mapping_tag() -> None:
    assert "InstitutionName" in MAPPING_TAGS


# PS3.5 table 6.2-1, written down a second time.
LONGEST = {
    ("AS", "018Y"),
    ("CS", "C" * 16),
    ("DA", "20261126"),
    ("IS", "-12345678901"),
    ("LO", "L" * 64),
    ("PN", "=".join(["P" * 64] * 3)),
    ("SH", "S" * 16),
    ("ST", "T" * 1024),
    ("TM", "12:30:15.123456 "),
    ("UI", "1" * 64),
}


@pytest.mark.parametrize(("vr", "text"), sorted(LONGEST))
def test_the_longest_value_of_a_vr_stays_and_one_character_more_goes(vr: str, text: str) -> None:
    assert cut_value(text, vr) == text
    assert cut_value(text + "x", vr) == text


def test_every_indexed_attribute_has_a_longest_value() -> None:
    assert {attribute.vr for attribute in INDEXED_ATTRIBUTES} <= MAX_CHARACTERS.keys()


def test_of_many_values_the_first_are_kept_and_each_is_cut() -> None:
    assert cut_value("\\".join("x" * 100 for _ in range(100)), "SH") == "\\".join(["x" * 16] * 8)
    assert cut_value("\\".join(["=".join(["P" * 99] * 9)] * 9), "PN").count("\\") == 5  # 1,024 together
    assert len(cut_value("\\" * 5000, "ST")) == MAX_ATTRIBUTE_CHARACTERS
