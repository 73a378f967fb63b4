"""What the command line prints."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

import readroom
from readroom.errors import EXIT_CODES, INTERRUPTED, UNEXPECTED
from readroom.rows import CASE
from readroom.show import Column, Output, harmless
from readroom.words import LEVELS, READ_TYPES, ROLES
from wire.access.v1.access_pb2 import Case

TABLE = (
    Column[dict[str, object]]("patient_name", lambda row: str(row["name"])),
    Column[dict[str, object]]("active", lambda row: bool(row["active"])),
    Column[dict[str, object]]("received_at", lambda row: datetime(2026, 3, 2, 9, 15, tzinfo=UTC)),
    Column[dict[str, object]]("levels", lambda row: ["view", "draft"]),
    Column[dict[str, object]]("note", lambda row: None, json_only=True),
)


def test_a_table_is_aligned_also_for_wide_characters(capsys: pytest.CaptureFixture[str]) -> None:
    Output().items(TABLE, [{"name": "Vermeer^Ada", "active": True}, {"name": "山田^太郎", "active": False}])

    assert capsys.readouterr().out.splitlines() == [
        "PATIENT NAME  ACTIVE  RECEIVED AT              LEVELS",
        "Vermeer^Ada   yes     2026-03-02 09:15:00 UTC  view, draft",
        "山田^太郎     no      2026-03-02 09:15:00 UTC  view, draft",
    ]


def test_json_has_the_same_keys_always(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=True).items(TABLE, [{"name": "Vermeer^Ada", "active": True}])

    assert json.loads(capsys.readouterr().out) == [
        {
            "patient_name": "Vermeer^Ada",
            "active": True,
            "received_at": "2026-03-02T09:15:00+00:00",
            "levels": ["view", "draft"],
            "note": None,
        }
    ]


HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\nVoss\u202e\u2028\x9b31m"


@pytest.mark.parametrize("as_json", [False, True])
def test_what_a_sender_wrote_never_reaches_the_terminal_as_a_command(
    as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    Output(as_json).item(TABLE, {"name": HOSTILE, "active": True})

    printed = capsys.readouterr().out
    assert all(character.isprintable() or character == "\n" for character in printed)
    assert "Voss" in printed


def test_a_case_with_images_of_another_patient_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    cases = [Case(case_id="1", another_patient_held=2), Case(case_id="2")]

    Output().items(CASE, cases)
    assert ["images of another patient are held" in row for row in capsys.readouterr().out.splitlines()] == [
        False,
        True,
        False,
    ]
    Output(as_json=True).items(CASE, cases)
    assert [2, 0] == [case["another_patient_held"] for case in json.loads(capsys.readouterr().out)]


def test_harmless_text_stays_as_it_is() -> None:
    assert harmless("Jérôme Äneas 山田 قباني") == "Jérôme Äneas 山田 قباني"


def test_enumerations_read_as_words() -> None:
    assert LEVELS.sayable == ["none", "view", "draft", "report"]
    assert READ_TYPES.sayable == ["preliminary", "final", "other", "pre-read"]
    assert ROLES.word(ROLES.number("radiology-assistant")) == "radiology-assistant"
    assert ROLES.word(0) == ""
    assert ROLES.word(77) == "77"


def test_the_readme_lists_every_exit_code() -> None:
    listed = re.findall(
        r"^\| (\d+) \|", (Path(readroom.__file__).parent / "README.md").read_text(), re.MULTILINE
    )

    assert {int(code) for code in listed} == {0, UNEXPECTED, INTERRUPTED, *EXIT_CODES.values()}
