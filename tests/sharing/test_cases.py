"""tests/cases/sharing.yaml, played on what sharing decides."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from kernel.errors import Invalid, ReadroomError
from services.sharing.domain import Act, Bucket
from services.sharing.otp import MAX_WRONG_CODES
from services.sharing.validity import Policy, Validity, end_for, end_of, last_day_before
from tests.clocks import NOON
from tests.sharing.builders import NORTH, a_bucket

CASES: dict[str, Any] = yaml.safe_load((Path(__file__).parents[1] / "cases/sharing.yaml").read_text())


def end(text: str) -> datetime | None:
    return None if text == "for ever" else end_of(date.fromisoformat(text.removeprefix("to ")), "UTC")


def lengthened(bucket: Bucket, text: str, now: datetime) -> Bucket:
    """As sharing does it: a next version, and the later end when access has granted it."""
    begun = replace(bucket, accepted_version=bucket.version).lengthening(now)
    return begun.lengthened(end(text), now)


ACTS: dict[str, Callable[[Bucket, str, datetime], Bucket]] = {
    "access grants it": lambda bucket, _, now: bucket.granted(),
    "five wrong codes": lambda bucket, _, now: replace(
        bucket.after(Act.BLOCK, now), wrong_codes=MAX_WRONG_CODES
    ),
    "unblocked": lambda bucket, _, now: bucket.after(Act.UNBLOCK, now),
    "revoked": lambda bucket, _, now: bucket.after(Act.REVOKE, now),
    "its end is recorded": lambda bucket, _, now: bucket.after(Act.EXPIRE, now),
    "shortened": lambda bucket, text, now: bucket.shortened(end(text), now),
    "lengthened": lengthened,
}


def marks(case: dict[str, Any]) -> list[pytest.MarkDecorator]:
    return [pytest.mark.proves(row, part="as a case that a person can check") for row in case.get("rows", ())]


@pytest.mark.parametrize(
    "case", [pytest.param(each, id=each["case"], marks=marks(each)) for each in CASES["cases"]]
)
def test_case(case: dict[str, Any]) -> None:
    bucket, now = a_bucket(ends_at=end_of(date(2026, 12, 1), "UTC")), NOON
    for step in case["steps"]:
        what, refused = step["step"], None
        if what.endswith(" days pass"):
            now += timedelta(days=int(what.split()[0]))
        else:
            word = next(each for each in ACTS if what == each or what.startswith(f"{each} "))
            try:
                bucket = ACTS[word](bucket, what.removeprefix(word).strip(), now)
            except ReadroomError as error:
                refused = type(error).__name__
        assert step.get("refused") == refused, what
        assert step["is"] == bucket.stands(now), what
        if "shown" in step:
            is_shown = bucket.change.open and not bucket.has_ended(now)
            assert step["shown"] == is_shown, what
        if "ends" in step:
            assert str(step["ends"]) == last_day(bucket.ends_at), what


def last_day(ends_at: datetime | None) -> str:
    return str(last_day_before(ends_at, "UTC")) if ends_at else "never"


@pytest.mark.proves("SHR-17", part="what may be entered")
@pytest.mark.proves("SHR-18", part="what a policy allows")
@pytest.mark.proves("A47", part="default and maximum")
@pytest.mark.parametrize("case", CASES["ends"], ids=str)
def test_until_when_a_share_may_be_given(case: dict[str, Any]) -> None:
    asked = Validity(str(case.get("till", "")), case.get("for ever", False))
    policy, bound = Policy(NORTH, **case.get("policy", {})), case.get("of a share till")

    def last() -> str:
        return last_day(end_for(asked, policy, "UTC", NOON, end_of(bound, "UTC") if bound else None))

    if field := case.get("refused"):
        with pytest.raises(Invalid) as refusal:
            last()
        assert field == refusal.value.field
    else:
        assert str(case["gives"]) == last()
