"""Filters as administrators save them, on the worklist and in Check: tests/cases/filter/shown.yaml."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from kernel.ids import CaseId
from kernel.reading import PrivilegeLevel
from services.access.accessfilter import Historical
from services.access.domain import Facility, Role, User
from services.access.filtering import FilterSettings
from services.access.received import Distinct, ReceivedStudy, StudyAttributes
from tests.access.builders import a_part, a_study
from tests.access.conftest import ADMIN, Access

EXAMPLES = yaml.safe_load((Path(__file__).parents[1] / "cases" / "filter" / "shown.yaml").read_text())
ATTRIBUTES = {
    "patient": "patient_name",
    "physician": "referring_physician_name",
    "description": "study_description",
    "age": "patient_age",
    "born": "patient_birth_date",
    "dated": "study_date",
    "sex": "patient_sex",
}


def by_row() -> list[Any]:
    """The examples of each row, which they prove together."""
    rows = sorted({row for example in EXAMPLES["filters"] for row in example["rows"]})
    return [
        pytest.param(
            [example for example in EXAMPLES["filters"] if row in example["rows"]],
            id=row,
            marks=pytest.mark.proves(row, part="as text and form")
            if row == "A14"
            else pytest.mark.proves(row),
        )
        for row in rows
    ]


def the_study(case: dict[str, Any]) -> ReceivedStudy:
    attributes = StudyAttributes(
        **{ATTRIBUTES[name]: value for name, value in case.items() if name in ATTRIBUTES}
    )
    part = a_part(
        modalities=tuple(case["modalities"]), body_parts=Distinct((case["body"],) if "body" in case else ())
    )
    return replace(
        a_study(part, attributes=attributes, in_full=True), calling_ae_title=case.get("sender", "")
    )


async def the_cases(access: Access) -> tuple[Facility, dict[CaseId, str]]:
    facility = await access.facility()
    cases = {await access.case(facility, the_study(case)): name for name, case in EXAMPLES["cases"].items()}
    return facility, cases


async def filtered(access: Access, facility: Facility, role: Role, example: dict[str, Any]) -> User:
    user = await access.user(role)
    await access.give(user, facility, PrivilegeLevel.VIEW)
    settings = FilterSettings(user.id, example.get("form", {}), example.get("filter", ""), Historical.OFF, 0)
    await access.filters.save_filter(ADMIN, settings)
    return user


@pytest.mark.parametrize("examples", by_row())
async def test_a_user_sees_what_their_filter_shows(access: Access, examples: list[dict[str, Any]]) -> None:
    facility, cases = await the_cases(access)

    for example in examples:
        user = await filtered(access, facility, Role.RADIOLOGIST, example)

        listed = [cases[case_id] for case_id in await access.worklist(user)]
        checked = await access.questions.check_many(user.login, list(cases))

        assert sorted(listed) == sorted(example["shows"]), example
        assert sorted(example["shows"]) == sorted(
            name for name, decision in zip(cases.values(), checked, strict=True) if decision.allowed
        ), example


@pytest.mark.proves("ACC-17")
async def test_a_referring_physician_views_the_cases_that_name_them(access: Access) -> None:
    facility, cases = await the_cases(access)
    example = {"filter": "ReferringPhysicianName contains 'BRONSTEIN'"}

    physician = await filtered(access, facility, Role.REFERRING_PHYSICIAN, example)

    seen = {cases[case_id]: await access.check(physician, case_id) for case_id in cases}
    assert {name for name, decision in seen.items() if decision.allowed} == {
        *("baby", "child", "eighteen", "adult", "padded")
    }
    assert {decision.level for decision in seen.values() if decision.allowed} == {PrivilegeLevel.VIEW}
