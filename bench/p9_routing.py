"""P9: where a study received at a hub belongs, beside 10,000 endpoint rules and beside 10.

The decision goes from the study's mapping value to its destination. PostgreSQL finds the rules of the value
by an index. The value is found by walking the parts of the study, which also compares patients.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import cycle, islice
from uuid import UUID

from bench.results import Result, at_most, median, spread
from kernel.dicom import UID
from kernel.ids import FacilityId, StudyId
from kernel.patient import Identity
from services.routing.domain import FIRST_PART, Facility, Model, Part, PlacedStudy, Study, fold, place
from services.routing.parts import KnownStudy, first_value

RULES, FEW = 10_000, 10
DECISIONS = 5_000
RUNS = 21
DUE_US = 5.0
TAG = "InstitutionName"
HUB = Facility(FacilityId(UUID(int=1)), "Hub", "UTC", Model.HUB, TAG, 1)


async def measure() -> Sequence[Result]:
    return await asyncio.to_thread(_measure)


def _measure() -> Sequence[Result]:
    many, few = _rules(RULES), _rules(FEW)
    decide = {number: _deciding(rules) for number, rules in ((RULES, many), (FEW, few))}
    walk = _walking(many)
    runs: dict[str, list[float]] = {"many": [], "few": [], "walk": []}
    for _ in range(RUNS):
        runs["many"].append(_us(decide[RULES]))
        runs["few"].append(_us(decide[FEW]))
        runs["walk"].append(_us(walk))
    ours, beside_few = median(runs["many"]), median(runs["few"])
    decision = Result(
        id="P9",
        what=f"routing decision beside {RULES:,} endpoint rules",
        ours=ours,
        unit="us",
        runs=RUNS,
        spread=spread(runs["many"], runs["few"]),
        peer=beside_few,
        peer_name=f"{FEW} rules",
        ratio=beside_few / ours,
        due=at_most(DUE_US),
    )
    walked = replace(
        decision,
        what="the value that decides, of a study of one part",
        ours=median(runs["walk"]),
        spread=spread(runs["walk"]),
        peer=None,
        peer_name="",
        ratio=None,
        due=None,
    )
    return [decision, walked]


def _us(act: Callable[[int], None]) -> float:
    """Microseconds of one of many."""
    began = time.perf_counter()
    act(DECISIONS)
    return 1e6 * (time.perf_counter() - began) / DECISIONS


def _rules(number: int) -> Mapping[str, FacilityId]:
    return {fold(f"Site {n:05}"): FacilityId(UUID(int=n + 2)) for n in range(number)}


def _deciding(rules: Mapping[str, FacilityId]) -> Callable[[int], None]:
    """Each value has a rule, and no two decisions in a row have the same."""

    def decide(times: int) -> None:
        for value in islice(cycle(rules), times):
            assert place(HUB, value, rules, settled=False)

    return decide


def _walking(rules: Mapping[str, FacilityId]) -> Callable[[int], None]:
    known = KnownStudy(0, None, None, None, PlacedStudy(StudyId(UUID(int=1))))
    studies = [_study(value.upper()) for value in rules]

    def walk(times: int) -> None:
        for study in islice(studies, times):
            assert first_value(study, known, TAG)

    return walk


def _study(value: str) -> Study:
    return Study(
        StudyId(UUID(int=1)),
        1,
        UID("2.25.1"),
        HUB.id,
        settled=False,
        received_at=datetime(2026, 1, 2, tzinfo=UTC),
        mapping_tag=TAG,
        parts=(Part(FIRST_PART, 1, (value,), (1,), 1),),
        identities={1: Identity("P-1", "", "Doe^Jane", "19700131", "F")},
        series_instance_uids=(UID("2.25.2"),),
    )
