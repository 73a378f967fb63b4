"""What literals are compared as, by both evaluators alike."""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any

from services.access.filter.fields import Kind, Operator
from services.access.filter.reader import Reader
from services.access.filter.tree import (
    AgeUnit,
    Bound,
    Choice,
    Day,
    Duration,
    Literal,
    LocalTime,
    Me,
    Name,
    Number,
    Predicate,
    TimeOfDay,
)

AGE_COLUMN: Mapping[AgeUnit, str] = {
    AgeUnit.YEARS: "age_years",
    AgeUnit.MONTHS: "age_months",
    AgeUnit.WEEKS: "age_weeks",
    AgeUnit.DAYS: "age_days",
}
"""The number that the unit of a literal picks (A8)."""

_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def require_bound(predicate: Predicate) -> None:
    """Raises ValueError if the predicate names somebody by a name, or by an id where the login is needed."""
    for each in predicate.literals:
        if isinstance(each, Name) or (isinstance(each, Bound) and predicate.field.reads and not each.login):
            raise ValueError(f"`{predicate.field.keyword}` is compared to a name that is not bound")


def chosen(predicate: Predicate, reader: Reader) -> list[Any]:
    """The choices, users or facilities that a predicate names, as the index stores them."""
    return [_stored(predicate, each, reader) for each in predicate.literals]


def _stored(predicate: Predicate, literal: Literal, reader: Reader) -> Any:
    by_login = predicate.field.reads
    match literal:
        case Choice(choice):
            return (predicate.field.choices or {})[choice]
        case Me.USER:
            return reader.login if by_login else reader.user_id
        case Bound(found, login):
            return login if by_login else found
    raise ValueError(f"`{predicate.field.keyword}` is not compared to {literal}")


def comparables(predicate: Predicate, reader: Reader) -> list[Any]:
    """The numbers and times that a predicate names; instants in UTC."""
    found = [_comparable(each) for each in predicate.literals]
    return [instant(each, reader.zone) for each in found] if predicate.field.kind is Kind.INSTANT else found


def _comparable(literal: Literal) -> Any:
    match literal:
        case Number(comparable) | Day(comparable) | TimeOfDay(comparable) | LocalTime(comparable):
            return comparable
    raise ValueError(f"{literal} is neither a number nor a time")


def instant(local: datetime, zone: tzinfo) -> datetime:
    """When the clock on the wall shows it in the zone, in UTC."""
    try:
        return local.replace(tzinfo=zone).astimezone(UTC)
    except OverflowError:
        return _FIRST if local.year == 1 else _LAST


def since(predicate: Predicate, now: datetime, zone: tzinfo) -> tuple[tuple[Operator, Any], ...]:
    """What a value must satisfy so that the time since it satisfies an `age()` predicate.

    A time in the future satisfies none. A date begins at 00:00; a time without a zone is what the clock on
    the wall showed in the zone.

    Returns:
        operators and bounds of the type of the field, all of which must hold.
    """
    bound = BOUND[predicate.field.kind]
    return tuple((how, bound(how, before(now, length), zone)) for how, length in within(predicate))


def within(predicate: Predicate) -> list[tuple[Operator, timedelta]]:
    """How the instant is compared with that so long `before`; how often, the operator alone says."""
    lengths = [each.length for each in predicate.literals if isinstance(each, Duration)]
    compared = [(how, lengths[position]) for how, position in _WITHIN[predicate.operator]]
    in_past = [(Operator.LE, timedelta(0))] if predicate.operator in (Operator.LT, Operator.LE) else []
    return compared + in_past


# The older, the earlier: how the instant is compared with that of which literal.
_WITHIN: Mapping[Operator, tuple[tuple[Operator, int], ...]] = {
    Operator.LT: ((Operator.GT, 0),),
    Operator.LE: ((Operator.GE, 0),),
    Operator.GT: ((Operator.LT, 0),),
    Operator.GE: ((Operator.LE, 0),),
    Operator.BETWEEN: ((Operator.LE, 0), (Operator.GE, 1)),
}


def before(now: datetime, length: timedelta) -> datetime:
    """So long before, or the first instant that there is."""
    try:
        return now - length
    except OverflowError:
        return _FIRST


def _instant(how: Operator, at: datetime, zone: tzinfo) -> datetime:
    return at


def _local(how: Operator, at: datetime, zone: tzinfo) -> datetime:
    try:
        return at.astimezone(zone).replace(tzinfo=None)
    except OverflowError:
        return datetime.min if at.year == 1 else datetime.max  # noqa: DTZ901  without a zone


def _day(how: Operator, at: datetime, zone: tzinfo) -> date:
    """The date that begins then, or begins next."""
    local = _local(how, at, zone)
    next_day = how in (Operator.LT, Operator.GE) and local.time() > time.min and local.date() < date.max
    return local.date() + timedelta(days=1) if next_day else local.date()


BOUND: Mapping[Kind, Callable[[Operator, datetime, tzinfo], date]] = {
    Kind.INSTANT: _instant,
    Kind.LOCAL: _local,
    Kind.DATE: _day,
}
"""The bound for values of a kind that stands for an instant, under an operator."""
