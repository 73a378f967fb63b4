"""What a valid filter says in plain English, and what it may not do that was meant."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from services.access.filter.grammar import parse
from services.access.filter.lint import Filled, Use, lint
from services.access.filter.reading import read

CASES = Path(__file__).parents[2] / "cases" / "filter"
ACCESS = Use(is_access_filter=True, is_of_group=True, filled={})


def cases(name: str) -> list[Any]:
    entries = yaml.safe_load((CASES / name).read_text())
    return [pytest.param(entry, id=entry["filter"][:60]) for entry in entries]


@pytest.mark.proves("BEY-4", part="read back in plain words")
@pytest.mark.parametrize("case", cases("accepted.yaml"))
def test_a_filter_is_read_back_in_plain_english(case: dict[str, str]) -> None:
    assert read(parse(case["filter"], is_of_group=True)) == case["reads"].rstrip("\n")


@pytest.mark.proves("BEY-4", part="warnings")
@pytest.mark.parametrize("case", cases("cautions.yaml"))
def test_a_filter_is_cautioned_of(case: dict[str, Any]) -> None:
    text, of = case["filter"], case.get("of")
    use = Use(is_access_filter=of != "search", is_of_group=of != "facility", filled={})

    said: dict[str, list[str]] = {}
    for span, sentence in lint(parse(text, is_of_group=use.is_of_group), use):
        said.setdefault(text[span.start : span.end], []).append(sentence)

    expected = {} if case["says"] == "ok" else case["says"]
    assert said == {words: [says] if isinstance(says, str) else says for words, says in expected.items()}


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        (
            "not (Modality = 'CT' or (PatientSex = 'F' and StudyDate is null))",
            "none of:\n- studies with a series whose modality is exactly `CT`\n- all of:\n"
            "  - patients whose sex is exactly `F`\n  - studies without a date",
        ),
        (
            "not PatientAge < '18Y'",
            "patients not younger than 18 completed years at the study date; 18-year-olds are shown",
        ),
        (
            "not (PatientAge < '18Y' and PatientSex = 'F')",
            "not all of:\n- patients younger than 18 completed years at the study date\n"
            "- patients whose sex is exactly `F`",
        ),
        ("not Modality is null", "studies with a series of known modality"),
        ("AssignedToUser is null", "cases without an assignee"),
        ("ReportedTypes is null", "cases without an issued report of known type"),
        ("PatientAge is not null", "patients with an age"),
        ("PatientAge = '1Y'", "patients of exactly 1 completed year at the study date"),
        ("StudyDescription like 'a%'", "studies whose description begins with `a`, capitals as written"),
        (
            "StudyDescription not like '%a'",
            "studies whose description does not end with `a`, capitals as written",
        ),
        ("PatientName < 'B'", "patients whose name comes before `B`"),
        ("NumberOfStudyRelatedSeries >= 3", "cases whose number of series is at least 3"),
        (
            "age(CreatedTime) not between '1h' and '3d'",
            "cases whose arrival (first image) is not between 1 hour and 3 days ago",
        ),
    ],
)
def test_each_form_of_a_condition_has_its_words(text: str, reads: str) -> None:
    assert read(parse(text, is_of_group=True)) == reads


@pytest.mark.parametrize(
    ("text", "with_value", "is_cautioned"),
    [
        ("PatientInstitutionResidence = 'Home'", 499, True),
        ("PatientInstitutionResidence = 'Home'", 500, False),
        ("PatientInstitutionResidence is null", 0, False),
        ("PatientName contains 'x'", 0, False),
    ],
)
def test_a_field_that_most_cases_lack_is_cautioned_of(text: str, with_value: int, is_cautioned: bool) -> None:
    use = Use(
        is_access_filter=True,
        is_of_group=True,
        filled={"PatientInstitutionResidence": Filled(1000, with_value)},
    )

    said = [sentence for _, sentence in lint(parse(text, is_of_group=True), use)]

    expected = "499 of 1,000 cases have a value of `PatientInstitutionResidence`; the others are hidden"
    assert said == ([expected] if is_cautioned else [])


def test_what_is_said_never_to_match_never_does() -> None:
    """`upper` and `lower` of what they made change nothing, for each character there is."""
    for code in range(0x110000):
        sign = chr(code)
        assert sign.upper().upper() == sign.upper()
        assert sign.lower().lower() == sign.lower()


def test_cautions_come_in_the_order_of_the_text_and_once() -> None:
    text = " and ".join(["StudyDescription like 'a_'", "PatientAge < '3Y'"] * 2)

    places = [span.start for span, _ in lint(parse(text, is_of_group=True), ACCESS)]

    assert places == sorted(set(places))
    assert len(places) == 4
