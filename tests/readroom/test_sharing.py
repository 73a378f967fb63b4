"""The commands on sharing, mail and deletion, against a running system."""

import io
import re
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from local.processes import until
from readroom.deliveries import NOTICE
from readroom.sharing import BUCKET, RECEIVED
from tests.readroom.conftest import SITE, Run, Ward

NOBODYS = "00000000-0000-0000-0000-000000000007"
BUCKET_KEYS = {column.key for column in BUCKET}
RECEIVED_KEYS = {column.key for column in RECEIVED}
NOTICE_KEYS = {column.key for column in NOTICE}

CONSENTED = ("--rights", "read-report", "--reason", "second opinion", "--patient-agreed")


@pytest.fixture
def shared(ward: Ward) -> Ward:
    """A case, and whom it can be shared with; made by the first test that asks."""
    if "guest" not in [each["login"] for each in ward.by("admin", "user", "list", "--json").json]:
        contact = ("--email", "guest@elsewhere.example", "--mobile", "+31612345678", "--language", "nl")
        role = ("--role", "referring-physician")
        assert ward.run("user", "create", "guest", "--name", "Dr Guus Est", *role, *contact).code == 0
        assert ward.run("user", "create", "other", "--name", "Dr Ot Her", *role).code == 0
    return ward


def test_how_somebody_is_reached_is_said_changed_and_taken_away(shared: Ward) -> None:
    (guest,) = [u for u in shared.by("admin", "user", "list", "--json").json if u["login"] == "guest"]
    assert (guest["email"], guest["mobile_number"], guest["language"]) == (
        "guest@elsewhere.example",
        "+31612345678",
        "nl",
    )
    change = partial(shared.run, "user", "change", "other")
    other = change("--email", "o@there.example", "--language", "fr", "--json").json
    assert (other["email"], other["mobile_number"], other["language"]) == ("o@there.example", None, "fr")
    assert change("--email", "", "--json").json["email"] is None
    abroad = change("--mobile", "+212 612 345678", "--json")
    assert (abroad.code, abroad.json["mobile_number"]) == (0, "+212612345678")
    assert "warning: no one-time code can be sent to this mobile number: text messages go only to AT, BE" in (
        abroad.err
    )
    assert not change("--mobile", "").err
    refused = change("--mobile", "12")
    assert (refused.code, "`--mobile`" in refused.err) == (2, True)


def test_a_share_is_mailed_opened_with_a_code_listed_extended_and_revoked(
    shared: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shared.run
    prepared = shared.by("ivy", "share", "prepare", shared.case_id, "--to", "guest", "--json").json
    assert prepared["language"] == "nl"

    chosen = ("--to", "guest", *CONSENTED, "--two-factor", "--send-mail", "--urgent", "--message", "-")
    monkeypatch.setattr("sys.stdin", io.StringIO("kijk\n"))
    (part,) = run("share", "new", shared.case_id, *chosen, "--json").json
    assert part.keys() > BUCKET_KEYS
    assert (part["recipient"], part["state"], part["two_factor"]) == ("guest", "active", True)
    assert (part["case_ids"], part["reason"]) == ([shared.case_id], "second opinion")
    assert until(lambda: bool(run("mail", "--json").json), 10.0)
    mail = run("mail", "--json").json[-1]
    assert mail["to"] == "guest@elsewhere.example"
    assert "kijk" in mail["text"]
    assert f"Subject: {mail['subject']}" in run("mail").out
    (address,) = re.findall(r"https://\S+", mail["text"])

    run("login", "guest")
    opened = run("share", "open", address, "--json").json
    assert opened.keys() == RECEIVED_KEYS
    assert (opened["code_needed"], opened["case_ids"]) == (True, [])
    assert run("share", "open", address[:-2]).code == 3
    bucket = opened["bucket_id"]
    assert run("share", "code", bucket, "--json").json.keys() == {"bucket_id", "ends_at"}
    (code,) = re.findall(r"\d{6}", run("texts", "--json").json[-1]["text"])
    wrong = f"{(int(code) + 1) % 1_000_000:06}"
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{wrong}\n"))
    assert "the code is wrong" in run("share", "redeem", bucket, "-").err
    monkeypatch.setattr("click.termui.hidden_prompt_func", lambda _prompt: code)
    assert run("share", "redeem", bucket, "--json").json["case_ids"] == [shared.case_id]
    assert [each["case_id"] for each in run("case", "list", "--json").json] == [shared.case_id]
    assert [each["bucket_id"] for each in run("share", "received", "--json").json] == [bucket]

    run("login", "ivy")
    (listed,) = [p for p in run("share", "list", "--json").json if p["bucket_id"] == bucket]
    assert listed["opened_at"]
    named = ("facility", "patients", "studies")
    assert not any("you do not see" in each for each in part["studies"])
    assert [part[key] for key in named] == [listed[key] for key in named]
    till = f"{datetime.now(UTC) + timedelta(days=3):%Y-%m-%d}"
    assert run("share", "extend", bucket, "--till", till, "--json").json["ends_at"] < listed["ends_at"]
    assert run("share", "revoke", bucket).out == f"part {bucket} of the share has ended\n"
    others = ("--to", "other", *CONSENTED, "--no-two-factor", "--no-send-mail")
    again = run("share", "again", listed["share_id"], *others, "--json")
    assert again.json[0]["case_ids"] == [shared.case_id]
    assert [again.json[0][key] for key in named] == [listed[key] for key in named]
    assert run("share", "again", NOBODYS, "--to", "other", *CONSENTED).code == 3
    assert run("share", "revoke", "--share", again.json[0]["share_id"], "--json").json.keys() == {"revision"}

    run("login", "guest")
    assert run("case", "list", "--json").json == []


@pytest.mark.parametrize("login", ["jane+rad@clinic.example", "a" * 116 + "@clinic.test"])
def test_people_are_called_what_their_identity_provider_calls_them(shared: Ward, login: str) -> None:
    create = ("user", "create", login, "--name", "Dr Jane Rad", "--role", "referring-physician")
    made = shared.by("admin", *create, "--email", "jane@Straße.example", "--json")
    assert (made.code, made.json["email"]) == (0, "jane@xn--strae-oqa.example"), made.err
    new = ("share", "new", shared.case_id, "--to", login.upper(), *CONSENTED)
    assert shared.by("ivy", *new, "--no-two-factor", "--no-send-mail").code == 0
    assert [each["case_id"] for each in shared.by(login, "case", "list", "--json").json] == [shared.case_id]


@pytest.mark.parametrize(
    ("option", "options"),
    [
        ("--patient-agreed", ("--rights", "read-report", "--reason", "r")),
        ("--rights", ("--reason", "r", "--patient-agreed")),
        ("--reason", ("--rights", "read-report", "--patient-agreed")),
        ("--anonymize", (*CONSENTED, "--anonymize")),
        ("--till", (*CONSENTED, "--till", "tomorrow")),
        ("--no-two-factor", (*CONSENTED, "--two-factor")),
    ],
)
def test_a_share_that_is_refused_names_the_option(
    option: str, options: tuple[str, ...], shared: Ward
) -> None:
    refused = shared.by("ivy", "share", "new", shared.case_id, "--to", "other", *options)

    assert (refused.code, refused.out) == (2, "")
    assert f"`{option}`" in refused.err
    assert len(refused.err.splitlines()) == 1


def test_standard_input_is_read_for_one_option(shared: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("said"))
    refused = shared.run("share", "new", shared.case_id, "--reason", "-", "--message", "-")
    assert (refused.code, "one option only" in refused.err) == (2, True)


def test_five_wrong_codes_are_seen_and_undone_by_command(shared: Ward) -> None:
    run = shared.run
    chosen = ("--to", "guest", *CONSENTED, "--two-factor", "--no-send-mail")
    (part,) = shared.by("ivy", "share", "new", shared.case_id, *chosen, "--json").json
    bucket = part["bucket_id"]
    run("login", "guest")
    sent = run("share", "code", bucket)
    code = re.findall(r"\d{6}", run("texts", "--json").json[-1]["text"])[0] if sent.code == 0 else "000000"
    for by in range(1, 6):
        assert run("share", "redeem", bucket, f"{(int(code) + by) % 1_000_000:06}").code != 0
    assert run("share", "unblock", bucket).code in (3, 4)

    run("login", "ivy")
    assert bucket in [each["bucket_id"] for each in run("share", "list", "--blocked", "--json").json]
    run("login", "support")
    assert run("share", "unblock", bucket, "--json").json["state"] == "active"


def test_a_facility_says_what_it_allows(shared: Ward) -> None:
    chief: Run = shared.run
    assert chief("login", "chief").code == 0
    # Who administers shares only is shown ids: they may not list facilities.
    (case,) = [c for c in chief("case", "list", "--json").json if c["case_id"] == shared.case_id]
    before = chief("share", "policy", "show", case["facility_id"], "--json").json
    assert before["facility_id"] == case["facility_id"]
    change = partial(chief, "share", "policy", "set", case["facility_id"])
    changed = change("--default-days", "7", "--no-further-sharing", "--json").json
    version = before["version"] + 1
    assert changed == before | {"default_days": 7, "further_sharing_allowed": False, "version": version}
    stale = change("--default-days", "9", "--version", str(before["version"]))
    assert (6, True) == (stale.code, "by `chief`" in stale.err)
    assert change("--default-days", "0", "--json").json["default_days"] is None
    assert change().code == 2


def test_deliveries_are_listed_and_what_was_sent_is_not_sent_again(shared: Ward) -> None:
    chosen = ("--to", "guest", *CONSENTED, "--no-two-factor", "--send-mail")
    (part,) = shared.by("ivy", "share", "new", shared.case_id, *chosen, "--json").json
    run = shared.run
    run("login", "support")

    def sent() -> bool:
        return any(
            each["intent"] == f"bucket:{part['bucket_id']}" and each["state"] == "sent"
            for each in run("deliveries", "--json").json
        )

    assert until(sent, 10.0)
    newest = run("deliveries", "--limit", "1", "--json").json[0]
    assert newest.keys() == NOTICE_KEYS
    assert run("resend", newest["notice_id"]).code in (2, 6)
    assert run("resend", NOBODYS).code == 3


def test_a_case_is_deleted_by_who_may_and_everybody_confirms(shared: Ward) -> None:
    run = shared.run
    assert shared.by("ivy", "case", "delete", shared.case_id, "--yes").code == 4
    permissions = ("--permission", f"study.delete@{SITE}", "--permission", "lock.break")
    shared.by("admin", "user", "change", "chief", *permissions)
    run("login", "ivy")
    run("reading", "lock", shared.case_id)
    assert until(lambda: bool(shared.listed("chief", "lock_holder")), 10.0)
    assert shared.by("chief", "case", "delete", shared.case_id, "--yes").code == 6

    deleted = run("case", "delete", shared.case_id, "--force", "--yes", "--json").json
    assert (deleted["case_id"], deleted["deleted_by"]) == (shared.case_id, "chief")
    assert shared.listed("ivy", "case_id") is None
    run("login", "chief")

    def closed() -> bool:
        (found,) = [d for d in run("deletions", "--json").json if d["case_id"] == shared.case_id]
        assert found["facility"] == SITE  # the name, to somebody who may not list facilities
        return found["state"] == "closed" and found["waiting_for"] == [] and bool(found["closed_at"])

    assert until(closed, 20.0)


def test_a_case_with_which_another_patients_images_are_held_is_not_deleted_and_they_are_listed(
    shared: Ward,
) -> None:
    shared.by("admin", "user", "change", "chief", "--permission", f"study.delete@{SITE}")
    shared.send(2, PatientID="P-2", PatientName="Hals^Bea")
    assert until(lambda: bool(shared.listed("chief", "another_patient_held")), 10.0)
    refused = shared.by("chief", "case", "delete", shared.case_id, "--yes", "--json")
    assert refused.code == 6
    assert "release or discard them first" in refused.err
    (held,) = refused.json
    assert (held["patient_name"], held["patient_id"], held["instances"]) == (["Hals^Bea"], ["P-2"], 1)
    assert shared.listed("chief", "case_id") == shared.case_id
