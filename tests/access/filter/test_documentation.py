"""docs/filter-language.md says what is so: its examples are run, and no field is missing."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from services.access.filter.evaluate import compile as compiled
from services.access.filter.fields import FIELD_BY_NAME, FIELDS
from services.access.filter.grammar import MAX_CHARACTERS, MAX_DEPTH, MAX_ITEMS, MAX_NODES, parse
from services.access.filter.literals import DURATIONS, MAX_WILDCARDS
from tests.access.filter.cases import NOW, row
from tests.access.filter.test_grammar import refused
from tests.access.filter.test_trace import VOS, an_empty_case

PAGE = (Path(__file__).parents[3] / "docs" / "filter-language.md").read_text()
KINDS = {
    "text": "text",
    "name": "name",
    "number": "number",
    "age": "age",
    "date": "date",
    "time": "time",
    "local": "date and time",
    "instant": "instant",
    "enum": "choice",
    "login": "login",
    "facility": "facility",
}


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def rows(text: str) -> list[list[str]]:
    """The rows of the first table, without its head."""
    table = text.partition("|---")[2].partition("\n\n")[0]
    return [cells(line) for line in table.splitlines()[1:]]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)\n```", PAGE, re.DOTALL)


def a_case(written: str) -> Mapping[str, Any]:
    """`Modality=CT\\PT PatientSex=F`: a space before a keyword begins the next value."""
    case: dict[str, Any] = an_empty_case()
    for keyword, value in re.findall(r"(\w+)=(.*?)(?= \w+=|$)", written.strip("`")):
        assert keyword in case, keyword
        case[keyword] = (
            value.split("\\") if isinstance(case[keyword], list) else int(value) if value.isdigit()
            and isinstance(case[keyword], int) else value
        )  # fmt: skip
    return row(case)


def shows(text: str, case: Mapping[str, Any]) -> bool | None:
    found = compiled(parse(text, is_of_group=True), VOS)
    return found.holds([case.get(column) for column in found.columns], NOW)


EXAMPLES = [tuple(each) for each in rows(section("Examples"))]


@pytest.mark.proves("ACC-14", part="as documented")
@pytest.mark.parametrize(("written", "shown", "hidden"), EXAMPLES, ids=[each[0] for each in EXAMPLES])
def test_an_example_shows_and_hides_what_the_page_says(written: str, shown: str, hidden: str) -> None:
    text = written.strip("`")

    assert not shown or shows(text, a_case(shown)) is True
    assert shows(text, a_case(hidden)) is False or "null" in text


@pytest.mark.parametrize("text", blocks("filter"))
def test_an_example_of_several_lines_is_a_filter(text: str) -> None:
    assert parse(text, is_of_group=True)


REFUSED = list(zip(blocks("refused"), blocks("answer"), strict=True))


@pytest.mark.proves("BEY-4", part="as documented")
@pytest.mark.parametrize(("text", "answer"), REFUSED, ids=[each[0] for each in REFUSED])
def test_a_refused_example_is_answered_as_the_page_says(text: str, answer: str) -> None:
    fault = refused(text)

    assert f"{fault.sentence}\n{fault.repaired}" == answer


def test_what_the_text_quotes_of_filters_is_a_filter() -> None:
    quoted = [re.sub(r"\s+", " ", each) for each in re.findall(r"(?<!`)`([^`]+)`(?!`)", PAGE)]
    functions, operators = "upper|lower|plain|age", "=|!=|<|not|in|is|like|contains|between"
    asked = re.compile(rf"(not )?(({functions})\()?(\w+)\)? ({operators})")
    filters = [
        each
        for each in quoted
        if (found := asked.match(each)) and found[4].casefold() in FIELD_BY_NAME and "RefPhys" not in each
    ]

    assert len(filters) > 25
    for each in filters:
        assert parse(each, is_of_group=True), each


def test_every_field_is_on_the_page_with_its_kind_and_its_choices() -> None:
    told = {tuple(names.split(", ")): (kind, what) for names, kind, what in rows(section("Fields"))}

    assert set(told) == {each.names for each in FIELDS}
    for field in FIELDS:
        kind, what = told[field.names]
        assert kind.split(",")[0].rstrip("s") == KINDS[field.kind]
        assert kind.endswith("any of") == field.is_set
        assert set(field.choices or ()) <= set(re.findall(r"`(\w+)`", what))


def test_the_limits_are_those_of_the_language() -> None:
    said = section("What can be asked")

    for limit in (
        f"{MAX_CHARACTERS:,} characters",
        f"{MAX_NODES} conditions",
        f"{MAX_DEPTH} levels",
        f"{MAX_ITEMS} values",
        f"{MAX_WILDCARDS} wildcards",
    ):
        assert limit in said
    assert all(re.search(rf"`'\d+{unit}'`", said) for unit in DURATIONS)
