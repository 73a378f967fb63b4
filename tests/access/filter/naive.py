"""A third opinion: what a filter means, written from its description and slowly, over what was received.

It shares no code with the evaluators: of a case it reads what its owners said (`cases.py`), of a filter the
tree. True, False, or None for unknown.
"""

import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from functools import cache
from typing import Any

from services.access.filter import tree
from services.access.filter.reader import Reader
from tests.access.filter.cases import Case

Truth = bool | None


def holds(expression: tree.Expression, case: Case, reader: Reader, now: datetime) -> Truth:
    match expression:
        case tree.Constant(value):
            return value
        case tree.Not(term):
            return negation(holds(term, case, reader, now))
        case tree.And(terms):
            return conjunction([holds(term, case, reader, now) for term in terms])
        case tree.Or(terms):
            return negation(conjunction([negation(holds(term, case, reader, now)) for term in terms]))
        case tree.Predicate():
            truth = satisfies(expression, case, reader, now)
            return negation(truth) if expression.negated else truth


NEGATED: dict[Truth, Truth] = {True: False, False: True, None: None}


def negation(truth: Truth) -> Truth:
    return NEGATED[truth]


def conjunction(truths: list[Truth]) -> Truth:
    return False if False in truths else None if None in truths else True


def disjunction(truths: list[Truth]) -> Truth:
    return negation(conjunction([negation(truth) for truth in truths]))


def satisfies(asked: tree.Predicate, case: Case, reader: Reader, now: datetime) -> Truth:
    keyword, operator, function = asked.field.keyword, asked.operator, asked.function
    if keyword == "AssignedToUser" and not reader.is_of_group:
        return None
    if operator == "is null":
        missing = not values_of(keyword, case, reader, now)
        is_known = case["described"] or keyword in TOLD_AT_ONCE
        return True if missing and is_known else None if missing else False
    if keyword == "PatientAge":
        return age_satisfies(asked, ages_of(case))
    if function == "age":
        lengths = [each.length for each in asked.literals if isinstance(each, tree.Duration)]
        since = [now - begins(value, reader) for value in values_of(keyword, case, reader, now)]
        return any_of([each >= timedelta(0) and compare(operator, each, lengths) for each in since])
    if keyword in TEXTS or keyword in NAMES:
        return any_of([text_satisfies(asked, each, case) for each in compared_texts(asked, case)])
    literals = [literal_value(each, asked, reader) for each in asked.literals]
    return any_of([compare(operator, each, literals) for each in values_of(keyword, case, reader, now)])


def any_of(truths: list[Truth]) -> Truth:
    return disjunction(truths) if truths else None


def compare(operator: str, value: Any, literals: list[Any]) -> bool:
    first, last = literals[0], literals[-1]
    if operator in ("=", "in"):
        return any(value == each for each in literals)
    below, above = bool(value < first), bool(value > last)
    within = not below and not above
    return {"<": below, "<=": not above, ">": above, ">=": not below, "between": within}[operator]


TOLD_AT_ONCE = {
    "Facility", "Priority", "StudyStatusID", "ReportedTypes", "LockedBy", "AssignedToUser",
}  # fmt: skip


# Texts

TEXTS = {
    "PatientID", "AccessionNumber", "StudyID", "PatientSex", "PatientInstitutionResidence", "InstitutionName",
    "StudyDescription", "BodyPartsInStudy", "StudyInstanceUID", "ModalitiesInStudy", "CallingAETitle",
}  # fmt: skip
RECEIVED_AS = {"BodyPartsInStudy": "BodyPartExamined", "ModalitiesInStudy": "Modality"}
NAMES = {
    "PatientName": ["PatientName"],
    "ReferringPhysicianName": ["ReferringPhysicianName"],
    "PhysiciansOfRecord": ["PhysiciansOfRecord"],
    "PhysicianNames": ["ReferringPhysicianName", "RequestingPhysician"],
}


@cache
def without_padding(text: str, padding: str) -> str:
    while text and text[-1] in padding:
        text = text[:-1]
    return text


def received_texts(keyword: str, case: Case) -> list[str]:
    found: list[str] = []
    for each in NAMES.get(keyword, [RECEIVED_AS.get(keyword, keyword)]):
        found += [case[each]] if isinstance(case[each], str) else case[each]
    return found


def texts_of(keyword: str, case: Case) -> list[str]:
    """A text or each member of a set; of names each component group. What is empty is absent."""
    received = received_texts(keyword, case)
    if keyword in NAMES:
        received = [without_padding(group, " \0^") for name in received for group in name.split("=")]
    return [text for text in (without_padding(each, " \0") for each in received) if text]


def compared_texts(asked: tree.Predicate, case: Case) -> list[str]:
    """Of a name with a literal that has `=` in it, each name as a whole."""
    keyword = asked.field.keyword
    if keyword not in NAMES or not any(
        "=" in each for literal in asked.literals for each in written(literal)
    ):
        return texts_of(keyword, case)
    says_something = [name for name in received_texts(keyword, case) if without_padding(name, " \0^=")]
    return [without_padding(name, " \0^") for name in says_something]


def written(literal: tree.Literal) -> list[str]:
    if isinstance(literal, tree.Pattern):
        return [part for part in literal.parts if isinstance(part, str)]
    assert isinstance(literal, tree.Text)
    return [literal.text]


@cache
def plain(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in decomposed if unicodedata.category(c)[0] != "M").casefold()


def same(text: str) -> str:
    return text


ON_VALUE: dict[str, Callable[[str], str]] = {"": same, "upper": str.upper, "lower": str.lower, "plain": plain}


def text_satisfies(asked: tree.Predicate, text: str, case: Case) -> Truth:
    operator, function = asked.operator, asked.function
    folds = operator in ("contains", "startswith")
    if not case["described"] and not text.isascii() and (function or folds):
        return None  # the index does not know the forms of it yet
    on_literal = plain if function == "plain" else str.casefold if folds else same
    value = ON_VALUE[function](text)
    if folds and function != "plain":
        value = value.casefold()
    if operator == "like":
        (pattern,) = asked.literals
        assert isinstance(pattern, tree.Pattern)
        wildcards = {"%": ".*", "_": "."}
        expression = "".join(
            re.escape(on_literal(part)) if isinstance(part, str) else wildcards[part.value]
            for part in pattern.parts
        )
        return re.fullmatch(expression, value, re.DOTALL) is not None
    literals = [on_literal(each) for literal in asked.literals for each in written(literal)]
    if operator == "contains":
        return literals[0] in value
    if operator == "startswith":
        return value[: len(literals[0])] == literals[0]
    return compare(operator, value, literals)


# Values that are no texts


def values_of(keyword: str, case: Case, reader: Reader, now: datetime) -> list[Any]:
    """Of a set each member; nothing if it is absent."""
    if keyword in TEXTS or keyword in NAMES:
        return texts_of(keyword, case)
    if keyword == "PatientAge":
        return [each for each in ages_of(case).values() if each is not None]
    found = VALUES[keyword](case, reader, now)
    return found if isinstance(found, list) else [] if found is None else [found]


def described(find: Callable[[Case], Any]) -> Callable[[Case, Reader, datetime], Any]:
    return lambda case, reader, now: find(case) if case["described"] else None


@cache
def day_of(text: str) -> date | None:
    text = without_padding(text, " \0")
    if len(text) != 8 or not all(c in "0123456789" for c in text) or not 1582 < int(text[:4]) < 9999:
        return None
    try:
        return date.fromisoformat(f"{text[:4]}-{text[4:6]}-{text[6:]}")
    except ValueError:
        return None


@cache
def time_of(text: str) -> time | None:
    whole, point, fraction = without_padding(text, " \0").partition(".")
    parts = whole.split(":") if ":" in whole else [whole[n : n + 2] for n in range(0, len(whole), 2)]
    well_formed = 1 <= len(parts) <= 3 and all(re.fullmatch("[0-9]{2}", part) for part in parts)
    if point:
        well_formed = well_formed and len(parts) == 3 and re.fullmatch("[0-9]{1,6}", fraction) is not None
    if not well_formed:
        return None
    numbers = [int(part) for part in parts] + [0, 0]
    if len(parts) == 3 and numbers[2] == 60:
        numbers[2], fraction = 59, "999999"
    try:
        return time(numbers[0], numbers[1], numbers[2], int(fraction.ljust(6, "0")))
    except ValueError:
        return None


def study_at(case: Case) -> datetime | None:
    day, at = day_of(case["StudyDate"]), time_of(case["StudyTime"])
    if day is None or at is None:
        return None
    offset = re.fullmatch(r"([+-])(\d\d)(\d\d)", without_padding(case["TimezoneOffsetFromUTC"], " "))
    zone = case["zone of facility"]
    if offset and offset[0] != "-0000":
        minutes = int(offset[2]) * 60 + int(offset[3])
        zone = timezone(timedelta(minutes=-minutes if offset[1] == "-" else minutes))
    return datetime.combine(day, at, zone)


def local_of(case: Case) -> datetime | None:
    day, at = day_of(case["StudyDate"]), time_of(case["StudyTime"])
    return datetime.combine(day, at) if day and at is not None else None


def holds_lock(case: Case, reader: Reader, now: datetime) -> bool:
    return case["lock"] is not None and case["lock"][0] == reader.login and now < case["lock"][1]


def status_of(case: Case, reader: Reader, now: datetime) -> Any:
    if reader.as_of_lock and holds_lock(case, reader, now):
        return case["status at lock"]
    return case["status"]["group" if reader.is_of_group else "facility"]


def reported_of(case: Case, reader: Reader, now: datetime) -> Any:
    if reader.as_of_lock and holds_lock(case, reader, now):
        return case["reported at lock"]
    return case["reported"]["group" if reader.is_of_group else "facility"]


def locker_of(case: Case, reader: Reader, now: datetime) -> Any:
    if case["lock"] is None or case["lock"][1] <= now:
        return None
    if reader.as_of_lock and holds_lock(case, reader, now):
        return None  # nobody held it before they took it
    return case["lock"][0]


VALUES: dict[str, Callable[[Case, Reader, datetime], Any]] = {
    "StudyDate": described(lambda case: day_of(case["StudyDate"])),
    "StudyTime": described(lambda case: time_of(case["StudyTime"])),
    "StudyDateTime": described(local_of),
    "NormalizedStudyDateTime": described(study_at),
    "PatientBirthDate": described(lambda case: day_of(case["PatientBirthDate"])),
    "CreatedTime": lambda case, reader, now: case["created"],
    "ReceivedTime": lambda case, reader, now: case["received"],
    "NumberOfStudyRelatedInstances": lambda case, reader, now: case["instances"],
    "NumberOfStudyRelatedSeries": lambda case, reader, now: case["series"],
    "Facility": lambda case, reader, now: case["facility"],
    "StudyStatusID": status_of,
    "ReportedTypes": reported_of,
    "Priority": lambda case, reader, now: case["priority"],
    "LockedBy": locker_of,
    "AssignedToUser": lambda case, reader, now: case["assignee"],
}


def literal_value(literal: tree.Literal, asked: tree.Predicate, reader: Reader) -> Any:
    match literal:
        case tree.Number(value) | tree.Day(value) | tree.TimeOfDay(value) | tree.Choice(value):
            return value
        case tree.LocalTime(local):
            is_local = asked.field.keyword == "StudyDateTime"
            return local if is_local else local.replace(tzinfo=reader.zone).astimezone(UTC)
        case tree.Me():
            return reader.login if asked.field.keyword == "LockedBy" else reader.user_id
        case tree.Bound(user_or_facility, login):
            return login if asked.field.keyword == "LockedBy" else user_or_facility
    raise AssertionError(literal)


def begins(value: date | datetime, reader: Reader) -> datetime:
    """A date begins at 00:00 in the user's zone."""
    if not isinstance(value, datetime):
        value = datetime.combine(value, time())
    return (value if value.tzinfo else value.replace(tzinfo=reader.zone)).astimezone(UTC)


# Ages


def ages_of(case: Case) -> dict[str, int | None]:
    unknown: dict[str, int | None] = dict.fromkeys("YMWD")
    if not case["described"]:
        return unknown
    born, studied = day_of(case["PatientBirthDate"]), day_of(case["StudyDate"])
    if born and studied:
        if studied < born:
            return unknown
        days = (studied - born).days
        months = completed_months(born, studied)
        return {"Y": months // 12, "M": months, "W": days // 7, "D": days}
    element = re.fullmatch(r"([0-9]{3})([YMWD])", without_padding(case["PatientAge"], " \0"))
    if not element:
        return unknown
    count = int(element[1])
    if element[2] == "Y":
        return unknown | {"Y": count}
    if element[2] == "M":
        return unknown | {"Y": count // 12, "M": count}
    days = 7 * count if element[2] == "W" else count
    months = max(n for n in range(1200) if n * 30.436875 <= days)
    return {"Y": months // 12, "M": months, "W": days // 7, "D": days}


@cache
def completed_months(born: date, studied: date) -> int:
    """Day after day, a month is complete on the day of the month of the birth, or on the first after it."""
    months = 0
    while True:
        year, month = divmod(born.month - 1 + months + 1, 12)
        year, month = born.year + year, month + 1
        try:
            completed = date(year, month, born.day)
        except ValueError:
            completed = date(year, month + 1, 1)
        if completed > studied:
            return months
        months += 1


def age_satisfies(asked: tree.Predicate, ages: dict[str, int | None]) -> Truth:
    """The unit of each literal picks the number."""

    def compared(operator: str, literal: tree.Literal) -> Truth:
        assert isinstance(literal, tree.Age)
        age = ages[literal.unit.value]
        return None if age is None else compare(operator, age, [literal.count])

    if asked.operator == "in":
        return disjunction([compared("=", each) for each in asked.literals])
    if asked.operator == "between":
        least, most = asked.literals
        return conjunction([compared(">=", least), compared("<=", most)])
    return compared(asked.operator, asked.literals[0])
