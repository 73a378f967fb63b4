"""The queue on the command line: what waits, what is told of it to whom, and how it is emptied."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from demo.dicom_files import SyntheticCT
from demo.modality import Called, PynetdicomModality
from local.processes import until
from local.system import LocalSystem
from plumbing.tls import TLSFiles
from tests.readroom.conftest import Run

HUB, LAKE, HILL = "Spruce Hub", "Spruce Lake", "Spruce Hill"
Send = Callable[[SyntheticCT], None]


@pytest.fixture(scope="module")
def spruce(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the identity of the hub's gateway is."""
    return tmp_path_factory.mktemp("spruce")


@pytest.fixture
def send(admin: Run, system: LocalSystem, tmp_path: Path, spruce: Path) -> Send:
    """Sends the last image of a study to a hub with two endpoints and a rule, which the first test makes."""
    identity = spruce / "gateway"
    if not identity.exists():
        admin("facility", "create", HUB, "--model", "hub", "--mapping-tag", "InstitutionName")
        for endpoint in (LAKE, HILL):
            admin("facility", "create", endpoint, "--model", "endpoint")
        admin("rule", "create", LAKE, "--hub", HUB, "--text", "Maple Street")
        enrolled = admin("gateway", "enrol", "spruce", "--ae-title", f"SPRUCE={HUB}", "--to", identity)
        assert enrolled.code == 0
    host, _, port = system.endpoints().dicom.rpartition(":")
    called = Called(
        host,
        int(port),
        "READROOM",
        TLSFiles(*(identity / name for name in ("gateway.pem", "gateway.key", "ca.pem"))),
    )

    def send(study: SyntheticCT) -> None:
        paths = study.write(tmp_path / f"{study.name}-{study.institution_name}-{study.patient_id}")
        PynetdicomModality("SPRUCE").send(paths[-1:], called, lambda: None)

    return send


def waiting(run: Run, kind: str, count: int = 1) -> list[dict[str, Any]]:
    """What waits at the hub of this kind, as soon as it is so much."""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        found[:] = [
            each
            for each in run("held", "list", "--json").json
            if each["facility"] == HUB and each["kind"] == kind
        ]
        return len(found) == count

    assert until(there, 20.0), found
    return found


def wall(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.proves("BEY-7", part="one queue with the reason, a suggestion and a release")
@pytest.mark.proves("A17", part="on the command line")
def test_the_queue_says_what_waits_and_is_emptied(admin: Run, send: Send) -> None:
    study = SyntheticCT(slices=1, size=16, name="spruce-1", institution_name="Mapel Street")
    send(study)

    (row,) = waiting(admin, "undistributed")
    assert (["Mapel Street"], f"Maple Street → {LAKE}", "spruce") == (
        row["mapping_value"],
        row["suggestion"],
        row["gateway"],
    )
    assert [] == row["patient"], "who administers the hub sees no patient without a privilege there"
    assert admin("privilege", "set", "admin", HUB, "view").code == 0
    (row,) = waiting(admin, "undistributed")
    assert ["Vermeer^Ada · MS44-0001 · 19700131 · F"] == row["patient"]
    shown = admin("held", "show", row["held_id"])
    assert "Mapel Street" in shown.out
    assert "no rule of the hub has this mapping value" in wall(shown.out)

    preview = admin("held", "distribute", row["held_id"], HILL, "--preview", "--json").json
    assert (HILL, 0) == (preview["facility"], preview["grants_that_end"])
    assert [row["held_id"]] == [each["held_id"] for each in waiting(admin, "undistributed")]
    moved = admin("held", "distribute", row["held_id"], HILL, "--json").json
    assert (HILL, HUB, "by-hand") == (moved["facility"], moved["received_via"], moved["reason"])
    waiting(admin, "undistributed", 0)

    def on(facility: str) -> bool:
        return admin("held", "move", moved["case_id"], facility).code == 0

    assert until(lambda: on(LAKE), 10.0)  # until access has shown the case where it is
    assert until(lambda: on(HUB), 10.0)
    (back,) = waiting(admin, "undistributed")
    assert "a person moved the case back to its hub" == back["reason"]
    assert until(lambda: admin("held", "distribute", moved["case_id"], LAKE).code == 0, 10.0)


@pytest.mark.proves("A20", part="on the command line")
def test_a_rule_is_made_of_a_value_that_waits_and_applied_after_a_preview(admin: Run, send: Send) -> None:
    send(SyntheticCT(slices=1, size=16, name="spruce-2", institution_name="Birch Lane"))
    (row,) = waiting(admin, "undistributed")

    made = admin("held", "rule", row["held_id"], HILL, "--json").json
    assert (HUB, "Birch Lane", HILL) == (made["hub"], made["text"], made["endpoint"])
    (previewed,) = admin("held", "reevaluate", HUB, "--json").json
    assert (HILL, None) == (previewed["to"], previewed["why_not"])
    waiting(admin, "undistributed")

    (applied,) = admin("held", "reevaluate", HUB, "--apply", "--json").json
    assert (previewed["case_id"], None) == (applied["case_id"], applied["why_not"])
    waiting(admin, "undistributed", 0)
    assert [] == admin("held", "reevaluate", HUB, "--json").json


@pytest.mark.proves("BEY-7", part="another patient on the command line")
def test_a_part_of_another_patient_is_discarded_or_released(admin: Run, send: Send) -> None:
    assert admin("privilege", "set", "admin", LAKE, "view").code == 0
    asked = [
        word
        for each in ("access.admin", "facility.admin", "gateway.admin", "study.correct")
        for word in ("--permission", each)
    ]
    assert admin("user", "change", "admin", *asked).code == 0
    study = SyntheticCT(slices=1, size=16, name="spruce-3", institution_name="Maple Street")
    send(study)
    other = replace(study, slices=2, patient_name="Rembrandt^Titus", patient_id="MS44-0002")
    send(other)

    (row,) = waiting(admin, "another-patient")
    assert {"PatientID", "PatientName"} <= set(row["differs"])
    assert row["suggestion"] is None, "the mapping value is not why it waits"

    def previewed() -> bool:  # as soon as access shows the case
        return admin("held", "release", row["held_id"], "--preview").code == 0

    assert until(previewed, 10.0)
    preview = admin("held", "release", row["held_id"], "--preview").out
    assert "Rembrandt^Titus · MS44-0002" in preview
    assert "would join the case of Vermeer^Ada · MS44-0001" in preview
    shown = admin("held", "show", row["held_id"], "--json").json
    assert (["Rembrandt^Titus · MS44-0002 · 19700131 · F"], "Vermeer^Ada · MS44-0001 · 19700131 · F") == (
        shown["patient"],
        shown["case_patient"],
    )
    waiting(admin, "another-patient")

    corrects = ("--permission", f"study.correct@{LAKE}")
    assert admin("user", "create", "cor", "--name", "Cor", "--role", "radiologist", *corrects).code == 0
    assert admin("privilege", "set", "cor", LAKE, "view").code == 0
    assert admin("login", "cor").code == 0  # they correct cases of the endpoint, and administer nothing
    (known,) = admin("held", "list", "--json").json
    assert (shown["held_id"], shown["patient"]) == (known["held_id"], known["patient"])
    assert "Rembrandt^Titus" in admin("held", "release", row["held_id"], "--preview").out
    assert admin("held", "discard", row["held_id"]).code == 0
    assert [] == admin("held", "list", "--json").json
    assert admin("held", "discard", row["held_id"]).code == 3


def test_what_does_not_wait_is_not_found(admin: Run) -> None:
    nobodys = "00000000-0000-0000-0000-000000000007"
    for command in (
        ("held", "show", nobodys),
        ("held", "release", nobodys),
        ("held", "discard", nobodys),
        ("held", "rule", nobodys, nobodys),
        ("held", "distribute", nobodys, nobodys),
        ("held", "move", nobodys, nobodys),
        ("held", "reevaluate", nobodys),
    ):
        answer = admin(*command)
        assert answer.code in (3, 4), (command, answer)
        assert len(answer.err.splitlines()) == 1
