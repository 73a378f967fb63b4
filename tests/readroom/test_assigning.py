"""The commands on who reads a case and how soon, against a running system."""

import json
import signal
import subprocess
import sys

import pytest

from local.processes import until
from readroom.cases import once_assigned
from readroom.watch import Rows
from tests.readroom.conftest import Ward
from wire.access.v1.access_pb2 import LEVEL_REPORT, LEVEL_VIEW, Assignable, Case, WatchCasesResponse


@pytest.mark.parametrize(
    ("judged", "said"),
    [
        (Assignable(level=LEVEL_REPORT), "report"),
        (Assignable(level=LEVEL_VIEW, hidden_by=["PatientAge"]), "view: their filter asks for PatientAge"),
        (
            Assignable(hidden_by=["Modality", "PatientAge"]),
            "nothing: their filter asks for Modality, PatientAge",
        ),
        (Assignable(), "nothing: their filter hides it"),
    ],
)
def test_what_keeps_somebody_from_reporting_is_said(judged: Assignable, said: str) -> None:
    assert said == once_assigned(judged)


def test_a_case_is_assigned_made_urgent_and_unassigned(ward: Ward) -> None:
    listed = ward.by("chief", "case", "assignable", ward.case_id, "--json").json
    assert ("report", "report", []) == next(
        (each["level_now"], each["once_assigned"], each["hidden_by"])
        for each in listed
        if each["login"] == "marsh"
    )
    assert "rowan" not in {each["login"] for each in listed}, "who may not report is not listed"
    assigned = ward.by("chief", "case", "assign", ward.case_id, "MARSH", "--json")
    assert (0, "marsh", "report") == (
        assigned.code,
        assigned.json["assignee"],
        assigned.json["assignee_level"],
    )
    assert "marsh" == ward.listed("ivy", "assignee")
    assert until(lambda: ward.listed("ivy", "study_status_id") == "ASSIGNED", 20.0), "once it has arrived"
    assert (None, "READY_TO_READ") == (
        ward.listed("rowan", "assignee"),
        ward.listed("rowan", "study_status_id"),
    )
    assert "is stat" in ward.by("chief", "case", "priority", ward.case_id, "stat").out
    assert "stat" == ward.listed("rowan", "priority")

    assert "assigned to nobody" in ward.by("chief", "case", "unassign", ward.case_id).out
    assert (None, "READY_TO_READ") == (ward.listed("ivy", "assignee"), ward.listed("ivy", "study_status_id"))


def test_who_may_not_is_told_why(ward: Ward) -> None:
    refused = ward.by("ivy", "case", "assign", ward.case_id, "marsh")
    assert (4, True) == (refused.code, "case.assign" in refused.err)
    stranger = ward.by("chief", "case", "assign", ward.case_id, "rowan")
    assert (3, True) == (stranger.code, "nobody called `rowan` may report" in stranger.err)

    ward.reading("ivy", "lock")
    assert until(lambda: ward.listed("chief", "lock_holder") == "Dr Ivy Vos", 10.0)
    locked = ward.by("chief", "case", "assign", ward.case_id, "marsh")
    assert (6, True) == (locked.code, "Dr Ivy Vos" in locked.err)
    assert 0 == ward.by("chief", "case", "assign", ward.case_id, "marsh", "--force").code


def test_a_list_that_is_watched_tells_what_changes_until_somebody_ends_it(ward: Ward) -> None:
    assert ward.run("login", "rowan").code == 0
    command = [sys.executable, "-m", "readroom", "case", "list", "--watch", "--json"]
    told: list[tuple[str, object]] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        for line in watching.stdout:
            event = json.loads(line)
            if event["case_id"] != ward.case_id:
                continue
            told.append((event["event"], event["priority"]))
            if len(told) == 1:
                ward.by("chief", "case", "priority", ward.case_id, "stat")
            else:
                watching.send_signal(signal.SIGINT)
                break
        _, said = watching.communicate(timeout=20)

    assert ([("appeared", None), ("changed", "stat")], 0, "") == (told, watching.returncode, said)


def test_the_rows_of_a_watched_list_are_as_they_are_told() -> None:
    def row(case_id: str, after: str = "", name: str = "") -> WatchCasesResponse.Row:
        return WatchCasesResponse.Row(case=Case(case_id=case_id, patient_name=name), after_case_id=after)

    rows = Rows()
    rows.tell(WatchCasesResponse(resync=True, rows=[row("a"), row("b", "a"), row("c", "b")]))
    rows.tell(WatchCasesResponse(went=["b"], rows=[row("d"), row("a", "c", "Doe")]))
    assert [("d", ""), ("c", ""), ("a", "Doe")] == [(c.case_id, c.patient_name) for c in rows.cases]
    rows.tell(WatchCasesResponse(resync=True, rows=[row("e")]))
    assert ["e"] == [case.case_id for case in rows.cases]
