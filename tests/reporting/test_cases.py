"""tests/cases/reading.yaml, played on use cases and PostgreSQL, with levels and sides as access decides."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from kernel import errors
from kernel.ids import ReportId
from kernel.reading import PrivilegeLevel, ReadType
from services.access import domain as access
from services.reporting.domain import Written
from services.reporting.sight import NO_SIGHT, Sight
from tests.access import builders as access_builders
from tests.clocks import NOON
from tests.reporting.builders import NORTH
from tests.reporting.conftest import Actor, Reporting

CASES: dict[str, Any] = yaml.safe_load((Path(__file__).parents[1] / "cases/reading.yaml").read_text())
PARTS = {"ACC-6": "its reports", "REP-2": "what is completed"}


def _marks(case: Mapping[str, Any]) -> list[pytest.MarkDecorator]:
    return [
        pytest.mark.proves(row, part=PARTS[row]) if row in PARTS else pytest.mark.proves(row)
        for row in case["rows"]
    ]


@pytest.mark.parametrize(
    "case", [pytest.param(each, id=each["case"], marks=_marks(each)) for each in CASES["cases"]]
)
async def test_case(untouched: Reporting, case: dict[str, Any]) -> None:
    reporting = untouched
    active = {ReadType(each) for each in case.get("active", ReadType)}
    async with reporting.database.transaction() as transaction:
        await transaction.save_switch(None, ReadType.PRE_READ, True)
        for read_type in ReadType:
            await transaction.save_switch(NORTH, read_type, read_type in active)
    people = {login: reporting.user(login, _sight(login, given)) for login, given in CASES["people"].items()}
    for login, given in CASES["people"].items():
        if given.get("breaks locks"):
            reporting.access.permit(login, "lock.break")
    for number, step in enumerate(case["steps"], 1):
        where = f"step {number}: {step}"
        reporting.clock.pass_by(timedelta(milliseconds=1))  # so that things have an order
        said = await _refusal(reporting, people, *next(iter(step.items())))
        assert step.get("refused") == (type(said).__name__ if said else None), f"{where}: {said}"
        assert step.get("saying", "") in (said.sentence if said else ""), where
        for login, expected in step.get("sees", {}).items():
            assert expected == await _obtained(people[login]), f"{where}, {login}"
        if "worklist" in step:
            assert step["worklist"] == await _worklist(reporting), where


def _sight(login: str, given: Mapping[str, Any], privilege: str | None = None) -> Sight:
    """What access decides for a user of this role and privilege."""
    privilege = privilege or given.get("privilege")
    if privilege in (None, "nobody"):
        return NO_SIGHT
    role = access.Role(given["role"])
    read_types = frozenset(ReadType(each) for each in given.get("may complete", ReadType))
    level = PrivilegeLevel[str(privilege).upper()]
    stored = access.Privilege(level, None, read_types if level is PrivilegeLevel.REPORT else frozenset())
    north = access_builders.a_facility(id=NORTH)
    user = access.compile_user(access_builders.a_user(role, login=login), [(north, stored)], ())
    decision = access.decide(user, NORTH, (access.Path.PRIVILEGE,), NOON)
    return Sight(
        allowed=decision.allowed,
        level=decision.level,
        reports=decision.reports,
        side=decision.side,
        read_types=decision.read_types,
        own_level=decision.own_level,
        own_read_types=decision.own_read_types,
        facility_id=NORTH,
        name=login,
    )


async def _refusal(
    reporting: Reporting, people: Mapping[str, Actor], who: str, does: str | None
) -> errors.ReadroomError | None:
    try:
        if does is None:
            reporting.clock.pass_by(timedelta(minutes=int(who.split()[0])) - timedelta(milliseconds=1))
        elif does.startswith("becomes "):
            given = CASES["people"][who]
            reporting.access.sights[who] = _sight(who, given, does.removeprefix("becomes "))
        else:
            await _act(people[who], *does.partition(" ")[::2])
    except errors.ReadroomError as error:
        return error
    return None


async def _act(person: Actor, verb: str, rest: str) -> None:
    match verb:
        case "locks":
            await person.lock()
        case "renews":
            await person.renew_lock()
        case "unlocks":
            await person.unlock()
        case "breaks":
            await person.break_lock()
        case "drafts":
            await person.save_draft(rest)
        case "completes":
            read_type, _, text = rest.partition(": ")
            await person.complete(ReadType(read_type), text)
        case "reopens":
            await person.reopen()
        case "adds":
            text, _, which = rest.rpartition(" to ")
            await person.add_addendum(await _report_id(person, which), text)
        case _:
            raise AssertionError(f"unknown verb `{verb}`")


async def _report_id(person: Actor, which: str) -> ReportId:
    """The id of the report of a type, whether this person sees it or not."""
    async with person.readings._database.transaction() as transaction:
        ids = {
            each.read_type.value: each.id for each in await transaction.reports(person.case_id, {*ReadType})
        }
    return ids.get(which, ReportId(uuid4()))


async def _obtained(person: Actor) -> list[str] | str:
    try:
        return _said(await person.sees())
    except errors.NotFound:
        return "no case"


def _said(written: Written) -> list[str]:
    reports = [
        " + ".join([f"{each.read_type}: {each.text}", *(one.text for one in each.addenda)])
        for each in written.reports
    ]
    drafts = [
        f"kept: {each.text}" if each.author_only else f"draft of {each.author.name}: {each.text}"
        for each in written.drafts
    ]
    return [*reports, *drafts, *([f"locked by {written.lock.holder.name}"] if written.lock else [])]


async def _worklist(reporting: Reporting) -> str:
    described = await reporting.described()
    return f"{described.group.state} / {described.facility.state}"
