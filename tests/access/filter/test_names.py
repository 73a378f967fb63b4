"""Users and facilities in filters: named by people, kept by id, shown by today's names."""

from uuid import UUID

import pytest

from services.access.filter.faults import FilterError
from services.access.filter.grammar import parse
from services.access.filter.names import Directory, bind, facility_key, names, shown, stored
from services.access.filter.tree import Bound, Expression, Literal, Me, predicates

BRANDT, OKAFOR = UUID(int=1), UUID(int=2)
NORTH, MAPLE = UUID(int=3), UUID(int=4)
TODAY = Directory({BRANDT: "brandt", OKAFOR: "okafor"}, {NORTH: "North", MAPLE: "Maple's Street"})
TEXT = (
    "AssignedToUser in ('Brandt', '$user')  and facility = 'MAPLE''S STREET'\n"
    "or LockedBy = 'okafor' and PatientName = 'brandt'"
)


def parsed(text: str) -> Expression:
    return parse(text, is_of_group=True)


def literals(expression: Expression) -> list[Literal]:
    return [literal for predicate in predicates(expression) for literal in predicate.literals]


def refused(text: str, directory: Directory = TODAY) -> FilterError:
    with pytest.raises(FilterError) as fault:
        bind(text, parsed(text), directory)
    return fault.value


def test_a_filter_says_whom_and_what_it_names() -> None:
    found = names(parsed(TEXT))

    assert found.logins == {"brandt", "okafor"}
    assert found.facilities == {"maple's street"}
    assert found.user_ids == found.facility_ids == frozenset()


def test_names_are_bound_to_ids_without_regard_to_case() -> None:
    bound = bind(TEXT, parsed(TEXT), TODAY)

    assert literals(bound)[:4] == [Bound(BRANDT, "brandt"), Me.USER, Bound(MAPLE), Bound(OKAFOR, "okafor")]
    assert names(bound).user_ids == {BRANDT, OKAFOR}
    assert names(bound).facility_ids == {MAPLE}


def test_a_stored_filter_is_the_same_text_with_ids() -> None:
    kept = stored(TEXT, bind(TEXT, parsed(TEXT), TODAY))

    assert kept == (
        f"AssignedToUser in ('#{BRANDT}', '$user')  and facility = '#{MAPLE}'\n"
        f"or LockedBy = '#{OKAFOR}' and PatientName = 'brandt'"
    )


def test_a_stored_filter_means_what_was_saved_and_shows_todays_names() -> None:
    bound = bind(TEXT, parsed(TEXT), TODAY)
    kept = stored(TEXT, bound)
    tomorrow = Directory({BRANDT: "brandt-jones", OKAFOR: "okafor"}, {MAPLE: "O'Maple"})

    tree = parse(kept, is_of_group=True, stored=True)

    assert bind(kept, tree, TODAY) == bound
    assert Bound(BRANDT, "brandt-jones") in literals(bind(kept, tree, tomorrow))
    assert shown(kept, tree, tomorrow) == (
        "AssignedToUser in ('brandt-jones', '$user')  and facility = 'O''Maple'\n"
        "or LockedBy = 'okafor' and PatientName = 'brandt'"
    )


def test_a_name_that_another_takes_over_gives_them_nothing() -> None:
    kept = stored(
        "AssignedToUser = 'brandt'",
        bind("AssignedToUser = 'brandt'", parsed("AssignedToUser = 'brandt'"), TODAY),
    )
    swapped = Directory({BRANDT: "former", OKAFOR: "brandt"}, {})

    tree = bind(kept, parse(kept, is_of_group=True, stored=True), swapped)

    assert literals(tree) == [Bound(BRANDT, "former")]


def test_whoever_is_gone_stays_bound_and_is_shown_as_stored() -> None:
    kept = f"LockedBy = '#{BRANDT}' and Facility = '#{NORTH}'"
    tree = parse(kept, is_of_group=True, stored=True)

    assert shown(kept, tree, Directory({}, {})) == kept
    assert literals(bind(kept, tree, Directory({}, {}))) == [Bound(BRANDT, ""), Bound(NORTH)]


def test_a_name_like_an_id_is_a_name_until_it_is_stored() -> None:
    """Nobody reaches another facility by calling theirs by its id."""
    trap = Directory({}, {MAPLE: f"#{NORTH}"})
    text = f"Facility = '#{NORTH}'"

    assert literals(bind(text, parsed(text), trap)) == [Bound(MAPLE)]


def test_an_unknown_name_is_refused_where_it_stands_with_the_nearest() -> None:
    fault = refused("AssignedToUser in ('okafor', 'brand') or Facility = 'Nort'")

    assert str(fault) == "line 1, column 30: there is no user `brand`; the nearest is `brandt`"
    assert fault.repaired == "AssignedToUser in ('okafor', 'brandt') or Facility = 'North'"
    assert str(refused("Facility = 'Elsewhere'")) == "line 1, column 12: there is no facility `Elsewhere`"


@pytest.mark.proves("BEY-11", part="names in a filter")
@pytest.mark.parametrize("text", ["Facility = 'North'", "LockedBy = 'okafor'"])
def test_what_exists_and_is_not_seen_is_refused_as_what_does_not_exist(text: str) -> None:
    seen = Directory({BRANDT: "brandt"}, {MAPLE: "Maple's Street"})
    unknown = text.replace("North", "Qqqq").replace("okafor", "qqqq")

    hidden, absent = refused(text, seen), refused(unknown, seen)

    assert str(hidden).replace("North", "Qqqq").replace("okafor", "qqqq") == str(absent)
    assert hidden.repaired is absent.repaired is None


def test_ids_are_longer_than_names_and_a_full_filter_is_still_read_when_stored() -> None:
    text = " or ".join(["Facility = 'North'"] * 100)
    text += " " * (4096 - len(text))

    kept = stored(text, bind(text, parsed(text), TODAY))

    assert len(kept) > 4096
    assert len(literals(parse(kept, is_of_group=True, stored=True))) == 100


@pytest.mark.parametrize(
    ("one", "other"),
    [("North", " nORTH "), ("Straße", "STRASSE"), ("Café", "Cafe\u0301"), ("ΟΔΟΣ", "οδος")],
)
def test_a_facility_is_one_whatever_the_case_and_form_of_its_name(one: str, other: str) -> None:
    assert facility_key(one) == facility_key(other)
