"""What is read of a data set: decoded by its character set, whatever that claims to be."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.dicom import INDEXED_ATTRIBUTES, MAX_ATTRIBUTE_CHARACTERS
from services.ingest.dimse import SPECIFIC_CHARACTER_SET, describe

PATIENT_NAME, STUDY_DESCRIPTION, INSTITUTION_NAME, SERIES_NUMBER = (
    0x0010_0010,
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
    told = describe({STUDY_DESCRIPTION: b" \\ \0", INSTITUTION_NAME: b"x" * 5000})
    assert told.study == {}
    assert told.series == {"InstitutionName": "x" * MAX_ATTRIBUTE_CHARACTERS}


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
