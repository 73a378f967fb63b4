"""A study that arrives in pieces, while people decide: what holds, whichever facts were heard."""

from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel.patient import Identity
from services.routing.domain import Facility, Model, Placement
from services.routing.heldparts import STUDY_CORRECT
from services.routing.usecases import Sight
from tests.routing.builders import EVERYWHERE, JANE, JOHN, Object, a_study
from tests.routing.conftest import ADMIN, Routing

PATIENTS = [JANE, JOHN, Identity(), Identity(patient_id="P-1", patient_name="DOE^JANE^MARIE")]
OBJECTS = st.tuples(
    st.sampled_from(["1.1", "1.2"]),
    st.sampled_from([None, "MS44", "ms44 ", "MS55", "MS99"]),
    st.sampled_from(PATIENTS),
)
ACTS = st.sampled_from(["distribute", "release", "discard"])
STEPS = st.lists(OBJECTS | ACTS, min_size=1, max_size=9)
RULES = st.sets(st.sampled_from(["MS44", "MS55"]))


class Life:
    """One study, the facts of it that are heard, and what people do with it."""

    def __init__(self, routing: Routing, at: Facility, endpoint: Facility) -> None:
        self.study = a_study(at.id)
        self._routing = routing
        self._endpoint = endpoint
        self._objects: list[Object] = []
        self._shown: set[int] = set()

    async def arrive(self, received: Object, *, heard: bool, settled: bool = False) -> None:
        self._objects.append(received)
        self._next(settled=settled)
        if heard:
            await self.hear()

    def settle(self) -> None:
        self._next(settled=True)

    def _next(self, *, settled: bool) -> None:
        grown = a_study(self.study.receiving_facility_id, *self._objects, settled=settled)
        self.study = replace(
            grown,
            id=self.study.id,
            study_instance_uid=self.study.study_instance_uid,
            version=self.study.version + 1,
        )
        self._routing.archive.add(self.study)

    async def hear(self) -> None:
        """The newest fact is heard; what was shown stays, and nothing that is held is shown."""
        await self._routing.place(self.study)
        if case := await self.case():
            shown = set(case.studies[0].parts or ())
            assert self._shown <= shown
            assert not shown & set(await self.held())
            self._shown = shown

    async def case(self) -> Placement | None:
        sql = "select case_id from received_studies where study_id = $1"
        rows = await self._routing.query(sql, self.study.id)
        return (
            await self._routing.placements.describe_placement(rows[0]["case_id"])
            if rows and rows[0]["case_id"]
            else None
        )

    async def held(self) -> dict[int, str]:
        """Why each part of it waits; 0: the study."""
        return {
            each.part: each.reason for each in await self._routing.held() if each.study_id == self.study.id
        }

    async def act(self, what: str) -> None:
        """A person who has looked at the newest state acts on the first thing that waits, if there is one."""
        await self.hear()
        case = await self.case()
        waits = [each for each in await self._routing.held() if each.study_id == self.study.id]
        parts = sorted((each for each in waits if each.part), key=lambda each: each.part)
        if case is None:
            return
        self._routing.permissions.seen[case.case_id] = Sight(True, case.facility_id)
        if what == "distribute" and case.undistributed:
            await self._routing.moves.distribute(ADMIN, case.case_id, self._endpoint.id)
        elif what != "distribute" and parts:
            act = (
                self._routing.held_parts.release_part
                if what == "release"
                else self._routing.held_parts.discard_part
            )
            await act(ADMIN, parts[0].id, preview=False)

    async def end(self) -> object:
        """What everybody is told of it in the end."""
        case = await self.case()
        told = case and (
            case.facility_id,
            case.reason,
            case.another_patient_held,
            case.written_differently,
            case.studies[0].parts,
            case.studies[0].all_series,
            case.studies[0].series_instance_uids,
        )
        return told, await self.held()


@pytest.mark.proves("BEY-7", part="in any order of facts, with rules, moves and releases")
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, rules=RULES, directly=st.booleans())
async def test_the_end_does_not_depend_on_the_facts_that_were_heard(
    routing: Routing, steps: list[Object | str], rules: set[str], directly: bool
) -> None:
    routing.permissions.held[STUDY_CORRECT] = EVERYWHERE
    hub = await routing.facility(f"Hub {uuid4()}", Model.HUB)
    endpoints = {
        text: await routing.facility(f"{text} {uuid4()}", Model.ENDPOINT) for text in ("MS44", "MS55")
    }
    for text in rules:
        await routing.rule(hub, text, endpoints[text])
    at, by_hand = (
        endpoints["MS44"] if directly else hub,
        await routing.facility(f"By hand {uuid4()}", Model.ENDPOINT),
    )
    hears_all, hears_little = Life(routing, at, by_hand), Life(routing, at, by_hand)
    for step in steps:
        for life in (hears_all, hears_little):
            if isinstance(step, str):
                await life.act(step)
            else:
                await life.arrive(step, heard=life is hears_all)
    for life in (hears_all, hears_little):
        life.settle()
        await life.hear()
    assert await hears_all.end() == await hears_little.end()
