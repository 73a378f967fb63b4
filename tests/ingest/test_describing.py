"""What is read of a data set: decoded by its character set, whatever that claims to be."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.dicom import INDEXED_ATTRIBUTES, MAX_ATTRIBUTE_CHARACTERS, cut_value
from kernel.filing import SPECIFIC_CHARACTER_SET
from services.ingest.dimse import describe
from services.routing.domain import fold, rule_keys

ZHANG = b"\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab"

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
        # PS3.5 K.2: GB 2312 in G1, and the same where nothing is declared.
        (b"\\ISO 2022 IR 58", b"Zhang^XiaoDong=" + ZHANG, "Zhang^XiaoDong=张^小东"),
        (b"", b"Zhang^XiaoDong=" + ZHANG, "Zhang^XiaoDong=张^小东"),
        (b"\\ISO 2022 IR 58", b"Wang=\x1b$)A" + "王".encode("gb2312") + b"^Ada", "Wang=王^Ada"),
        (
            b"\\ISO 2022 IR 149",
            b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7",
            "Hong^Gildong=洪^吉洞",
        ),
        # Misspelt, absent or empty, and valid UTF-8.
        *[
            (term, "Łukasz^Żółć".encode(), "Łukasz^Żółć")
            for term in (b"UTF-8", b"utf8", b"iso_ir 192", b"ISO_IR_192", b"ISO IR 192", b"ISO-2022-IR-192")
        ],
        *[
            (term, "Müller".encode(), "Müller")
            for term in (b"", b"ISO_IR 6", b"no such thing", b"\\ISO 2022 IR 87")
        ],
        # The same, and not UTF-8.
        *[(term, "Müller".encode("latin-1"), "Müller") for term in (b"", b"no such thing")],
        # What is declared stands, though the bytes may be read otherwise.
        (b"ISO_IR 100", "ü".encode(), "Ã¼"),
        (b"iso_ir_100", "Müller".encode("latin-1"), "Müller"),
        (b"Iso 2022 ir 101", "Łukasz".encode("iso8859_2"), "Łukasz"),
        (b"gb18030", "王^小东".encode("gb18030"), "王^小东"),
        # One text, one form.
        (b"ISO_IR 192", "Mu\u0308ller".encode(), "M\u00fcller"),
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


def test_dates_of_acr_nema_are_dates() -> None:
    told = describe({0x0010_0030: b"1970.01.31", 0x0008_0020: b"2026.1.2"})
    assert told.study == {"PatientBirthDate": "19700131", "StudyDate": "2026.1.2"}
    assert told.identity["PatientBirthDate"] == "19700131"


@pytest.mark.proves("RTE-9", part="text in another normal form of Unicode is the same text")
@pytest.mark.parametrize("sent", ["Universit\u00e9", "Universite\u0301", "UNIVERSITE\u0301 "])
@pytest.mark.parametrize("rule", ["universit\u00e9", "Universite\u0301"])
def test_a_mapping_value_and_a_rule_agree_in_any_normal_form(sent: str, rule: str) -> None:
    told = describe({SPECIFIC_CHARACTER_SET: b"ISO_IR 192", INSTITUTION_NAME: sent.encode()})
    assert fold(rule) in rule_keys(fold(told.mapping["InstitutionName"]))


def test_a_rule_that_the_version_before_kept_in_another_form_still_applies() -> None:
    assert "universite\u0301" in rule_keys(fold("Universit\u00e9"))


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
