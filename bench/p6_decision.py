"""P6: may this user see this case, by a privilege at its facility and the filter of their account?

The peers answer the same question for the same cases, as their documents advise for speed: Cedar (cedarpy)
with policies and the user parsed once, Casbin (pycasbin) with one enforcer. They have the case as a value in
memory; we have the columns that the filter reads, as the database gives them.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle, islice
from random import Random
from types import SimpleNamespace
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import casbin
import cedarpy

from bench.results import Result, at_most, median, spread
from kernel.ids import FacilityId, UserId
from kernel.reading import PrivilegeLevel
from services.access.domain import CompiledUser, EffectivePrivilege, Role
from services.access.filter import evaluate
from services.access.filter.grammar import parse
from services.access.filter.reader import Reader

FILTER = "ReferringPhysicianName like '%BRONSTEIN%' and PatientAge < '18Y' and Modality = 'CT'"
CEDAR = """
permit (principal, action == Action::"view", resource)
when {
    principal.facilities.contains(context.facility)
    && context.referring_physician like "*BRONSTEIN*"
    && context has age_years && context.age_years < 18
    && context.modalities.contains("CT")
};
"""
CASBIN = """
[request_definition]
r = sub, obj, act
[policy_definition]
p = act
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.act == p.act && r.obj.facility in r.sub.facilities && 'BRONSTEIN' in r.obj.referring_physician \
&& r.obj.age_years < 18 && 'CT' in r.obj.modalities
"""

FACILITIES = 50
CASES = 200
DECISIONS, DECISIONS_OF_PEERS = 20_000, 400
RUNS = 15
DUE_US = 2.0
NOW = datetime(2026, 1, 2, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Case:
    """What is asked about."""

    facility: FacilityId
    referring_physician: str
    age_years: int
    modalities: list[str]

    def columns(self) -> dict[str, Any]:
        """As the database gives them."""
        return {
            "referring_physician_name": self.referring_physician,
            "age_years": self.age_years,
            "modalities_in_study": self.modalities,
        }


async def measure() -> Sequence[Result]:
    return await asyncio.to_thread(_measure)


def _measure() -> Sequence[Result]:
    cases = list(_cases(Random(6)))
    ours, cedar, casbin_ = _ours(cases), _cedar(cases), _casbin(cases)
    answers = [decide() for decide in islice(ours, CASES)]
    for peer in (cedar, casbin_):
        if answers != [decide() for decide in islice(peer, CASES)]:
            raise RuntimeError("the peers were asked another question")
    runs: dict[str, list[float]] = {"ours": [], "Cedar": [], "Casbin": []}
    for _ in range(RUNS):
        runs["ours"].append(_us(ours, DECISIONS))
        runs["Cedar"].append(_us(cedar, DECISIONS_OF_PEERS))
        runs["Casbin"].append(_us(casbin_, DECISIONS_OF_PEERS))
    figure = median(runs["ours"])
    return [
        Result(
            id="P6",
            what=f"decision by privilege at {FACILITIES} facilities and filter of 3 clauses, against {peer}",
            ours=figure,
            unit="us",
            runs=RUNS,
            spread=spread(runs["ours"], runs[peer]),
            peer=median(runs[peer]),
            peer_name=peer,
            ratio=median(runs[peer]) / figure,
            due=at_most(DUE_US),
        )
        for peer in ("Cedar", "Casbin")
    ]


def _us(decisions: Iterator[Callable[[], bool]], times: int) -> float:
    """Microseconds of processor time of one of many; a machine that is busy otherwise changes little."""
    asked = list(islice(decisions, times))
    began = time.thread_time()
    for decide in asked:
        decide()
    return 1e6 * (time.thread_time() - began) / times


def _cases(random: Random) -> Iterator[Case]:
    """The user sees about half of them; the others fail one of the conditions or several."""

    def mostly(fits: Sequence[Any], fails: Sequence[Any]) -> Any:
        return random.choice(fits if random.random() < 0.85 else fails)

    for _ in range(CASES):
        yield Case(
            FacilityId(UUID(int=mostly(range(FACILITIES), range(FACILITIES, 2 * FACILITIES)))),
            mostly(("BRONSTEIN^JOHN", "DR BRONSTEIN^J^^^MD"), ("ROE^JANE", "DOE^JOHN^A")),
            mostly(range(18), range(18, 90)),
            mostly((["CT"], ["CT", "PT"]), (["MR"], ["US", "SR"])),
        )


def _facilities() -> list[FacilityId]:
    return [FacilityId(UUID(int=n)) for n in range(FACILITIES)]


def _ours(cases: Sequence[Case]) -> Iterator[Callable[[], bool]]:
    level = EffectivePrivilege(PrivilegeLevel.VIEW, PrivilegeLevel.VIEW, None, frozenset())
    user = CompiledUser(
        id=UserId(UUID(int=1)),
        login="bronstein",
        name="John Bronstein",
        active=True,
        version=1,
        role=Role.REFERRING_PHYSICIAN,
        effective=dict.fromkeys(_facilities(), level),
        permissions=frozenset(),
        facilities=tuple(_facilities()),
        grantee=None,
        folders=(),
    )
    reader = Reader(user.id, user.login, is_of_group=False, zone=ZoneInfo("UTC"), as_of_lock=True)
    compiled = evaluate.compile(parse(FILTER, is_of_group=False), reader)

    def asked(case: Case) -> Callable[[], bool]:
        facility_id = case.facility
        values = tuple(case.columns()[column] for column in compiled.columns)

        def decide() -> bool:
            return (
                user.level_at(facility_id, NOW) >= PrivilegeLevel.VIEW and compiled.holds(values, NOW) is True
            )

        return decide

    return cycle([asked(case) for case in cases])


def _cedar(cases: Sequence[Case]) -> Iterator[Callable[[], bool]]:
    policies = cedarpy.PolicySet.from_str(CEDAR)
    facilities = [str(each) for each in _facilities()]
    user = {"uid": {"type": "User", "id": "bronstein"}, "attrs": {"facilities": facilities}, "parents": []}
    entities = cedarpy.Entities.from_json_str(json.dumps([user]))

    def asked(case: Case) -> Callable[[], bool]:
        request = {
            "principal": {"type": "User", "id": "bronstein"},
            "action": {"type": "Action", "id": "view"},
            "resource": {"type": "Case", "id": "1"},
            "context": {
                "facility": str(case.facility),
                "referring_physician": case.referring_physician,
                "age_years": case.age_years,
                "modalities": case.modalities,
            },
        }
        return lambda: bool(cedarpy.is_authorized(request, policies, entities).allowed)

    return cycle([asked(case) for case in cases])


def _casbin(cases: Sequence[Case]) -> Iterator[Callable[[], bool]]:
    model = casbin.Model()
    model.load_model_from_text(CASBIN)
    enforcer = casbin.Enforcer(model)
    enforcer.add_policy("view")
    user = SimpleNamespace(facilities=frozenset(_facilities()))

    def asked(case: Case) -> Callable[[], bool]:
        return lambda: bool(enforcer.enforce(user, case, "view"))

    return cycle([asked(case) for case in cases])
