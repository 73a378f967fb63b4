"""tests/cases/deletion.yaml, played on the purge record."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from kernel.ids import CaseId, DeletionId, FacilityId
from services.ingest.purgerecord import AFTER, Act, Begun, Deletion, State
from tests.clocks import NOON

CASES: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parents[1] / "cases/deletion.yaml").read_text())[
    "cases"
]

BEGUN = Begun((), FacilityId(uuid4()), "1")
STEPS: dict[str, tuple[Act, Callable[[Deletion], Deletion | None]]] = {
    "access hides it": (Act.BEGIN, lambda record: record.begun(BEGUN, NOON)),
    "access refuses": (Act.LAPSE, lambda record: None),
    "everybody is told": (Act.TELL, lambda record: record.told(NOON)),
    "it closes": (Act.CLOSE, lambda record: record.closed(NOON)),
    "access hides it again": (Act.REPEAT, lambda record: record.repeated("2", NOON)),
}


def a_deletion(**changes: Any) -> Deletion:
    values: dict[str, Any] = {
        "deletion_id": DeletionId(uuid4()),
        "case_id": CaseId(uuid4()),
        "facility_id": None,
        "deleted_by": "vos",
        "asked_at": NOON,
        "something_left": True,
    }
    return Deletion(**values | changes)


def after(record: Deletion, step: str) -> tuple[bool, Deletion | None]:
    """Whether the step has an effect, and the record after it."""
    if step == "ingest keeps nothing":
        return True, replace(record, something_left=False)
    if step.endswith(" confirms"):
        if not record.lets(Act.CONFIRM):
            return False, record
        return True, record.confirmed_by(step.split()[0], NOON)
    act, make = STEPS[step]
    return (True, make(record)) if record.lets(act) else (False, record)


@pytest.mark.proves("A60", part="whom the record waits for")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_the_record_says_how_far_a_deletion_has_come(case: dict[str, Any]) -> None:
    record: Deletion | None = a_deletion()
    for step in case["steps"]:
        assert record is not None
        effect, record = after(record, step["step"])
        assert effect is not step.get("no effect", False), step
        assert step["is"] == (record.state if record else "gone"), step
        if record and "waits for" in step:
            assert tuple(step["waits for"]) == record.waiting_for, step


def test_a_wish_lapses_and_nothing_else_does() -> None:
    assert [(State.ASKED, Act.LAPSE)] == [key for key, state in AFTER.items() if state is None]


def test_each_telling_has_a_version_of_its_own() -> None:
    begun = a_deletion().begun(BEGUN, NOON)

    assert (1, 2) == (begun.told(NOON).version, begun.told(NOON).told(NOON).version)
    assert begun.begun_at == begun.told(NOON).repeated("2", NOON).begun_at


@pytest.mark.parametrize(("state", "act"), [(state, act) for state in State for act in Act])
def test_what_is_not_in_the_table_cannot_be_done(state: State, act: Act) -> None:
    changes = {State.ASKED: {}, State.BEGUN: {"begun_at": NOON}, State.CLOSED: {"closed_at": NOON}}[state]
    record = a_deletion(**changes)
    assert state is record.state
    acts: dict[Act, Callable[[], Deletion]] = {
        Act.BEGIN: lambda: record.begun(BEGUN, NOON),
        Act.TELL: lambda: record.told(NOON),
        Act.CONFIRM: lambda: record.confirmed_by("routing", NOON),
        Act.CLOSE: lambda: record.closed(NOON),
        Act.REPEAT: lambda: record.repeated("2", NOON),
    }
    if act in acts and (state, act) not in AFTER:
        with pytest.raises(KeyError):
            acts[act]()
