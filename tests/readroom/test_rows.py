"""What the command line shows of cases: which columns, how wide, one case, and those beside it."""

import csv
from pathlib import Path

import pytest

from local.processes import until
from readroom import rows
from readroom.show import Output
from tests.readroom.conftest import SITE, Ward
from wire.access.v1.access_pb2 import LEVEL_REPORT, PRIORITY_STAT, Case

USUAL = Case(
    case_id="01939e2c-7a51-7c7e-8f3a-0d7a3d1b6a42",
    facility_name="Maple Street",
    patient_name="VERMEER^ANNA MARIA",
    patient_id="P-0012345678",
    study_date="20261121",
    modalities_in_study=["CT", "PT", "SR"],
    study_description="CT CHEST ABDOMEN PELVIS W CONTRAST",
    study_status_id="READY_TO_READ",
    level=LEVEL_REPORT,
)
MARKED = Case(priority=PRIORITY_STAT, lock_holder_name="Dr Ivy Vos", assignee_login="vos")


def printed(capsys: pytest.CaptureFixture[str], *cases: Case) -> list[str]:
    rows.show(Output(), cases, None)
    return capsys.readouterr().out.splitlines()


def test_the_usual_columns_are_not_wider_than_a_screen_and_show_what_some_case_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain = printed(capsys, USUAL)
    assert len(max(plain, key=len)) <= 188
    assert "PRIORITY" not in plain[0]

    both = Case()
    both.CopyFrom(USUAL)
    both.MergeFrom(MARKED)
    marked = printed(capsys, USUAL, both)
    assert len(max(marked, key=len)) <= 222
    assert all(heading in marked[0] for heading in ("PRIORITY", "ASSIGNEE", "LOCK HOLDER"))


def test_columns_are_asked_for_by_their_names_and_shown_in_that_order(ward: Ward) -> None:
    listed = ward.by("ivy", "case", "list", "--columns", "study_date, may,patient_name", "--limit", "1")
    assert listed.out.startswith("STUDY DATE  MAY")
    assert "open, draft, report, share" in listed.out

    keys = ward.by("ivy", "case", "list", "--columns", "waits_for,case_id", "--json").json[0].keys()
    assert ["waits_for", "case_id"] == list(keys)

    unknown = ward.by("ivy", "case", "list", "--columns", "patient_name,age")
    assert 2 == unknown.code
    assert "there is no column `age`" in unknown.err


def test_one_case_is_shown_with_all_that_its_row_says_and_those_beside_it(ward: Ward) -> None:
    def shown_as_listed() -> bool:
        """It settles meanwhile."""
        shown = ward.by("ivy", "case", "show", ward.case_id, "--json").json
        return shown in ward.by("ivy", "case", "list", "--json").json

    assert until(shown_as_listed, 20.0)
    shown = ward.by("ivy", "case", "show", ward.case_id, "--json").json
    listed = ward.by("ivy", "case", "list", "--json").json
    assert ["open", "draft", "report", "share"] == shown["may"]
    assert f"CASE ID                   {ward.case_id}" in ward.by("ivy", "case", "show", ward.case_id).out

    related = ward.by("ivy", "case", "related", ward.case_id, "--json").json
    of_the_patient = {case["case_id"] for case in listed if case["patient_id"] == shown["patient_id"]} - {
        ward.case_id
    }
    assert of_the_patient == {case["case_id"] for case in related}
    absent = ward.by("ivy", "case", "related", "01939e2c-7a51-7c7e-8f3a-0d7a3d1b6a42")
    assert 3 == absent.code
    assert "there is no case `01939e2c-7a51" in absent.err
    assert "or you do not see it" in absent.err


def test_a_list_is_saved_whole_for_a_spreadsheet(ward: Ward, tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text("of before")
    named = ("--facility", SITE, "--columns", "case_id,facility,may")
    said = ward.by("ivy", "case", "list", "--csv", file, *named, "--json").json

    assert str(file) == said["file"]
    assert len(ward.by("ivy", "case", "list", "--json").json) == said["case_count"]
    with file.open(encoding="utf-8-sig", newline="") as lines:
        head, *cases = csv.reader(lines)
    assert ["case_id", "facility_name", "may"] == head
    assert [ward.case_id, SITE, "draft open report share"] in cases
    assert said["case_count"] == len(cases)
    assert (0o600, [file]) == (file.stat().st_mode & 0o777, list(tmp_path.glob("*.csv*")))

    refused = ward.by("ivy", "case", "list", "--csv", file, "--where", "Nothing = 1")
    assert (2, False) == (refused.code, "of before" in file.read_text())
    elsewhere = ward.by("ivy", "case", "list", "--csv", tmp_path / "no.csv", "--facility", "Nowhere")
    assert (3, False) == (elsewhere.code, (tmp_path / "no.csv").exists())
