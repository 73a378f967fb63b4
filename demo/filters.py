"""Step 8: filters narrow what privileges show; why somebody sees a case or does not; who reads which case."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

from demo.cast import ADMIN, CENTRAL, ENDPOINT, HUB, MODALITY, NORTHGATE, STANDARD, TIME_ZONE, Person, Site
from demo.dicom_files import SyntheticCT, written_as
from demo.modality import PynetdicomModality
from demo.reading import refusal
from demo.setting import create_facility, create_user
from demo.world import World
from kernel.errors import Invalid
from readroom import names
from readroom.explain import lines
from readroom.filters import fault_lines, lint_lines
from readroom.words import LEVELS
from wire.access.v1.access_pb2 import (
    LEVEL_DRAFT,
    LEVEL_REPORT,
    LEVEL_VIEW,
    PATH_PRIVILEGE,
    ROLE_RADIOLOGIST,
    ROLE_RADIOLOGY_SUPPORT,
    ROLE_REFERRING_PHYSICIAN,
    AssignRequest,
    Case,
    DescribeFilterRequest,
    ExplainedPath,
    ExplainListRequest,
    ExplainRequest,
    Explanation,
    Filter,
    FilterForm,
    Level,
    LintRequest,
    SaveFilterRequest,
)
from wire.routing.v1.routing_pb2 import TRANSMISSION_MODEL_ENDPOINT, EndpointRule, Facility, SaveRuleRequest

ELM, ELM_TEXT = "Elm Street 9", "ES9"

SOMMER = Person("sommer", "Dr Jon Sommer", ROLE_RADIOLOGIST, {ENDPOINT: LEVEL_VIEW})
KELLER = Person("keller", "Dr Mina Keller", ROLE_REFERRING_PHYSICIAN, {ENDPOINT: LEVEL_VIEW, ELM: LEVEL_VIEW})
ROUX = Person(
    "roux",
    "Dr Lea Roux",
    ROLE_RADIOLOGIST,
    dict.fromkeys((ENDPOINT, ELM, STANDARD), LEVEL_REPORT),
)
MORENO = Person(
    "moreno", "Pia Moreno", ROLE_RADIOLOGY_SUPPORT, dict.fromkeys((ENDPOINT, ELM, STANDARD), LEVEL_VIEW)
)

CHILDREN = "PatientAge < '18Y'"
CHILDREN_AND_18 = "PatientAge <= '18Y'"
CURLY = "PatientAge < ‘18Y’"
ASSIGNED = "AssignedToUser = '$user'"


@dataclass(frozen=True, slots=True)
class Sent:
    """A small study, and whose it is when it has come."""

    site: Site
    facility: str
    study: SyntheticCT
    elements: dict[str, str] = field(default_factory=dict)

    @property
    def uid(self) -> str:
        return str(self.study.study_instance_uid)


def _sent(name: str, site: Site, facility: str, institution: str, birth_date: str, referring: str) -> Sent:
    study = SyntheticCT(
        slices=1, size=64, name=name, patient_name=name, patient_id=name, institution_name=institution
    )
    return Sent(site, facility, study, {"PatientBirthDate": birth_date, "ReferringPhysicianName": referring})


# At their study on 2 March 2026 the first is 18 years old and the second 17.
OF_18 = _sent("Adler^Kim", CENTRAL, ENDPOINT, "MS44", "20080301", "Keller^Mina^^Dr")
OF_17 = _sent("Bauer^Noa", CENTRAL, ENDPOINT, "MS44", "20080303", "KELLER^MINA")
AT_ELM = _sent("Cohen^Uri", CENTRAL, ELM, ELM_TEXT, "19600101", "Keller^Mina")
OF_ANOTHER = _sent("Dunn^Eve", CENTRAL, ELM, ELM_TEXT, "19610101", "Okafor^Ben")
AT_NORTHGATE = _sent("Egger^Lou", NORTHGATE, STANDARD, "Northgate", "19700101", "Keller^Mina")
STUDIES = (OF_18, OF_17, AT_ELM, OF_ANOTHER, AT_NORTHGATE)


async def filter_cases(world: World) -> None:
    """The eighth step of the story."""
    cases = await they_come(world)
    await an_age_filter_is_explained(world, cases[OF_18.uid])
    await a_referring_physician_sees_their_patients(world)
    await a_curly_quote_is_refused(world)
    await assigned_cases_only(world, cases)


async def they_come(world: World) -> dict[str, Case]:
    """Five studies of three facilities, of which one is new."""
    await create_facility(world, Facility(name=ELM, model=TRANSMISSION_MODEL_ENDPOINT, time_zone=TIME_ZONE))
    admin = await world.acting_as(ADMIN)
    hub, elm = world.facility_ids[HUB], world.facility_ids[ELM]
    rule = EndpointRule(hub_facility_id=hub, text=ELM_TEXT, endpoint_facility_id=elm)
    await admin.routing.SaveRule(SaveRuleRequest(rule=rule))
    for person in (SOMMER, KELLER, ROUX, MORENO):
        await create_user(world, person)
    world.user_ids[ADMIN] = await names.user_id(admin, ADMIN)
    for facility in (ENDPOINT, ELM, STANDARD):  # so that explanations tell them values
        await world.set_privilege(ADMIN, facility, LEVEL_VIEW)
    for sent in STUDIES:
        await asyncio.to_thread(_send, world, sent)

    async def all_have_come() -> dict[str, Case] | None:
        found = {case.study_instance_uid: case for case in await world.worklist(MORENO.login)}
        return found if {sent.uid for sent in STUDIES} <= found.keys() else None

    return await world.stage.until(all_have_come, f"{MORENO.name} sees five new studies at three facilities")


def _send(world: World, sent: Sent) -> None:
    folder = world.folder / "filtered" / sent.study.name
    (plain,) = sent.study.write(folder / "plain")
    path = written_as(plain, folder / plain.name, **sent.elements)
    PynetdicomModality(MODALITY).send([path], world.gateways[sent.site.name].called, lambda: None)


async def an_age_filter_is_explained(world: World, of_18: Case) -> None:
    """ACC-24, A8, BEY-1: `<` leaves out the bound, and the explanation says what would not."""
    await save(world, SOMMER, CHILDREN)
    await sees(world, SOMMER, {OF_17.uid}, f"with the filter {CHILDREN} {SOMMER.name} sees the child")
    told = await explained(world, SOMMER, of_18)
    (clause,) = told.filter.clauses
    world.stage.check(
        reason(told) == ExplainedPath.REASON_FILTER and [*clause.near_misses] == [CHILDREN_AND_18],
        "and not the patient of 18; the administrator is told why, and what would show them:",
    )
    for line in lines(told):
        world.stage.tell(line)
    await save(world, SOMMER, CHILDREN_AND_18)
    await sees(world, SOMMER, {OF_17.uid, OF_18.uid}, "so they write that, and both are shown")


async def a_referring_physician_sees_their_patients(world: World) -> None:
    """ACC-17, ACC-18: a name on the form, whatever its capitals, at every facility of theirs."""
    await save(world, KELLER, form=FilterForm(referring_physicians=["keller^mina"]))
    await sees(
        world,
        KELLER,
        {OF_18.uid, OF_17.uid, AT_ELM.uid},
        f"{KELLER.name}, referring physician, sees at two facilities exactly the patients that they refer",
    )
    admin = await world.acting_as(ADMIN)
    asked = ExplainListRequest(user_id=world.user_ids[KELLER.login])
    found = {f.facility_name: f for f in (await admin.access.ExplainList(asked)).facilities}
    world.stage.check(
        (found[ELM].cases, found[ELM].shown, found[ELM].hidden_by_filter) == (2, 1, 1),
        f"of the {found[ELM].cases} cases of `{ELM}` their filter hides {found[ELM].hidden_by_filter}",
    )


async def a_curly_quote_is_refused(world: World) -> None:
    """BEY-4: with its place and the repair; nothing is saved."""
    admin = await world.acting_as(ADMIN)
    user_id = world.user_ids[SOMMER.login]
    linted = await admin.access.Lint(LintRequest(user_id=user_id, expression=CURLY))
    world.stage.check(
        (linted.fault.column, linted.fault.repaired) == (14, CHILDREN),
        f"a filter with curly quotes has a fault, and a repair: {linted.fault.problem}",
    )
    for line in fault_lines(linted.fault):
        world.stage.tell(line)
    before = (await admin.access.DescribeFilter(DescribeFilterRequest(user_id=user_id))).filter
    wanted = Filter(user_id=user_id, expression=CURLY, version=before.version)
    refused = await refusal(admin.access.SaveFilter(SaveFilterRequest(filter=wanted)))
    after = (await admin.access.DescribeFilter(DescribeFilterRequest(user_id=user_id))).filter
    world.stage.check(
        isinstance(refused, Invalid) and after == before, f"it is refused, and nothing changes: {refused}"
    )
    repaired = await admin.access.Lint(LintRequest(user_id=user_id, expression=linted.fault.repaired))
    for line in lint_lines(repaired, linted.fault.repaired):
        world.stage.tell(line)


async def assigned_cases_only(world: World, cases: dict[str, Case]) -> None:
    """ACC-31, ACC-32: filter and privilege combine."""
    moreno = await world.acting_as(MORENO.login)
    for sent in (OF_18, AT_ELM, AT_NORTHGATE):
        request = AssignRequest(case_id=cases[sent.uid].case_id, assignee_login=ROUX.login)
        await moreno.access.Assign(request)
    await world.set_privilege(ROUX.login, STANDARD, LEVEL_DRAFT)
    world.stage.tell(f"{MORENO.name} assigns {ROUX.name} one case at each of three facilities")
    unfiltered = await levels(world, ROUX)
    of_facility = {ENDPOINT: LEVEL_REPORT, ELM: LEVEL_REPORT, STANDARD: LEVEL_DRAFT}
    world.stage.check(
        all(unfiltered.get(sent.uid) == of_facility[sent.facility] for sent in STUDIES),
        f"they may report at `{ENDPOINT}` and `{ELM}` and by now draft at `{STANDARD}`: "
        f"{len(unfiltered)} cases, assigned or not",
    )
    await save(world, ROUX, ASSIGNED)
    found = await levels(world, ROUX)
    world.stage.check(
        found == {OF_18.uid: LEVEL_REPORT, AT_ELM.uid: LEVEL_REPORT, AT_NORTHGATE.uid: LEVEL_DRAFT},
        f"with the filter {ASSIGNED} they may {LEVELS.word(found[OF_18.uid])} the two assigned there, "
        f"{LEVELS.word(found[AT_NORTHGATE.uid])} the one at `{STANDARD}`, and see nothing else",
    )


async def save(world: World, person: Person, expression: str = "", form: FilterForm | None = None) -> None:
    """Sets somebody's filter, from the version that it has."""
    admin = await world.acting_as(ADMIN)
    user_id = world.user_ids[person.login]
    before = (await admin.access.DescribeFilter(DescribeFilterRequest(user_id=user_id))).filter
    wanted = Filter(user_id=user_id, expression=expression, form=form, version=before.version)
    await admin.access.SaveFilter(SaveFilterRequest(filter=wanted))


async def levels(world: World, person: Person) -> dict[str, "Level.ValueType"]:
    """What somebody may do with each study that they see."""
    return {case.study_instance_uid: case.level for case in await world.worklist(person.login)}


async def sees(world: World, person: Person, uids: Collection[str], sentence: str) -> None:
    """Tells the sentence if they see just these studies."""
    world.stage.check((await levels(world, person)).keys() == set(uids), sentence)


async def explained(world: World, person: Person, case: Case) -> Explanation:
    admin = await world.acting_as(ADMIN)
    request = ExplainRequest(user_id=world.user_ids[person.login], case_id=case.case_id)
    return (await admin.access.Explain(request)).explanation


def reason(told: Explanation) -> "ExplainedPath.Reason.ValueType":
    """Why the path of the privilege is open or not."""
    return next(path.reason for path in told.paths if path.path == PATH_PRIVILEGE)
