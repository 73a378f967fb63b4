"""The form of a filter, and the expression that says the same."""

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import Invalid
from services.access.filter.form import MAX_ENTRIES, Form, both, expression_of, filled, kept, offered, text_of
from services.access.filter.grammar import parse
from services.access.filter.tree import And, Constant, Expression
from services.access.filter.writing import write

NORTH, SOUTH = str(UUID(int=1)), str(UUID(int=2))


def parsed(text: str) -> Expression:
    return parse(text, is_of_group=True, stored=True)


@pytest.mark.proves("ACC-18", part="what the form says")
@pytest.mark.parametrize(
    "entered", [["Bronstein", "O'Neil"], [" Bronstein\r\nO'Neil\n\n"], ["Bronstein\nO'Neil", "O'Neil"]]
)
def test_each_line_is_a_name_of_which_any_is_contained_in_any_case(entered: list[str]) -> None:
    form = filled({"referring_physicians": entered})

    assert form.referring_physicians == ("Bronstein", "O'Neil")
    assert text_of(form) == (
        "(ReferringPhysicianName contains 'Bronstein' or ReferringPhysicianName contains 'O''Neil')"
    )


@pytest.mark.parametrize(
    ("entered", "says"),
    [
        ({}, ""),
        ({"referring_physicians": ["Bronstein"]}, "ReferringPhysicianName contains 'Bronstein'"),
        ({"modalities": ["CT"]}, "ModalitiesInStudy in ('CT')"),
        ({"modalities": ["CT", "MR"]}, "ModalitiesInStudy in ('CT', 'MR')"),
        ({"facilities": [NORTH.upper()]}, f"Facility in ('#{NORTH}')"),
        ({"age_from": "3Y"}, "PatientAge >= '3Y'"),
        ({"age_to": "17y"}, "PatientAge <= '17y'"),
        ({"age_from": "3M", "age_to": "17Y"}, "PatientAge between '3M' and '17Y'"),
        ({"study_from": "2026-01-01"}, "StudyDate >= '2026-01-01'"),
        ({"study_to": "20261231"}, "StudyDate <= '20261231'"),
        (
            {"study_from": "2026-01-01", "study_to": "2026-12-31"},
            "StudyDate between '2026-01-01' and '2026-12-31'",
        ),
        (
            {"description_words": ["knee", "left"]},
            "StudyDescription contains 'knee' and StudyDescription contains 'left'",
        ),
        (
            {
                "referring_physicians": ["A", "B"],
                "modalities": ["CT"],
                "age_to": "17Y",
                "description_words": ["chest pain"],
            },
            "(ReferringPhysicianName contains 'A' or ReferringPhysicianName contains 'B') and "
            "ModalitiesInStudy in ('CT') and PatientAge <= '17Y' and StudyDescription contains 'chest pain'",
        ),
    ],
)
def test_a_form_says_what_is_filled_in(entered: dict[str, Any], says: str) -> None:
    form = filled(entered)

    assert text_of(form) == says
    assert expression_of(form) == (parsed(says) if says else None)


@pytest.mark.parametrize(
    ("entered", "field", "says"),
    [
        ({"age_to": "17"}, "age_to", "`17` has no unit"),
        ({"age_from": "17", "age_to": "18Y"}, "age_from", "`17` has no unit"),
        ({"study_from": "yesterday"}, "study_from", "it takes a date"),
        ({"study_to": "2026-02-30"}, "study_to", "no day of the calendar"),
        ({"modalities": ["$user"]}, "modalities", "stands for a login"),
        ({"referring_physicians": ["a\0b"]}, "referring_physicians", "U+0000"),
        ({"description_words": [f"w{n}" for n in range(MAX_ENTRIES + 1)]}, "description_words", "at most 40"),
        ({"description_words": ["x" * 4096]}, "description_words", "at most 4,096"),
        ({"description_words": ["x" * 2000], "referring_physicians": ["y" * 2100]}, "form", "at most 4,096"),
        ({"facilities": ["North"]}, "facilities", "not an id"),
    ],
)
def test_a_form_that_cannot_be_asked_is_refused_by_its_field(
    entered: dict[str, Any], field: str, says: str
) -> None:
    with pytest.raises(Invalid) as refusal:
        filled(entered)

    assert refusal.value.field == field
    assert says in refusal.value.sentence


entries = st.lists(st.text(st.sampled_from("aB'%_\\()=麻é-")).map(lambda text: f"{text}x"), max_size=4)
ages = st.sampled_from(["", "0D", "3M", "17Y"])
days = st.sampled_from(["", "2026-01-01", "2026-12-31"])
forms = st.builds(
    lambda *values: filled(
        dict(
            zip(
                (
                    *("referring_physicians", "modalities", "facilities", "description_words"),
                    *("age_from", "age_to", "study_from", "study_to"),
                ),
                values,
                strict=True,
            )
        )
    ),
    *(entries, entries, st.lists(st.sampled_from([NORTH, SOUTH])), entries, ages, ages, days, days),
)


@given(forms)
def test_a_form_is_kept_and_opens_again_as_it_was(form: Form) -> None:
    assert filled(kept(form)) == form


@given(forms)
def test_what_a_form_says_is_offered_as_that_form(form: Form) -> None:
    said = expression_of(form)

    assert (offered(said) if said else Form()) == form


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("Modality = 'CT'", Form(modalities=("CT",))),
        (
            "PatientAge <= '17Y' and (PatientAge >= '3Y' and (Modality in ('CT', 'MR')))",
            Form(modalities=("CT", "MR"), age_from="3Y", age_to="17Y"),
        ),
        (
            "studydescription CONTAINS 'knee' and modality = 'MR'",
            Form(modalities=("MR",), description_words=("knee",)),
        ),
    ],
)
def test_an_expression_is_offered_whatever_its_order_and_spelling(text: str, form: Form | None) -> None:
    assert offered(parsed(text)) == form


@pytest.mark.parametrize(
    "text",
    [
        "true",
        "not Modality = 'CT'",
        "Modality != 'CT'",
        "Modality = 'CT' or Modality = 'MR'",
        "Modality = 'CT' and Modality = 'MR'",
        "upper(ReferringPhysicianName) contains 'A'",
        "ReferringPhysicianName contains 'A' and ReferringPhysicianName contains 'B'",
        "ReferringPhysicianName contains 'A' or PatientName contains 'B'",
        "StudyDescription contains 'A' or StudyDescription contains 'B'",
        "PatientAge < '18Y'",
        "PatientAge >= '3Y' and PatientAge >= '5Y'",
        "PatientAge >= '3Y' or PatientAge >= '5Y'",
        "ReferringPhysicianName like '%A%'",
        "ReferringPhysicianName contains ' A'",
        "(Modality = 'CT' and PatientAge <= '3Y') or StudyDate >= '2026-01-01'",
        "Facility = 'North'",
    ],
)
def test_an_expression_that_no_form_says_is_offered_none(text: str) -> None:
    assert offered(parsed(text)) is None


@pytest.mark.proves("ACC-19", part="beside the form")
def test_form_and_expression_are_and_ed() -> None:
    form = expression_of(filled({"modalities": ["CT"]}))
    expression = parsed("PatientAge <= '3Y' or PatientAge is null")

    together = both(form, expression)

    assert isinstance(together, And)
    assert write(together) == "ModalitiesInStudy in ('CT') and (PatientAge <= '3Y' or PatientAge is null)"
    assert both(form, None) == form
    assert both(None, None) is None
    assert both(Constant(False)) == Constant(False)
