"""tests/cases/patients.yaml: which identities may be one patient, as a radiologist would say."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kernel.patient import KEYWORDS, Identity, compare

CASES: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parents[1] / "cases/patients.yaml").read_text())[
    "cases"
]
FIELDS = {
    "id": "patient_id",
    "issuer": "issuer_of_patient_id",
    "name": "patient_name",
    "born": "patient_birth_date",
    "sex": "patient_sex",
}
TEXTS = st.sampled_from(["", " ", "A", "a", "B", "Doe^Jane", "DOE^JANE", "Jane Doe", "^^", "=山田^太郎"])
IDENTITIES = st.builds(Identity, TEXTS, TEXTS, TEXTS | st.text(max_size=12), TEXTS, TEXTS)


def identity(given: dict[str, str]) -> Identity:
    return Identity(**{FIELDS[name]: value for name, value in given.items()})


@pytest.mark.proves("BEY-7", part="another patient")
@pytest.mark.parametrize("case", [pytest.param(each, id=each["why"]) for each in CASES])
def test_identities_are_one_patient_or_two(case: dict[str, Any]) -> None:
    one, other = identity(case["one"]), identity(case["other"])
    comparison = compare(one, other)
    assert compare(other, one) == comparison
    assert comparison.may_be_one_patient == (case["patient"] == "same")
    assert list(comparison.differs) == case.get("differs", [])
    if comparison.may_be_one_patient:
        assert list(comparison.written_differently) == case.get("note", [])


def test_a_radiologist_has_enough_to_check() -> None:
    assert len(CASES) >= 40
    assert len({each["why"] for each in CASES}) == len(CASES)


@given(one=IDENTITIES, other=IDENTITIES)
def test_neither_side_is_more_right_than_the_other(one: Identity, other: Identity) -> None:
    comparison = compare(one, other)
    assert compare(other, one) == comparison
    assert not set(comparison.differs) & set(comparison.written_differently)
    assert {*comparison.differs, *comparison.written_differently} <= set(KEYWORDS.values())
    assert compare(one, one).may_be_one_patient
    assert compare(one, Identity()).may_be_one_patient


@given(one=IDENTITIES, other=IDENTITIES)
def test_what_an_identity_lacks_is_taken_from_another_and_nothing_else(
    one: Identity, other: Identity
) -> None:
    assert one.filled_from(one) == one
    assert compare(one, one.filled_from(other)).may_be_one_patient
