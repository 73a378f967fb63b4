"""A tree that is written is read again as the same tree."""

from datetime import date, datetime, time
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from services.access.filter import grammar
from services.access.filter.fields import FIELDS, FUNCTIONS, Field, Function, Kind, Operator
from services.access.filter.forms import plain
from services.access.filter.literals import DURATIONS, FIRST_DAY, LAST_DAY, Asked
from services.access.filter.mistakes import operators
from services.access.filter.tree import (
    Age,
    AgeUnit,
    And,
    Bound,
    Choice,
    Constant,
    Day,
    Duration,
    Expression,
    Literal,
    LocalTime,
    Me,
    Name,
    Not,
    Number,
    Or,
    Pattern,
    Predicate,
    Text,
    TimeOfDay,
    Wildcard,
)
from services.access.filter.writing import write

parse = partial(grammar.parse, is_of_group=True, stored=True)

# Nothing that `plain()` takes away, no padding, and not `$user`.
texts = st.text(st.sampled_from("aZß'\\%_\"(),=<麻é\n-’ "), min_size=1, max_size=9).map(
    lambda text: f"{text}x"
)


@st.composite
def patterns(draw: st.DrawFn) -> Pattern:
    parts = draw(st.lists(texts | st.sampled_from(Wildcard), min_size=1, max_size=5))
    apart: list[str | Wildcard] = []
    for part in parts:
        if not (apart and isinstance(part, str) and isinstance(apart[-1], str)):
            apart.append(part)
    return Pattern(tuple(apart))


def literals(asked: Asked) -> st.SearchStrategy[Literal]:
    counts = st.integers(0, 9999)
    if asked.is_duration:
        return st.builds(
            lambda n, unit: Duration(n * unit), st.integers(0, 300), st.sampled_from([*DURATIONS.values()])
        )
    days = st.dates(FIRST_DAY, LAST_DAY)
    moments = st.datetimes(
        datetime.combine(FIRST_DAY, time()), datetime.combine(LAST_DAY, time(23, 59, 59))
    ).map(LocalTime)
    logins = st.text(st.sampled_from("az09._@+#~!-"), min_size=1, max_size=20).map(Name) | st.just(Me.USER)
    kinds: dict[Kind, st.SearchStrategy[Literal]] = {
        Kind.TEXT: texts.map(Text),
        Kind.NAME: texts.map(Text),
        Kind.NUMBER: st.integers(0, 999_999_999).map(Number),
        Kind.AGE: st.builds(Age, counts, st.sampled_from(AgeUnit)),
        Kind.DATE: days.map(Day),
        Kind.TIME: st.times().map(TimeOfDay),
        Kind.LOCAL: moments,
        Kind.INSTANT: moments | days.map(lambda day: LocalTime(datetime.combine(day, time()))),
        Kind.ENUM: st.sampled_from([*(asked.field.choices or {"": ""})]).map(Choice),
        Kind.LOGIN: logins | st.uuids().map(Bound),
        Kind.FACILITY: texts.map(str.strip).map(Name) | st.uuids().map(Bound),
    }
    return patterns() if asked.operator is Operator.LIKE else kinds[asked.field.kind]


@st.composite
def conditions(draw: st.DrawFn) -> Predicate:
    field: Field = draw(st.sampled_from(FIELDS))
    function = draw(st.sampled_from([Function.NONE, *sorted(FUNCTIONS.get(field.kind, ()))]))
    any_operator = Asked(field, field.keyword, function, Operator.EQ, is_of_group=True, stored=True)
    operator = draw(st.sampled_from(sorted(operators(any_operator))))
    asked = any_operator._replace(operator=operator)
    fewest, most = {Operator.IS_NULL: (0, 0), Operator.BETWEEN: (2, 2), Operator.IN: (1, 4)}.get(
        operator, (1, 1)
    )
    # The signs of order have no contrary of their own: `not` stands before them.
    negated = draw(st.booleans()) and operator not in {"<", "<=", ">", ">="}
    values = draw(st.lists(literals(asked), min_size=fewest, max_size=most))
    return Predicate(field, operator, tuple(values), function, negated)


trees: st.SearchStrategy[Expression] = st.recursive(
    conditions() | st.booleans().map(Constant),
    lambda terms: st.one_of(
        terms.map(Not),
        st.lists(terms, min_size=2, max_size=4).map(tuple).map(And),
        st.lists(terms, min_size=2, max_size=4).map(tuple).map(Or),
    ),
    max_leaves=12,
)


@given(trees)
def test_what_is_written_is_read_as_the_same_tree(tree: Expression) -> None:
    assert parse(write(tree)) == tree


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_a_name_with_quotes_is_one_value_and_nothing_beyond(name: str) -> None:
    """Nobody widens a filter by how a patient or a facility is called."""
    if not plain(name) or name.lower() == "$user":
        return
    written = write(Predicate(FIELD, Operator.CONTAINS, (Text(name),), Function.PLAIN))

    tree = parse(written)
    assert isinstance(tree, Predicate)
    assert tree.literals == (Text(name),)


FIELD = next(field for field in FIELDS if field.keyword == "PatientName")


def test_a_date_and_a_moment_are_written_in_full() -> None:
    text = "StudyDate = '1000-01-01' and CreatedTime = '2026-11-21 08:30:00.000001'"
    tree = parse(text)

    assert isinstance(tree, And)
    assert [condition.literals for condition in tree.terms if isinstance(condition, Predicate)] == [
        (Day(date(1000, 1, 1)),),
        (LocalTime(datetime(2026, 11, 21, 8, 30, 0, 1)),),  # noqa: DTZ001  (a local time has no zone)
    ]
    assert write(tree) == text
