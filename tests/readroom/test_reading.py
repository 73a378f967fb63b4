"""The commands on reading, against a running system: a case is locked, drafted, completed, shown."""

from pathlib import Path

import pytest

from local.processes import until
from readroom.reading import ENTRY
from tests.readroom.conftest import SITE, Run, Ward

NOBODYS = "00000000-0000-0000-0000-000000000007"
KEYS = {column.key for column in ENTRY}


def test_a_case_is_locked_drafted_completed_added_to_and_reopened(ward: Ward) -> None:
    locked = ward.reading("ivy", "lock", "--json")
    renewed = ward.reading("ivy", "renew", "--json")
    drafted = ward.reading("ivy", "draft", "--text", "nodule?", "--json")
    pre_read = ward.reading("ivy", "complete", "--type", "pre-read", "--text", "nodule")

    assert (locked.code, locked.json["kind"], locked.json["login"]) == (0, "lock", "ivy")
    assert locked.json.keys() == KEYS
    assert renewed.json["until"] >= locked.json["until"]
    assert (drafted.json["kind"], drafted.json["text"], drafted.json["name"]) == (
        "draft",
        "nodule?",
        "Dr Ivy Vos",
    )
    assert pre_read.code == 0
    assert pre_read.out.splitlines()[0].split() == [
        *("KIND", "READ", "TYPE", "NAME", "AT", "UNTIL", "REPORT", "ID", "TEXT"),
    ]

    ward.reading("marsh", "lock")
    final = ward.reading("marsh", "complete", "--type", "final", "--text", "benign", "--json").json
    added = ward.reading("marsh", "addendum", final["report_id"], "--text", "6 mm", "--json").json

    assert [(entry["kind"], entry["text"]) for entry in added] == [("report", "benign"), ("addendum", "6 mm")]
    read = [("report", "final", "benign"), ("addendum", "final", "6 mm")]
    assert ward.shown("ivy") == [("report", "pre-read", "nodule"), *read]
    assert ward.shown("rowan") == read
    assert until(lambda: ward.listed("rowan", "study_status_id") == "READ", 10.0)
    assert ward.listed("rowan", "reported_read_types") == ["final"]
    assert ward.listed("marsh", "reported_read_types") == ["final", "pre-read"]
    assert ward.reading("marsh", "reopen").code == 0
    assert ward.reading("marsh", "reopen").code == 6, "it is open"


@pytest.mark.proves("REP-12", part="images since the report, on the command line")
def test_images_that_come_after_a_report_are_marked_until_a_report_has_seen_them(ward: Ward) -> None:
    def marked(count: int | None, *logins: str) -> bool:
        return until(lambda: all(ward.listed(each, "images_since_report") == count for each in logins), 10.0)

    ward.reading("ivy", "lock")
    ward.reading("ivy", "complete", "--type", "pre-read", "--text", "nodule?")
    ward.send(2)

    assert marked(1, "ivy")
    assert ward.listed("ivy", "images_since")
    assert ("new images", None, "1 image has come since the report") in ward.shown("ivy")
    assert "IMAGES SINCE REPORT" in ward.by("ivy", "case", "list").out
    # Nobody at the facility may know that there was a report since which they came.
    assert until(lambda: ward.listed("rowan", "instance_count") == 2, 10.0)
    assert ward.listed("rowan", "images_since_report") is None
    assert ward.shown("rowan") == []

    ward.reading("marsh", "lock")
    final = ward.reading("marsh", "complete", "--type", "final", "--text", "benign", "--json").json
    assert marked(None, "ivy", "rowan")
    ward.send(3)
    ward.send(4)
    assert marked(2, "ivy", "rowan")
    for login in ("ivy", "rowan"):
        assert ("new images", None, "2 images have come since the report") in ward.shown(login)
    assert ward.listed("rowan", "study_status_id") == "READ"

    ward.reading("marsh", "addendum", final["report_id"], "--text", "nor do the new ones show more")
    assert marked(None, "ivy", "rowan")


@pytest.mark.proves("REP-13", part="on the command line")
def test_a_lock_has_a_holder_whom_others_see_until_he_gives_it_back(ward: Ward) -> None:
    ward.reading("ivy", "lock")
    refused = ward.reading("marsh", "lock")

    assert (refused.code, refused.out) == (6, "")
    assert "locked by `Dr Ivy Vos`" in refused.err
    assert len(refused.err.splitlines()) == 1
    assert until(lambda: ward.listed("rowan", "lock_holder") == "Dr Ivy Vos", 10.0)
    assert str(ward.listed("rowan", "lock_since")) < str(ward.listed("rowan", "lock_ends_at"))
    assert "LOCK HOLDER" in ward.by("rowan", "case", "list").out
    assert ward.shown("rowan") == [("lock", None, None)]
    assert ward.reading("ivy", "unlock", "--json").json == {"case_id": ward.case_id}
    assert ward.shown("rowan") == []
    assert ward.reading("ivy", "renew").code == 6


def test_a_broken_lock_is_told_to_who_held_it(ward: Ward) -> None:
    ward.reading("ivy", "lock")

    assert ward.reading("marsh", "break").code == 4
    assert ward.reading("chief", "break").code == 0
    told = ward.reading("ivy", "draft", "--text", "lost?")
    assert told.code == 6
    assert "your lock was broken by `Chief`" in told.err


def test_a_refused_text_is_kept_and_the_refusal_says_so(ward: Ward) -> None:
    ward.reading("marsh", "lock")

    refused = ward.reading("marsh", "complete", "--type", "pre-read", "--text", "not mine to pre-read")

    assert refused.code == 4
    assert "kept as a draft" in refused.err
    assert ("draft", None, "not mine to pre-read") in ward.shown("marsh")


def test_a_text_comes_from_a_file_and_shows_nothing_that_a_terminal_obeys(ward: Ward, tmp_path: Path) -> None:
    text = "line\nover \u202eline\n"
    (tmp_path / "text").write_text(text)
    ward.reading("ivy", "lock")

    assert ward.reading("ivy", "draft", "--file", tmp_path / "text").code == 0
    assert ward.shown("ivy")[-1] == ("draft", None, text)
    printed = ward.reading("ivy", "show").out
    assert printed.endswith("  line\n  over \\u202eline\n")
    assert "\u202e" not in printed


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("show", NOBODYS), 3),
        (("show", "not-an-id"), 2),
        (("lock", NOBODYS), 3),
        (("break", NOBODYS), 3),
        (("draft", NOBODYS), 2),
        (("draft", NOBODYS, "--text", "one", "--file", "-"), 2),
        (("draft", NOBODYS, "--text", " "), 2),
        (("draft", NOBODYS, "--text", "a\x1b[2Jb"), 2),
        (("draft", NOBODYS, "--file", "no-such-file"), 2),
        (("draft", NOBODYS, "--file", "latin1"), 2),
        (("complete", NOBODYS, "--type", "peer", "--text", "x"), 2),
        (("complete", NOBODYS, "--type", "final", "--text", "x"), 3),
        (("addendum", NOBODYS, NOBODYS, "--text", "x"), 3),
        (("reopen", NOBODYS), 3),
    ],
)
def test_a_failure_is_one_sentence_and_an_exit_code(
    admin: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin1").write_bytes(b"caf\xe9")

    answer = admin("reading", *arguments)

    assert (answer.code, answer.out) == (code, "")
    assert answer.err.splitlines()[-1].startswith(("readroom: ", "Error: "))
    assert "Traceback" not in answer.err
    assert "\x1b" not in answer.err


@pytest.mark.proves("REP-5", part="on the command line")
@pytest.mark.proves("REP-6", part="on the command line")
def test_read_types_are_switched_at_a_facility_and_pre_read_for_the_group(site: Run) -> None:
    site("login", "admin")
    listed = site("read-type", "list", SITE, "--json").json

    assert [each["read_type"] for each in listed] == ["preliminary", "final", "pre-read"]
    assert site("read-type", "on", "other", SITE).out.split() == [
        *("READ", "TYPE", "preliminary", "final", "other", "pre-read"),
    ]
    assert site("read-type", "off", "other", SITE, "--json").json == listed
    assert site("read-type", "off", "pre-read").code == 4, "only an operator switches it for the group"
    assert site("read-type", "on", "other").code == 2, "for the group there is pre-read only"
    site("login", "rowan")
    assert site("read-type", "list", SITE).code in (3, 4)
    site("login", "support")
    assert site("read-type", "off", "pre-read", "--json").json == []
    assert [each["read_type"] for each in site("read-type", "on", "pre-read", "--json").json] == ["pre-read"]
