"""Who may send, and what is answered."""

from datetime import timedelta
from uuid import uuid4

import pytest

from kernel.errors import Conflict, Invalid
from kernel.ids import StudyId
from services.ingest.domain import ANSWERS, MAX_TRANSFER_AGE, ConfirmedStudy, Filed, StoreStatus, still_served
from services.ingest.gateway import MAX_TITLES, enrolment
from services.ingest.transfers import transfer_begun_at
from tests.ingest.builders import FACILITY, NOW, a_gateway


@pytest.mark.parametrize(
    ("name", "titles", "request_pem", "field"),
    [
        ("", ["A"], "pem", "name"),
        (" \t", ["A"], "pem", "name"),
        ("x" * 65, ["A"], "pem", "name"),
        ("two\nlines", ["A"], "pem", "name"),
        ("Riverside", [], "pem", "ae_titles"),
        ("Riverside", ["A"] * (MAX_TITLES + 1), "pem", "ae_titles"),
        ("Riverside", ["BACK\\SLASH"], "pem", "ae_titles.ae_title"),
        ("Riverside", ["SEVENTEEN_LETTERS"], "pem", "ae_titles.ae_title"),
        ("Riverside", ["A", " A "], "pem", "ae_titles.ae_title"),
        ("Riverside", ["A"], "", "certificate_request_pem"),
        ("Riverside", ["A"], "x" * 16385, "certificate_request_pem"),
    ],
)
def test_a_bad_enrolment_names_its_field(name: str, titles: list[str], request_pem: str, field: str) -> None:
    with pytest.raises(Invalid) as raised:
        enrolment(name, [(title, FACILITY) for title in titles], request_pem)
    assert raised.value.field == field


def test_titles_are_trimmed() -> None:
    (binding,) = enrolment("Riverside", [("  RIVERSIDE ", FACILITY)], "pem")
    assert binding.ae_title == "RIVERSIDE"


def test_a_gateway_receives_for_the_facility_of_the_title() -> None:
    gateway = a_gateway("MAIN", "ANNEX")
    assert gateway.receives_for("ANNEX") == FACILITY
    assert gateway.receives_for("annex") is None
    assert gateway.receives_for("OTHER") is None


def test_a_revoked_gateway_receives_for_nobody() -> None:
    revoked = a_gateway("MAIN").revoke(NOW)
    assert revoked.receives_for("MAIN") is None
    assert (revoked.revoked_at, revoked.version) == (NOW, 2)
    with pytest.raises(Conflict):
        revoked.revoke(NOW)


def test_the_age_of_a_transfer_counts_by_our_clock() -> None:
    assert transfer_begun_at(timedelta(hours=3), NOW) == NOW - timedelta(hours=3)
    for nobody_knows in (None, timedelta(seconds=-1), MAX_TRANSFER_AGE + timedelta(seconds=1), timedelta.max):
        assert transfer_begun_at(nobody_knows, NOW) == NOW - MAX_TRANSFER_AGE


def test_every_status_has_an_answer_that_fits_its_element() -> None:
    assert set(ANSWERS) == set(StoreStatus)
    for status, answer in ANSWERS.items():
        assert len(answer.comment) <= 64, status
        assert bool(answer.comment) == bool(answer.status), status


def test_only_shortages_of_ours_ask_the_sender_to_try_again() -> None:
    again = {status for status, answer in ANSWERS.items() if answer.status >> 8 == 0xA7}
    assert again == {StoreStatus.OUT_OF_RESOURCES}


STUDY, OTHER = StudyId(uuid4()), StudyId(uuid4())
HERE = Filed(STUDY, "1.2", 1_000_001)


@pytest.mark.parametrize(
    ("now", "served"),
    [
        ([ConfirmedStudy(STUDY)], True),
        ([ConfirmedStudy(OTHER)], False),
        ([], False),
        ([ConfirmedStudy(STUDY, series=frozenset({"1.2"}))], True),
        ([ConfirmedStudy(STUDY, series=frozenset({"1.3"}))], False),
        ([ConfirmedStudy(STUDY, parts=frozenset({1_000_001}))], True),
        ([ConfirmedStudy(STUDY, parts=frozenset({1_000_002}))], False),
        ([ConfirmedStudy(STUDY, parts=frozenset())], False),
        ([ConfirmedStudy(OTHER), ConfirmedStudy(STUDY, parts=frozenset({1_000_001, 7}))], True),
    ],
)
def test_what_is_served_must_still_belong_to_the_case(now: list[ConfirmedStudy], served: bool) -> None:
    assert still_served({HERE}, now) is served
