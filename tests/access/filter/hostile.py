"""What must hold of any text that anybody sends as a filter (SEC-13)."""

import re
from datetime import timedelta
from random import Random
from uuid import NAMESPACE_OID, uuid5

from kernel.ids import UserId
from services.access.derived import DERIVED
from services.access.filter import evaluate, form, trace
from services.access.filter.faults import FilterError
from services.access.filter.grammar import parse
from services.access.filter.lint import Use, lint
from services.access.filter.names import Directory, bind, facility_key, names, shown, stored
from services.access.filter.prefilter import prefilter
from services.access.filter.reader import Reader
from services.access.filter.reading import read
from services.access.filter.sql import Condition, to_sql
from services.access.filter.tree import Expression
from services.access.filter.writing import write
from tests.access.filter import naive
from tests.access.filter.cases import BERLIN, NOW, USERS, draw_case, row

_CASES = [draw_case(Random(seed)) for seed in range(3)]
_ROWS = [row({**case, "described": True}) for case in _CASES]


def check(data: bytes) -> None:
    """Raises what should not come out. The first byte is the side of the reader, the rest the filter."""
    is_of_group, text = bool(data[:1] and data[0] % 2), data[1:].decode("utf-8", "replace")
    try:
        tree = parse(text, is_of_group=is_of_group)
    except FilterError as fault:
        _refused(fault, is_of_group=is_of_group)
        return
    assert tree == parse(write(tree), is_of_group=is_of_group), "what is printed is read as the same filter"
    bound = _bound(text, tree, is_of_group=is_of_group)
    assert read(bound)
    lint(bound, Use(is_of_group=is_of_group, is_access_filter=True, filled={}))
    form.offered(bound)
    for as_of_lock in (True, False):
        reader = Reader(
            UserId(USERS["user1"]), "user1", is_of_group=is_of_group, zone=BERLIN, as_of_lock=as_of_lock
        )
        _evaluate(bound, reader)


def _refused(fault: FilterError, *, is_of_group: bool) -> None:
    assert fault.sentence
    assert "^" in fault.picture
    if fault.repaired is not None:
        parse(fault.repaired, is_of_group=is_of_group)


def _bound(text: str, tree: Expression, *, is_of_group: bool) -> Expression:
    """With an id for whoever and whatever it names, there and back through its stored text."""
    named = names(tree)
    directory = Directory(
        {USERS.get(login, uuid5(NAMESPACE_OID, login)): login for login in named.logins},
        {uuid5(NAMESPACE_OID, facility_key(name)): name for name in named.facilities},
    )
    bound = bind(text, tree, directory)
    kept = stored(text, bound)
    assert bound == bind(kept, parse(kept, is_of_group=is_of_group, stored=True), directory)
    parse(shown(kept, parse(kept, is_of_group=is_of_group, stored=True), directory), is_of_group=is_of_group)
    return bound


def _evaluate(bound: Expression, reader: Reader) -> None:
    compiled = evaluate.compile(bound, reader)
    columns = trace.columns(bound, reader)
    for case, stored_row in zip(_CASES, _ROWS, strict=True):
        values = {"study_at": None, "study_day": None, **stored_row}
        holds = compiled.holds([values.get(column) for column in compiled.columns], NOW)
        assert holds is naive.holds(bound, {**case, "described": True}, reader, NOW)
        clauses = trace.trace(bound, reader, {column: values.get(column) for column in columns}, NOW, {})
        assert holds is clauses[0].truth
    condition = to_sql(bound, reader, NOW, alias="c", first_parameter=3)
    later = to_sql(bound, reader, NOW + timedelta(days=1), alias="c", first_parameter=3)
    assert condition.text == later.text
    assert _numbers(condition) == set(range(3, 3 + len(condition.parameters)))
    if found := prefilter(bound, alias="c", first_parameter=1, derived=DERIVED):
        assert _numbers(found) == set(range(1, 1 + len(found.parameters)))


def _numbers(condition: Condition) -> set[int]:
    return {int(number) for number in re.findall(r"\$(\d+)", condition.text)}
