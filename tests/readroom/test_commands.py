"""The command line against a running system."""

import os
import stat
import subprocess
import sys
import tomllib
import uuid
from pathlib import Path

import pytest

from local.system import ROOT, LocalSystem
from tests.readroom.conftest import Run

NOBODYS = str(uuid.UUID(int=7))


def test_login_begins_a_session_that_only_its_owner_can_read(readroom: Run, tmp_path: Path) -> None:
    answer = readroom("login", "admin")

    assert (answer.code, answer.out) == (0, "logged in as `admin`\n")
    assert stat.S_IMODE((tmp_path / "session.json").stat().st_mode) == 0o600


def test_nobody_logs_in_who_is_no_user(readroom: Run, tmp_path: Path) -> None:
    answer = readroom("login", "nobody")

    assert (answer.code, answer.err) == (
        5,
        "readroom: `nobody` cannot log in: there is no active user with this login\n",
    )
    assert not (tmp_path / "session.json").exists()


@pytest.mark.parametrize(
    ("content", "mode"),
    [(None, 0o600), ("{}", 0o600), ("\x00", 0o600), ('{"login":"admin","session":"x"}', 0o644)],
)
def test_without_a_session_nothing_is_said(
    readroom: Run, tmp_path: Path, content: str | None, mode: int
) -> None:
    if content is not None:
        (tmp_path / "session.json").write_text(content)
        (tmp_path / "session.json").chmod(mode)

    answer = readroom("case", "list")

    assert (answer.code, answer.out) == (5, "")
    assert len(answer.err.splitlines()) == 1


def test_a_facility_may_be_named_by_the_next_command(admin: Run) -> None:
    made = admin("facility", "create", "Alder", "--model", "hub", "--mapping-tag", "StationName", "--json")
    given = admin("privilege", "set", "admin", "alder", "view", "--json")
    listed = admin("facility", "list", "--json").json

    assert (made.code, given.code) == (0, 0)
    assert made.json in listed
    assert made.json["mapping_tag"] == "StationName"
    assert given.json["facility"] == "Alder"
    assert given.json["effective_level"] == "view"


def test_a_facility_becomes_an_endpoint_and_loses_its_mapping_tag(admin: Run) -> None:
    admin("facility", "create", "Birch", "--model", "hub", "--mapping-tag", "StationName")

    changed = admin(
        "facility", "change", "Birch", "--model", "endpoint", "--name", "Birchwood", "--json"
    ).json

    assert (changed["name"], changed["model"], changed["mapping_tag"]) == ("Birchwood", "endpoint", None)


@pytest.mark.proves("RTE-5", part="on the command line")
def test_a_hub_without_mapping_tag_is_invalid_and_its_field_is_named(admin: Run) -> None:
    answer = admin("facility", "create", "Cedar", "--model", "hub")

    assert answer.code == 2
    assert "`--mapping-tag`" in answer.err
    assert len(answer.err.splitlines()) == 1


def test_how_long_a_study_must_be_quiet_is_shown_and_changed(admin: Run) -> None:
    admin("facility", "create", "Hazel")
    shown = admin("facility", "settle", "Hazel", "--json").json
    changed = admin("facility", "settle", "Hazel", "--after", "90", "--json").json
    stale = admin("facility", "settle", "Hazel", "--after", "60", "--version", "0")

    assert (shown["is_default"], shown["version"]) == (True, 0)
    assert (changed["facility"], changed["settles_after"]) == ("Hazel", "90 s")
    assert changed == admin("facility", "settle", "hazel", "--json").json
    assert (stale.code, "by `admin`" in stale.err) == (6, True)
    assert admin("facility", "settle", "Hazel", "--after", "4000").code == 2


def test_a_rule_is_made_listed_and_removed(admin: Run) -> None:
    admin("facility", "create", "Elm", "--model", "hub", "--mapping-tag", "InstitutionName")
    admin("facility", "create", "Fir", "--model", "endpoint")

    made = admin("rule", "create", "Fir", "--hub", "Elm", "--text", "MS44", "--json").json
    again = admin("rule", "create", "Fir", "--hub", "Elm", "--text", " ms44 ")
    listed = admin("rule", "list", "Elm")
    removed = admin("rule", "remove", made["rule_id"])
    literal = admin("rule", "create", "Fir", "--hub", "Elm", "--text", "MS*")

    assert (made["hub"], made["text"], made["endpoint"]) == ("Elm", "MS44", "Fir")
    assert "note: `*` is taken literally" in literal.err
    assert admin("rule", "remove", literal.out.splitlines()[1].split()[-1]).code == 0
    assert again.code == 6
    assert listed.out.splitlines()[1].split()[:3] == ["Elm", "MS44", "Fir"]
    assert removed.code == 0
    assert admin("rule", "list", "Fir", "--json").json == []
    assert admin("rule", "remove", made["rule_id"]).code == 3


def test_users_privileges_and_permissions(admin: Run) -> None:
    admin("facility", "create", "Gorse")
    made = admin("user", "create", "vos", "--name", "Dr Eva Vos", "--role", "radiologist", "--json").json
    held = admin(
        *("privilege", "set", "vos", "Gorse", "report", "--expires", "2999-01-01"),
        *("--read-types", "preliminary,final", "--json"),
    ).json
    changed = admin(
        "user", "change", "vos", "--inactive", "--permission", "study.delete@Gorse", "--json"
    ).json

    assert made["active"] is True
    assert "study.view_images" in made["permissions"]
    assert (held["level"], held["expires_on"], held["read_types"]) == (
        "report",
        "2999-01-01",
        ["preliminary", "final"],
    )
    assert (changed["active"], changed["permissions"]) == (False, ["study.delete@Gorse"])
    assert [p["facility"] for p in admin("privilege", "list", "VOS", "--json").json] == ["Gorse"]
    assert admin("privilege", "set", "vos", "Gorse", "none").code == 0
    assert admin("privilege", "list", "vos", "--json").json == []


@pytest.mark.proves("A68", part="users and privileges on the command line")
def test_what_was_looked_at_and_changed_since_is_not_overwritten(admin: Run) -> None:
    admin("facility", "create", "Rowan")
    made = admin("user", "create", "oak", "--name", "Oak", "--role", "radiologist", "--json").json
    held = admin("privilege", "set", "oak", "Rowan", "view", "--json").json
    assert admin("privilege", "set", "oak", "Rowan", "draft").code == 0

    for late in (
        admin("user", "change", "oak", "--name", "Ash", "--version", str(made["version"])),
        admin("privilege", "set", "oak", "Rowan", "none", "--version", str(held["version"])),
    ):
        assert late.code == 6
        assert "was changed by `admin` on" in late.err
    assert admin("user", "change", "oak", "--name", "Ash").code == 0
    assert admin("privilege", "set", "oak", "Rowan", "none").code == 0


@pytest.mark.proves("ACC-11", part="on the command line")
def test_an_expiry_belongs_to_view_and_report_only(admin: Run) -> None:
    admin("facility", "create", "Hazel")
    admin("user", "create", "lind", "--name", "Noor Lind", "--role", "transcriptionist")

    answer = admin("privilege", "set", "lind", "Hazel", "draft", "--expires", "2999-01-01")

    assert answer.code == 2
    assert "`--expires`" in answer.err


def test_folders_and_their_members(admin: Run) -> None:
    for login in ("ash", "beech"):
        admin("user", "create", login, "--name", login, "--role", "referring-physician")

    made = admin("folder", "create", "Tumour board", "--member", "ash", "--json").json
    changed = admin("folder", "change", "tumour board", "--add", "beech", "--remove", "ASH", "--json").json

    assert made["members"] == ["ash"]
    assert changed["members"] == ["beech"]
    assert "Tumour board" in admin("folder", "list").out
    late = admin("folder", "change", "Tumour board", "--add", "ash", "--version", str(made["version"]))
    assert late.code == 6
    assert "changed by `admin`" in late.err
    assert admin("folder", "put", "Tumour board", NOBODYS).code == 3


def test_a_gateway_is_enrolled_listed_and_revoked(admin: Run, tmp_path: Path) -> None:
    admin("facility", "create", "Juniper")
    enrolled = ("gateway", "enrol", "juniper", "--ae-title", "JUNIPER=Juniper", "--to")

    made = admin(*enrolled, tmp_path / "site", "--modality", "US3@10.1.2.3", "--json")

    assert made.code == 0
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "site").iterdir()} == {
        "gateway.key": 0o600,
        "gateway.pem": 0o600,
        "ca.pem": 0o600,
        "gateway.toml": 0o600,
    }
    settings = tomllib.loads((tmp_path / "site/gateway.toml").read_text())
    assert settings["ae_titles"] == ["JUNIPER"]
    assert settings["modalities"] == [{"ae_title": "US3", "address": "10.1.2.3"}]
    assert admin(*enrolled, tmp_path / "site").code == 6, "the folder is not empty"
    assert admin(*enrolled, tmp_path / "second").code == 6, "the title is taken"
    assert admin("gateway", "revoke", "Juniper", "--json").json["revoked_at"]
    assert admin(*enrolled, tmp_path / "third").code == 0, "the title is free again"
    listed = [g for g in admin("gateway", "list", "--json").json if g["name"] == "juniper"]
    assert [bool(gateway["revoked_at"]) for gateway in listed] == [False, True]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("facility", "create"), 2),
        (("facility", "create", "X", "--model", "spoke"), 2),
        (("privilege", "set", "admin", "Nowhere", "view"), 3),
        (("privilege", "list", "no-such-user"), 3),
        (("case", "fetch", NOBODYS, "--to", "never"), 3),
        (("case", "fetch", "not-an-id", "--to", "never"), 2),
        (("distribute", NOBODYS, NOBODYS), 3),
        (("grant", "create", NOBODYS, "admin"), 3),
        (("gateway", "enrol", "g", "--ae-title", "NO-FACILITY", "--to", "never"), 2),
        (("gateway", "revoke", NOBODYS), 3),
        (("privilege", "set", "admin", "Nowhere", "report", "--read-types", "peer"), 2),
        (("no-such-command",), 2),
    ],
)
def test_a_failure_is_one_sentence_and_an_exit_code(
    admin: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int
) -> None:
    monkeypatch.chdir(tmp_path)

    answer = admin(*arguments)

    assert (answer.code, answer.out) == (code, "")
    assert answer.err.splitlines()[-1].startswith(("readroom: ", "Error: "))
    assert "Traceback" not in answer.err


def test_whoever_may_not_is_denied(admin: Run) -> None:
    admin("user", "create", "oak", "--name", "Oak", "--role", "facility-user")
    admin("login", "oak")

    assert admin("facility", "create", "Oakland").code == 4
    assert admin("user", "list").code == 4
    assert admin("case", "list", "--json").json == []


def test_an_empty_list_is_counted(admin: Run) -> None:
    assert admin("case", "count", "--search", "smith").out == "0 cases\n"
    assert admin("case", "count", "--json").json == {"count": 0, "more": False, "unfinished": False}


def test_an_empty_worklist_says_why(admin: Run) -> None:
    assert admin("case", "list").out.startswith(
        "your worklist is empty: no case has come yet that you may see"
    )
    searched = admin("case", "list", "--search", "smith", "--where", "Modality = 'CT'").out
    assert searched == (
        "no case on your worklist satisfies --search and --where: leave one of them out to see more\n"
    )


def test_lists_that_are_empty_still_have_their_heads(admin: Run) -> None:
    assert admin("refusals").out.startswith("REFUSED AT  KIND")


def test_without_a_system_it_is_unavailable(readroom: Run, tmp_path: Path) -> None:
    answer = readroom("--data", tmp_path / "nowhere", "login", "admin")

    assert answer.code == 7
    assert "no system runs on" in answer.err


def test_it_is_a_program(system: LocalSystem, tmp_path: Path) -> None:
    environment = os.environ | {
        "READROOM_SESSION": str(tmp_path / "s"),
        "READROOM_DATA": str(system.data_dir),
    }
    ran = subprocess.run(
        [sys.executable, "-m", "readroom", "case", "list"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )

    assert ran.returncode == 5
    assert ran.stderr == "readroom: nobody is logged in at this terminal: say `readroom login LOGIN` first\n"
