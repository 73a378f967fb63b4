"""What is read of a data set: decoded by its character set, whatever that claims to be."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.dicom import INDEXED_ATTRIBUTES, MAX_ATTRIBUTE_CHARACTERS, cut_value
from kernel.filing import SPECIFIC_CHARACTER_SET
from services.ingest.dimse import describe
from services.routing.domain import rule_keys

PATIENT_NAME, MODALITY, STUDY_DESCRIPTION, INSTITUTION_NAME, SERIES_NUMBER = (
    0x0010_0010,
    0x0008_0060,
    0x0008_1030,
    0x0008_0080,
    0x0020_0011,
)


@pytest.mark.parametrize(
    ("character_set", "raw", "text"),
    [
        (b"", b"Vermeer^Ada^^ ", "Vermeer^Ada"),
        (b"ISO_IR 100", "Müller^Änne".encode("latin-1"), "Müller^Änne"),
        (b"ISO_IR 192 ", "Łukasz^Żółć".encode(), "Łukasz^Żółć"),
        (b"GB18030", "王^小东".encode("gb18030"), "王^小东"),
        # PS3.5 H.3.1: escape sequences switch to JIS X 0208 and back.
        (
            b"\\ISO 2022 IR 87",
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
            "Yamada^Tarou=山田^太郎",
        ),
        (b"ISO-IR 100", "Müller".encode("latin-1"), "Müller"),
        (b"base64", b"Vermeer", "Vermeer"),
    ],
)
def test_names_are_decoded(character_set: bytes, raw: bytes, text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        told = describe({SPECIFIC_CHARACTER_SET: character_set, PATIENT_NAME: raw})
    assert told.study == {"PatientName": text}


def test_values_are_kept_at_their_level_and_mapping_values_beside() -> None:
    told = describe(
        {STUDY_DESCRIPTION: b"CT chest\0", INSTITUTION_NAME: b" MS44 \\ MS45", SERIES_NUMBER: b"3 "}
    )
    assert told.study == {"StudyDescription": "CT chest"}
    assert told.series == {"InstitutionName": "MS44\\MS45", "SeriesNumber": "3"}
    assert told.mapping == {"StudyDescription": "CT chest", "InstitutionName": "MS44\\MS45"}


def test_empty_values_are_left_out_and_long_ones_cut() -> None:
    told = describe({STUDY_DESCRIPTION: b" \\ \0", INSTITUTION_NAME: b"x" * 5000, MODALITY: b"M" * 1020})
    assert told.study == {}
    assert told.series == {"InstitutionName": "x" * 64, "Modality": "M" * 16}


@pytest.mark.parametrize(
    "over_long",
    [b"Riverside".ljust(64, b"x") + b"y", b"\\".join([b"Riverside"] * 8 + [b"Harbour"])],
    ids=["a long value", "many values"],
)
def test_a_mapping_value_longer_than_its_vr_matches_no_rule_and_agrees_with_no_other(
    over_long: bytes,
) -> None:
    """A16, A19: neither the rule of its beginning nor a series of the same beginning may have it."""
    first, second = (describe({INSTITUTION_NAME: raw}).mapping for raw in (over_long, over_long + b"z"))
    assert first["InstitutionName"] != second["InstitutionName"]
    kept = describe({INSTITUTION_NAME: over_long}).series["InstitutionName"]
    for told in (first, second):
        # The folded parts are what a rule is looked up by; a rule's text has 64 characters at most.
        assert not {"riverside", *kept.casefold().split("\\")} & set(
            rule_keys(told["InstitutionName"].casefold())
        )


VRS = {attribute.keyword: attribute.vr for attribute in INDEXED_ATTRIBUTES}
CODECS = [b"ISO_IR 6", b"ISO 2022 IR 87", b"\\ISO 2022 IR 149", b"GBK", b"utf-16", b"hex", b"rot13", b"idna"]


@given(
    st.one_of(st.sampled_from(CODECS), st.binary(max_size=30)),
    st.dictionaries(st.sampled_from([a.tag for a in INDEXED_ATTRIBUTES]), st.binary(max_size=60)),
)
def test_whatever_comes_is_printable_text(character_set: bytes, values: dict[int, bytes]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        told = describe({SPECIFIC_CHARACTER_SET: character_set, **values})
    for attributes in (told.study, told.series, told.mapping):
        for value in attributes.values():
            assert value.encode()
            assert value.isprintable()
            assert len(value) <= MAX_ATTRIBUTE_CHARACTERS
    for keyword, value in {**told.study, **told.series}.items():
        assert cut_value(value, VRS[keyword]) == value
