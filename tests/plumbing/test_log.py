"""Logs: one context per request, nothing of a patient, no secret, no value of a local variable."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from kernel.dicom import INDEXED_ATTRIBUTES
from kernel.errors import Invalid
from plumbing import log

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """What was logged so far, as JSON."""
    monkeypatch.setattr(log._output, "service", "")
    root = logging.getLogger()
    before = root.handlers[:], root.level
    log.configure("access")
    yield lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    root.handlers[:], root.level = before


def test_a_line_says_when_who_and_what(lines: Lines) -> None:
    log.get().info("case placed", case=UUID(int=7), reason="hub", studies=2)
    (line,) = lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "service": "access",
        "level": "info",
        "event": "case placed",
        "case": str(UUID(int=7)),
        "reason": "hub",
        "studies": 2,
    }


def test_what_is_bound_once_stands_in_every_line_within(lines: Lines) -> None:
    with log.bound(peer="bff"):
        with log.bound(method="Check"):
            log.get().info("one")
        log.get().info("two")
    log.get().info("three")
    assert [(line.get("peer"), line.get("method")) for line in lines()] == [
        ("bff", "Check"),
        ("bff", None),
        (None, None),
    ]


@pytest.mark.parametrize("key", [
    "patient_name", "patient_id", "PatientID", "patientBirthDate", "birth_date", "date_of_birth",
    "accession_number", "study_description", "referring_physician_name", "operators_name",
    "password", "token", "authorization", "private_key", "otp_digest", "client_secret",
    "name", "text", "value", "study_instance_uid", "mapping_value", "request", "x",
])  # fmt: skip
def test_text_passes_under_no_other_key_than_those_of_the_list(lines: Lines, key: str) -> None:
    log.get().info("case placed", **{key: "DOE^JOHN"})
    assert lines()[0][key] == log.REDACTED


def test_not_even_a_number_passes_under_a_key_that_sounds_like_a_person_or_a_secret(lines: Lines) -> None:
    keys = [attribute.keyword for attribute in INDEXED_ATTRIBUTES if attribute.vr in ("PN", "DA", "LO", "SH")]
    for key in (*keys, "patient_age", "password", "otp"):
        log.get().info("case placed", **{key: 19700101})
    assert all(19700101 not in line.values() for line in lines())


@pytest.mark.parametrize("value", [b"DOE", {"a": "DOE"}, ["DOE"], date(1970, 1, 1), ValueError("DOE")])
def test_nothing_that_could_hold_more_than_it_seems_passes(lines: Lines, value: object) -> None:
    log.get().info("case placed", reason=value)
    assert lines()[0]["reason"] == log.REDACTED


def test_a_text_of_any_length_makes_a_line_of_bounded_length(lines: Lines) -> None:
    log.get().info("refused", calling_ae_title="x" * 100_000)
    assert len(lines()[0]["calling_ae_title"]) == 2000


def fail(patient_name: str) -> None:
    try:
        {"nobody": 1}[patient_name]
    except KeyError as error:
        raise ValueError(f"no such patient: {patient_name}") from error


def test_an_exception_is_told_by_kind_and_place_without_values(lines: Lines) -> None:
    try:
        fail("DOE^JOHN")
    except ValueError:
        log.get().exception("unexpected error")
    told = lines()[0]["exception"]
    assert "DOE" not in told
    assert told.startswith("builtins.ValueError\n")
    assert "\ncaused by builtins.KeyError\n" in told
    assert f"{__file__}:" in told
    assert " fail" in told


@pytest.mark.parametrize(("error", "told"), [
    (Invalid("`page_token` is not ours"), "kernel.errors.Invalid: `page_token` is not ours"),
    (AttributeError("'Case' has no attribute 'x'"), "builtins.AttributeError: 'Case' has no attribute 'x'"),
    (asyncpg.UndefinedColumnError("no x"), "asyncpg.exceptions.UndefinedColumnError: no x sqlstate=42703"),
    (asyncpg.UniqueViolationError("DOE"), "asyncpg.exceptions.UniqueViolationError sqlstate=23505"),
    (OSError(28, "No space left", "DOE"), "builtins.OSError errno=28"),
])  # fmt: skip
def test_only_messages_that_name_code_are_told(error: Exception, told: str) -> None:
    assert log.describe(error) == told


def test_a_line_of_a_library_comes_without_the_values_in_it(lines: Lines) -> None:
    logging.getLogger("some.library").warning("cannot parse %s", "DOE^JOHN")
    logging.getLogger("some.library").info("not worth a line")
    (line,) = lines()
    assert (line["event"], line["logger"], line["level"]) == ("cannot parse %s", "some.library", "warning")


def test_a_terminal_gets_the_same_lines_for_a_person(
    lines: Lines, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(log._output, "render", log._output.render)
    log.configure("access")
    log.get().info("case placed", patient_name="DOE", reason="hub")
    told = capsys.readouterr().err
    assert "case placed" in told
    assert "hub" in told
    assert "{" not in told
    assert "DOE" not in told


def test_a_process_that_set_nothing_up_logs_redacted_as_well() -> None:
    program = "from plumbing import log; log.get().info('case placed', patient_name='DOE', reason='hub')"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    told = json.loads(ran.stderr)
    assert (told["event"], told["reason"], told["patient_name"]) == ("case placed", "hub", log.REDACTED)
