"""tests/cases/routing.yaml, played on the use cases and PostgreSQL."""

from collections.abc import Collection
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from kernel.ids import FacilityId, StudyId
from services.routing.domain import Model, Study
from services.routing.parts import HeldKind
from tests.routing.builders import JANE, JOHN, Object, a_study, a_uid
from tests.routing.conftest import ADMIN, Routing

CASES: dict[str, Any] = yaml.safe_load((Path(__file__).parents[1] / "cases/routing.yaml").read_text())

PATIENTS = {"Jane": JANE, "John": JOHN}


def _marks(case: dict[str, Any]) -> list[pytest.MarkDecorator]:
    return [pytest.mark.proves(row) for row in case["rows"]]


@pytest.mark.parametrize(
    "case", [pytest.param(each, id=each["case"], marks=_marks(each)) for each in CASES["cases"]]
)
async def test_case(routing: Routing, case: dict[str, Any]) -> None:
    facilities = {
        name: await routing.facility(name, Model(given["model"]), given.get("mapping tag"))
        for name, given in CASES["facilities"].items()
    }
    for text, endpoint in CASES["rules"].items():
        await routing.rule(facilities["North Hub"], text, facilities[endpoint])
    names = {facility.id: name for name, facility in facilities.items()}
    received_at = facilities.get(case["received at"])
    at = received_at.id if received_at else FacilityId(uuid4())

    study_id, study_uid = StudyId(uuid4()), a_uid()
    uids: dict[str, str] = {}
    objects: list[Object] = []
    study: Study | None = None
    for number, step in enumerate(case["steps"], 1):
        if "distribute to" in step:
            (placement,) = await routing.cases()
            await routing.moves.distribute(ADMIN, placement.case_id, facilities[step["distribute to"]].id)
        else:
            for added in step.get("objects", ()):
                for series, given in added.items():
                    told = given if isinstance(given, dict) else {"value": given, "patient": "Jane"}
                    patient = PATIENTS[told["patient"]]
                    objects.append((uids.setdefault(series, a_uid()), told["value"], patient))
            study = a_study(
                at,
                *objects,
                study_id=study_id,
                study_instance_uid=study_uid,
                version=number,
                settled=step.get("settled", False),
            )
            await routing.place(study)
        assert study
        assert await _seen(routing, names, study, list(uids)) == _expected(step), f"step {number}"


def _expected(step: dict[str, Any]) -> dict[str, Any]:
    expected = {"belongs to": step["belongs to"], "held": sorted(step.get("held", []))}
    if "because" in step:
        expected |= {"because": step["because"], "via": step.get("via"), "shows": step["shows"]}
    return expected


async def _seen(
    routing: Routing, names: dict[FacilityId, str], study: Study, series: list[str]
) -> dict[str, Any]:
    held = await routing.held()
    waits = [
        f"{what} {each.reason}"
        for each in held
        for what in _series(study, series, [each.part]) or [each.kind]
    ]
    seen: dict[str, Any] = {"held": sorted(waits)}
    cases = await routing.cases()
    if not cases:
        return seen | {"belongs to": "nobody" if held else "nobody yet"}
    (placement,) = cases
    (placed,) = placement.studies
    assert placed.parts is not None
    assert placement.undistributed == any(each.kind is HeldKind.UNDISTRIBUTED for each in held)
    assert placement.another_patient_held == sum(each.kind is HeldKind.ANOTHER_PATIENT for each in held)
    return seen | {
        "belongs to": names[placement.facility_id],
        "because": placement.reason.value,
        "via": names[placement.received_via_facility_id] if placement.received_via_facility_id else None,
        "shows": "all" if placed.all_series else _series(study, series, placed.parts),
    }


def _series(study: Study, series: list[str], parts: Collection[int]) -> list[str]:
    """The series in which these parts have objects, in order of receipt."""
    ordinals = {ordinal for part in study.parts if part.number in parts for ordinal in part.series}
    return [series[ordinal - 1] for ordinal in sorted(ordinals)]
