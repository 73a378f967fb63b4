"""Filters as text: what is read, what is refused with which words, and what is bounded."""

from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from services.access.filter import grammar
from services.access.filter.faults import FilterError, picture, place
from services.access.filter.fields import FIELD_BY_NAME, FIELDS, OPERATORS, Function, Kind, Operator
from services.access.filter.grammar import MAX_CHARACTERS, MAX_DEPTH, MAX_ITEMS, MAX_NODES
from services.access.filter.tree import (
    And,
    Bound,
    Expression,
    Me,
    Name,
    Not,
    Or,
    Predicate,
    Span,
    Text,
    predicates,
)
from services.access.filter.writing import write

parse = partial(grammar.parse, is_of_group=True)

CASES = Path(__file__).parents[2] / "cases" / "filter"


def cases(name: str) -> list[Any]:
    """The entries of a file, each with the rows that it is an example of."""
    entries = yaml.safe_load((CASES / name).read_text())
    return [
        pytest.param(
            entry,
            id=entry["filter"][:60],
            marks=[pytest.mark.proves(row, part="as text") for row in entry.get("rows", ())],
        )
        for entry in entries
    ]


def refused(text: str, *, is_of_group: bool = True) -> FilterError:
    with pytest.raises(FilterError) as fault:
        grammar.parse(text, is_of_group=is_of_group)
    return fault.value


# Examples


@pytest.mark.parametrize("case", cases("accepted.yaml"))
def test_a_filter_means_what_it_says(case: dict[str, str]) -> None:
    tree = parse(case["filter"])

    assert write(tree) == case.get("means", case["filter"])
    assert parse(write(tree)) == tree


@pytest.mark.proves("BEY-4", part="position, quotes repaired, nearest name")
@pytest.mark.parametrize("case", cases("refused.yaml"))
def test_a_filter_is_refused_with_what_to_write_instead(case: dict[str, str]) -> None:
    fault = refused(case["filter"])

    assert str(fault) == case["says"]
    assert fault.repaired == case.get("repaired")
    if fault.repaired:
        parse(fault.repaired)


# Productions


def test_not_binds_before_and_and_and_before_or() -> None:
    tree = parse("true or false and not true or (true or false)")

    assert isinstance(tree, Or)
    assert [type(term).__name__ for term in tree.terms] == ["Constant", "And", "Or"]
    conjunction = tree.terms[1]
    assert isinstance(conjunction, And)
    assert isinstance(conjunction.terms[1], Not)


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.keyword)
def test_each_field_is_found_by_each_of_its_names_in_any_case(field: Any) -> None:
    for name in field.names:
        for written in (name, name.upper(), name.lower()):
            tree = parse(f"{written} is null")
            assert isinstance(tree, Predicate)
            assert tree.field is field


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.keyword)
def test_a_field_takes_the_operators_of_its_kind_and_no_other(field: Any) -> None:
    """Per kind, as the table of the language says; a set takes only what one member can satisfy."""
    value = {
        Kind.NUMBER: "'3'",
        Kind.AGE: "'3Y'",
        Kind.DATE: "'2026-01-01'",
        Kind.LOCAL: "'2026-01-01'",
        Kind.INSTANT: "'2026-01-01'",
        Kind.TIME: "'10:00'",
        Kind.ENUM: f"'{next(iter(field.choices or ['']))}'",
    }.get(field.kind, "'x'")
    asked = {
        Operator.IS_NULL: "is null",
        Operator.IN: f"in ({value})",
        Operator.BETWEEN: f"between {value} and {value}",
    }
    for operator in Operator:
        text = f"{field.keyword} {asked.get(operator, f'{operator} {value}')}"
        is_taken = operator in OPERATORS[field.kind] and not (
            field.is_set and operator in {"<", "<=", ">", ">=", "between"}
        )
        if is_taken:
            assert next(predicates(parse(text))).operator is operator
        else:
            assert "does not take" in str(refused(text))


@pytest.mark.parametrize(
    ("text", "operator", "negated"),
    [
        ("PatientID = 'a'", Operator.EQ, False),
        ("PatientID != 'a'", Operator.EQ, True),
        ("PatientID <> 'a'", Operator.EQ, True),
        ("PatientID not in ('a')", Operator.IN, True),
        ("PatientID not like 'a'", Operator.LIKE, True),
        ("PatientID not contains 'a'", Operator.CONTAINS, True),
        ("PatientID not startswith 'a'", Operator.STARTSWITH, True),
        ("PatientID not between 'a' and 'b'", Operator.BETWEEN, True),
        ("PatientID is not null", Operator.IS_NULL, True),
        ("'a' < PatientID", Operator.GT, False),
        ("'a' >= PatientID", Operator.LE, False),
        ("'a' <> PatientID", Operator.EQ, True),
    ],
)
def test_a_contrary_is_not_of_its_positive_form(text: str, operator: Operator, negated: bool) -> None:
    tree = parse(text)

    assert isinstance(tree, Predicate)
    assert (tree.operator, tree.negated) == (operator, negated)


@pytest.mark.parametrize("function", [each for each in Function if each])
def test_a_function_takes_the_fields_that_it_is_for(function: Function) -> None:
    for field in FIELDS:
        takes = {"age": {Kind.DATE, Kind.LOCAL, Kind.INSTANT}}.get(function, {Kind.TEXT, Kind.NAME})
        text = f"{function}({field.keyword}) {'<' if function is Function.AGE else '='} '3d'"
        if field.kind in takes:
            assert next(predicates(parse(text))).function is function
        else:
            assert "takes a" in str(refused(text))


def test_spans_lead_back_to_the_text() -> None:
    text = "(PatientName in ('A', 'B''C') or 'F' = PatientSex) and not StudyID is not null"
    tree = parse(text)

    def at(span: Span) -> str:
        return text[span.start : span.end]

    assert isinstance(tree, And)
    assert [at(predicate.span) for predicate in predicates(tree)] == [
        "PatientName in ('A', 'B''C')",
        "'F' = PatientSex",
        "StudyID is not null",
    ]
    assert [[at(span) for span in predicate.literal_spans] for predicate in predicates(tree)] == [
        ["'A'", "'B''C'"],
        ["'F'"],
        [],
    ]
    assert at(tree.terms[1].span) == "not StudyID is not null"


@pytest.mark.proves("ACC-29", part="as text")
@pytest.mark.parametrize("written", ["$user", "$USER", "$User"])
def test_user_is_whoever_is_shown_the_case_in_any_spelling_and_only_alone(written: str) -> None:
    def literals(text: str) -> tuple[object, ...]:
        return next(predicates(parse(text))).literals

    assert literals(f"AssignedToUser = '{written}'") == (Me.USER,)
    assert literals(f"LockedBy in ('{written}', 'brandt')") == (Me.USER, Name("brandt"))
    # Within a longer text it is that text.
    assert literals(f"PatientName contains '{written}s'") == (Text(f"{written}s"),)
    assert "stands for a login" in str(refused(f"PatientName contains '{written}'"))
    refused(f"AssignedToUser = ' {written}'")


def test_only_a_stored_filter_names_users_and_facilities_by_their_id() -> None:
    one = uuid4()
    text = f"AssignedToUser = '#{one}' and Facility in ('#{one}', 'North')"

    stored = [literal for predicate in predicates(parse(text, stored=True)) for literal in predicate.literals]
    written = [literal for predicate in predicates(parse(text)) for literal in predicate.literals]

    assert stored == [Bound(one), Bound(one), Name("North")]
    assert written == [Name(f"#{one}"), Name(f"#{one}"), Name("North")]


# Sides


@pytest.mark.proves("BEY-11", part="names in a filter")
def test_what_only_the_group_knows_of_does_not_exist_for_the_facility_side() -> None:
    """A59: the answer is that to any unknown name, and no message leads to it."""

    def answers(text: str) -> tuple[str, str | None]:
        fault = refused(text, is_of_group=False)
        return str(fault), fault.repaired

    assert answers("AssignedToUser = 'x'")[0].startswith(
        "line 1, column 1: there is no field `AssignedToUser`"
    )
    for near in ("AssignedToUser", "assignedtouser", "AssignedToUse", "Assigned"):
        said, repaired = answers(f"{near} = 'x'")
        assert "AssignedToUser" not in said.replace(f"`{near}`", "")
        assert repaired is None
    for near in ("PRE_READ", "pre_read", "PREREAD", "nonsense"):
        said, repaired = answers(f"ReportedTypes = '{near}'")
        assert said.removeprefix(f"line 1, column 17: `{near}` is no value") == (
            " of `ReportedTypes`; it takes one of `PRELIMINARY`, `FINAL`, `OTHER`"
        )
        assert repaired is None
    # A status that is never set there is known: it is a word of the worklist.
    grammar.parse("StudyStatusID = 'DICTATED'", is_of_group=False)


# Limits


@pytest.mark.proves("SEC-13", part="limits")
def test_a_filter_of_4096_characters_is_read_and_no_longer_one() -> None:
    text = "StudyDescription = '" + "x" * (MAX_CHARACTERS - 21) + "'"
    assert len(text) == 4096

    parse(text)
    assert "at most 4,096 characters" in str(refused(text + " "))
    assert "at most 4,096 characters" in str(refused(f"{text} and Facility = 'North'"))


def test_names_of_facilities_in_a_list_count_for_nothing() -> None:
    names = ", ".join(f"'Facility number {n}'" for n in range(2000))

    parse(f"Facility in ({names})")
    assert "at most 4,096" in str(refused(f"Facility in ({names}) and StudyDescription = '{'x' * 4096}'"))
    assert "at most 4,096" in str(refused("Facility = 'North'" + " " * grammar.MAX_CHARACTERS_IN_ALL))
    more = ", ".join(["'North'"] * (grammar.MAX_FACILITIES + 1))
    assert "at most 2,000" in str(refused(f"Facility in ({more})"))


def test_an_id_counts_for_nothing_where_it_stands_for_a_name() -> None:
    """So whatever was saved by name is read when it is stored, and nothing longer is saved by id."""
    names = " or ".join([f"LockedBy = '#{uuid4()}'"] * 99)
    assert len(names) > MAX_CHARACTERS

    parse(names, stored=True)
    assert "at most 4,096" in str(refused(names))
    with pytest.raises(FilterError, match="at most 4,096"):
        parse(f"{names} and StudyDescription = '{'x' * MAX_CHARACTERS}'", stored=True)
    with pytest.raises(FilterError, match="at most 4,096"):
        parse("true" + " " * MAX_CHARACTERS, stored=True)


@pytest.mark.proves("SEC-13", part="limits")
@pytest.mark.parametrize("opening", ["(", "not ", "not(", "( "])
def test_a_filter_is_at_most_64_levels_deep(opening: str) -> None:
    levels = len(opening.replace(" ", "").replace("not", "n"))

    def nested(depth: int) -> str:
        return opening * (depth // levels) + "true" + ")" * (opening.count("(") * depth // levels)

    parse(nested(MAX_DEPTH))
    assert "at most 64" in str(refused(nested(MAX_DEPTH + levels)))


def test_levels_side_by_side_do_not_add_up() -> None:
    parse(" or ".join(["(((not true)))"] * 30))


@pytest.mark.proves("SEC-13", part="limits")
def test_a_filter_has_at_most_200_predicates_and_connectives() -> None:
    parse(" and ".join(["true"] * (MAX_NODES // 2)))
    assert "at most 200" in str(refused(" and ".join(["true"] * (MAX_NODES // 2 + 1))))
    assert "at most 200" in str(refused(" and ".join(["true"] * 99 + ["not not true"])))


@pytest.mark.proves("SEC-13", part="limits")
def test_a_list_has_at_most_50_items() -> None:
    items = ["'x'"] * MAX_ITEMS

    parse(f"PatientID in ({', '.join(items)})")
    assert "at most 50" in str(refused(f"PatientID in ({', '.join([*items, items[0]])})"))


# Hostile input


def reading(text: str) -> Expression | FilterError:
    """What comes of a text; whatever else is raised is a fault of the parser."""
    try:
        return parse(text)
    except FilterError as fault:
        return fault


@pytest.mark.proves("SEC-13", part="closed grammar")
@given(st.text(alphabet=st.characters(), max_size=200))
@example("\ud800")
@example("‘" * 200)
@example("'" * 199)
@example("((((\u202e\u2066\ufeff")
@example("PatientName = '\udfff'")
@example("\n\r\r\n'")
def test_any_text_is_read_or_refused_with_a_place_in_it(text: str) -> None:
    fault = reading(text)
    if isinstance(fault, FilterError):
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        assert 1 <= fault.line <= len(lines)
        assert 1 <= fault.column <= len(lines[fault.line - 1]) + 1
        assert fault.picture.count("\n") == 1
        assert all(sign.isprintable() for sign in fault.picture if sign != "\n")
        assert fault.repaired is None or parse(fault.repaired)


PIECES = st.sampled_from(
    [
        *FIELD_BY_NAME,
        *(
            "and",
            "or",
            "not",
            "in",
            "is",
            "null",
            "between",
            "like",
            "contains",
            "startswith",
            "true",
            "nonsense",
        ),
        *("(", ")", ",", "=", "!=", "<", ">=", "==", "&&", "upper(", "age(", "‘", "’", '"', "'", ";"),
        *("'CT'", "'18Y'", "'3d'", "'2026-11-21'", "'%a_'", "'\\'", "'$user'", "18", "18Y", "O'Neil", "''"),
    ]
)


@pytest.mark.proves("SEC-13", part="closed grammar")
@given(st.lists(PIECES, max_size=40).map(" ".join))
def test_words_in_any_order_are_read_or_refused(text: str) -> None:
    found = reading(text)
    if isinstance(found, FilterError):
        assert found.repaired is None or parse(found.repaired)
    else:
        assert parse(write(found)) == found


@pytest.mark.parametrize(
    "sign", ["(", ")", "'", "`", "not ", "‘", '"', "in (", "Facility in (", "a=", "\u0301", "[", "-"]
)
@pytest.mark.parametrize("length", [MAX_CHARACTERS, grammar.MAX_CHARACTERS_IN_ALL])
def test_one_sign_again_and_again_is_refused(sign: str, length: int) -> None:
    refused((sign * length)[:length])


@pytest.mark.proves("SEC-13", part="unknown is refused")
@pytest.mark.parametrize(
    "word", ["ＰatientName", "PatientNameſ", "Kelvin", "PatıentName", "РatientName", "Loc\u212aedBy"]
)
def test_letters_that_only_look_alike_are_no_field(word: str) -> None:
    assert "there is no field" in str(refused(f"{word} = 'x'"))


def test_no_keyword_is_read_out_of_letters_that_lose_their_form() -> None:
    refused("PatientID ıs null")
    refused("PatientID ſtartswith 'x'")


@pytest.mark.parametrize(
    ("text", "offset", "line", "column"),
    [
        ("abc", 0, 1, 1),
        ("abc", 3, 1, 4),
        ("a\nbc", 3, 2, 2),
        ("a\r\nbc", 4, 2, 2),
        ("a\rbc", 2, 2, 1),
        ("麻生 'x", 3, 1, 4),
        ("e\u0301 'x", 3, 1, 4),
        ("a\n\n", 3, 3, 1),
    ],
)
def test_a_place_counts_lines_and_code_points_from_1(text: str, offset: int, line: int, column: int) -> None:
    assert place(text, offset) == (line, column)


@pytest.mark.parametrize(
    ("text", "span", "drawn"),
    [
        ("PatientAge < 18", Span(13, 15), "PatientAge < 18\n             ^^"),
        ("one\ntwo three\nfour", Span(8, 13), "two three\n    ^^^^^"),
        ("one\r\ntwo", Span(5, 6), "two\n^"),
        ("麻生 = x", Span(5, 6), "麻生 = x\n       ^"),
        ("e\u0301 = x", Span(5, 6), "e\u0301 = x\n    ^"),
        ("\u202ea", Span(0, 1), "·a\n^"),
        ("\t= 'x", Span(3, 5), " = 'x\n   ^^"),
        ("Modality =", Span(10, 10), "Modality =\n          ^"),
        ("'a\nb", Span(0, 4), "'a\n^^"),
    ],
)
def test_a_caret_stands_under_the_fault(text: str, span: Span, drawn: str) -> None:
    assert picture(text, span) == drawn


def test_a_long_line_is_cut_around_the_fault() -> None:
    text = "PatientSex = 'F' and " * 40 + "Colour = 'red'" + " and PatientSex = 'F'" * 40
    line, caret = refused(text).picture.splitlines()

    assert len(line) < 80
    assert line[caret.index("^") : caret.rindex("^") + 1] == "Colour"
