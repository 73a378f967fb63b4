"""tests/cases/ages.yaml: how old a patient was at the study, as a radiologist would say."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from services.access.filter.ages import ages
from services.access.filter.dates import parse_date

CASES: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parents[2] / "cases/ages.yaml").read_text())[
    "cases"
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_age_is_what_the_dates_say_or_else_the_element(case: dict[str, Any]) -> None:
    birth_day, study_day = (parse_date(case.get(each, "")) for each in ("born", "study"))

    assert tuple(None if each == "-" else each for each in case["age"]) == ages(
        birth_day, study_day, case.get("element", "")
    )
