"""`readroom filter`: what administrators write, and what they are told of it."""

from typing import Any

import pytest

from readroom.filters import fault_lines, lint_lines
from tests.readroom.conftest import Run
from wire.access.v1.access_pb2 import Case, FilterCaution, FilterFault, FilterForm, LintResponse

CURLY = "PatientName contains ‘SMITH’ and Modality = 'CT'"
REPAIRED = "PatientName contains 'SMITH' and Modality = 'CT'"


def test_a_fault_is_drawn_with_carets_and_the_repair() -> None:
    fault = FilterFault(picture="PatientAge < 18\n             ^^", repaired="PatientAge < '18Y'")

    assert list(fault_lines(fault)) == [
        "  PatientAge < 18",
        "               ^^",
        "✓ write  PatientAge < '18Y'",
    ]


def test_a_repair_of_several_lines_is_drawn_as_several() -> None:
    fault = FilterFault(picture="and Modalty = 'CT'\n    ^", repaired="PatientSex = 'F'\nand Modality = 'CT'")

    assert list(fault_lines(fault))[2:] == ["✓ write  PatientSex = 'F'", "         and Modality = 'CT'"]


def test_what_a_filter_does_is_told_with_its_cautions_below_what_they_are_about() -> None:
    expression = "PatientName like 'a_b'\nand Modality = 'CT'"
    found = LintResponse(
        reading="all of\n  names like\n  CT studies",
        cautions=[FilterCaution(line=1, column=18, length=5, sentence="`_` is any one character")],
        form_expression="StudyDescription contains 'x'",
        offered_form=FilterForm(modalities=["CT", "MR"], age_to="17Y"),
        tried_on=100,
        shown=7,
        samples=[Case(patient_name="Doe^Jane", study_description="CT head", facility_name="North")],
    )

    assert list(lint_lines(found, expression)) == [
        "✓ shows all of",
        "      names like",
        "      CT studies",
        "! `_` is any one character",
        "    PatientName like 'a_b'",
        "                     ^^^^^",
        "  the form says StudyDescription contains 'x'",
        "  as a form: modalities: CT, MR; age to: 17Y",
        "  it shows 7 of the newest 100 cases of the facilities that you administer",
        "    Doe^Jane, CT head, North",
    ]


def test_carets_stand_below_wide_characters() -> None:
    found = LintResponse(reading="x", cautions=[FilterCaution(line=1, column=16, length=4, sentence="s")])

    *_, carets, _ = lint_lines(found, "PatientName = '山田'")

    assert carets.index("^") == len("    PatientName = '")


# Against a running system


@pytest.fixture
def somebody(admin: Run) -> str:
    login = "filtered"
    if login not in {each["login"] for each in admin("user", "list", "--json").json}:
        admin("user", "create", login, "--name", "Fil Tered", "--role", "radiologist")
    admin("filter", "clear", login)
    return login


@pytest.mark.proves("ACC-16", part="on the command line")
def test_a_filter_is_set_shown_listed_and_cleared(admin: Run, somebody: str) -> None:
    made = admin("filter", "set", somebody, "PatientAge <= '18Y'", "--modality", "CT", "--modality", "MR",
                 "--historical", "earlier", "--json").json  # fmt: skip

    shown = admin("filter", "show", somebody, "--json").json
    assert (made, shown["expression"], shown["form"], shown["historical"]) == (
        shown, "PatientAge <= '18Y'", ["modalities: CT, MR"], "earlier",
    )  # fmt: skip
    assert somebody in {each["login"] for each in admin("filter", "list", "--json").json}
    cleared = admin("filter", "clear", somebody)
    assert (cleared.code, cleared.out) == (0, f"`{somebody}` has no filter\n")
    assert somebody not in {each["login"] for each in admin("filter", "list", "--json").json}


@pytest.mark.proves("BEY-4", part="on the command line")
@pytest.mark.parametrize("command", [["lint"], ["set", "filtered"]])
def test_a_curly_quote_is_refused_with_its_place_and_the_repair(
    admin: Run, somebody: str, command: list[Any]
) -> None:
    answer = admin("filter", *command, CURLY)

    assert (answer.code, answer.out) == (2, "")
    *_, line, carets, write, said = answer.err.splitlines()
    assert line == f"  {CURLY}"
    assert carets.index("^") == line.index("‘")
    assert write == f"✓ write  {REPAIRED}"
    assert said.startswith("readroom: line 1, column 22: `‘` is not the quote of this language")
    assert admin("filter", "show", somebody, "--json").json["expression"] is None


def test_what_asks_nothing_is_no_filter(admin: Run, somebody: str) -> None:
    answer = admin("filter", "set", somebody)

    assert answer.code == 2
    assert "readroom filter clear" in answer.err


def test_lint_reads_back_counts_and_warns(admin: Run) -> None:
    answer = admin("filter", "lint", "PatientAge < '18Y'", "--json").json

    assert "18" in answer["reading"]
    assert answer["shown"] <= answer["tried_on"]
    warned = admin("filter", "set", "admin", "upper(PatientName) = 'Doe'")
    assert "warning: " in warned.err
    admin("filter", "clear", "admin")


def test_of_another_version_nothing_is_saved(admin: Run, somebody: str) -> None:
    assert admin("filter", "set", somebody, "false", "--version", "99999").code == 6


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--age-from", ["18"]),
        ("--study-to", ["soon"]),
        ("--referring-physician", [f"x{i}" for i in range(41)]),
    ],
)
@pytest.mark.parametrize("command", [["lint"], ["set", "filtered"]])
def test_a_fault_of_the_form_names_the_option_as_it_is_typed(
    admin: Run, somebody: str, command: list[Any], option: str, values: list[str]
) -> None:
    answer = admin("filter", *command, *(word for value in values for word in (option, value)))

    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"readroom: `{option}`: ")


def test_facilities_of_the_form_are_shown_by_name(admin: Run, somebody: str) -> None:
    admin("facility", "create", "Of The Form", "--model", "standard", "--time-zone", "Europe/Amsterdam")

    made = admin("filter", "set", somebody, "--facility", "of the form", "--json").json

    assert made["form"] == ["facilities: Of The Form"]
    assert admin("filter", "show", somebody, "--json").json == made
    offered = admin("filter", "lint", "Facility = 'Of The Form'", "--json").json["offered_form"]
    assert offered == made["form"]


def test_of_filters_only_the_broken_are_listed(admin: Run, somebody: str) -> None:
    admin("filter", "set", somebody, "false")

    assert admin("filter", "list", "--broken", "--json").json == []
    assert somebody in {each["login"] for each in admin("filter", "list", "--json").json}
