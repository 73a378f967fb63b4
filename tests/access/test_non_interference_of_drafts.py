"""What somebody of a facility obtains does not depend on drafts and assignees (A59, BEY-11).

Two worlds as in `test_non_interference.py`: in one a case is assigned, dictated, transcribed and pre-read. Of
what the group reads nobody else has a list, a filter, a count, an order or a place in it.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta

import pytest

from kernel.errors import Invalid
from kernel.reading import DraftState, PrivilegeLevel, ReadType
from local.pki import Pki
from services.access.domain import Role, User
from services.access.reading import NOT_READ, Projection, Reading, Signed
from tests.access.builders import a_reading
from tests.access.test_non_interference import (
    CASE_ID,
    COORDINATOR,
    FACILITY,
    GUEST,
    LOCK,
    MANAGER,
    OTHER_READER,
    OUTSIDERS,
    READER,
    USERS,
    a_world,
    grown,
    pre_read,
    questions_at,
)
from tests.clocks import NOON
from wire.access.v1 import access_pb2 as pb

# What each world hears at each step: with drafts and assignees, and without. A user is assigned the case.
DICTATED, TRANSCRIBED = (Projection(draft=each) for each in (DraftState.DICTATED, DraftState.TRANSCRIBED))
PRE_READ_BY_THE_OTHER = replace(
    a_reading(CASE_ID, pre_read(9, 1), NOT_READ, version=5),
    signed=(Signed(ReadType.PRE_READ, OTHER_READER.login, NOON + timedelta(hours=9)),),
)
ASSIGNED_LIFE: dict[str, tuple[Reading | User, Reading | None]] = {
    "it is assigned": (READER, None),
    "its reader locks it": (a_reading(CASE_ID, Projection(lock=LOCK), version=1),) * 2,
    "they dictate": (
        a_reading(CASE_ID, replace(DICTATED, lock=LOCK), Projection(lock=LOCK), version=2),
        None,
    ),
    "they give the lock back": (
        a_reading(CASE_ID, DICTATED, NOT_READ, version=3),
        a_reading(CASE_ID, NOT_READ, version=2),
    ),
    "it is transcribed": (a_reading(CASE_ID, TRANSCRIBED, NOT_READ, version=4), None),
    "it is assigned to another": (OTHER_READER, None),
    "who pre-reads it: it is for the next, and images come": (PRE_READ_BY_THE_OTHER, None),
}
LAST = list(ASSIGNED_LIFE)[-1]
TECHNOLOGIST = next(each for each in OUTSIDERS if each.role is Role.FACILITY_USER and each.home_facility_id)


@pytest.mark.proves("A59")
@pytest.mark.proves("BEY-11", part="drafts and assignees")
async def test_nothing_of_drafts_and_assignees_comes_to_anybody_who_is_not_of_the_group(
    fresh_database: Callable[[str], str], pki: Pki
) -> None:
    """An assignment moves the revision, of which a token tells nothing: it has a nonce, but for here."""
    async with AsyncExitStack() as resources:
        theirs, without = [await a_world(fresh_database("access"), pki, resources) for _ in range(2)]
        for world in (theirs, without):
            for user in (READER, OTHER_READER):
                await world.access.give(user, FACILITY, PrivilegeLevel.REPORT)
        for number, (step, (there, here)) in enumerate(ASSIGNED_LIFE.items(), start=1):
            if isinstance(there, User):
                await theirs.access.assignments.assign(
                    COORDINATOR.login, "", CASE_ID, there.login, force=False
                )
            await theirs.hear(None if isinstance(there, User) else there)
            await without.hear(here)
            if step == LAST:  # for the group they came after the pre-read, for nobody else after a report
                for world in (theirs, without):
                    await world.hear(grown(3))
            for user in OUTSIDERS:
                asked = list(questions_at(number, step == LAST, user, [GUEST, USERS[-1]]))
                answers = await asyncio.gather(
                    *(world.answers(user, asked, revisions=False) for world in (theirs, without))
                )
                assert answers[0] == answers[1], (step, user.role)
            services = [await each.answers_to_services(revisions=False) for each in (theirs, without)]
            assert services[0] == services[1], step
            lists = [await world.list_of(COORDINATOR) for world in (theirs, without)]
            assert lists[0] != lists[1], f"{step}: the group is shown it"

        for expression in ("AssignedToUser is null", "ReportedTypes = 'PRE_READ'"):
            theirs.act(MANAGER)
            saved = pb.Filter(user_id=str(TECHNOLOGIST.id), expression=expression)
            with pytest.raises(Invalid):
                await theirs.stubs["bff"].SaveFilter(pb.SaveFilterRequest(filter=saved))
        [row] = await theirs.access.query("select assignee_id from cases where case_id = $1", CASE_ID)
        assert row["assignee_id"] is None
