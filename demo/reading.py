"""Step 6: a study is read, and after each act what a radiologist and the referring physician obtain."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from demo.cast import ADMIN, CARE, ENDPOINT, MARSH, OKAFOR, READERS, TIME_ZONE, VOS, Person
from demo.setting import create_user
from demo.world import World, told_time
from kernel.errors import Conflict, Denied, NotFound, ReadroomError
from readroom.reading import Entry, entries
from readroom.words import LEVELS, READ_TYPES
from wire.access.v1.access_pb2 import (
    LEVEL_DRAFT,
    LEVEL_REPORT,
    LEVEL_VIEW,
    READ_TYPE_FINAL,
    READ_TYPE_PRE_READ,
    READ_TYPE_PRELIMINARY,
    Case,
    Level,
    ReadType,
)
from wire.reporting.v1.reporting_pb2 import (
    ActivateReadTypeRequest,
    AddAddendumRequest,
    CompleteRequest,
    ListReportsRequest,
    ListReportsResponse,
    LockRequest,
    SaveDraftRequest,
)

Act = Callable[[World, str], Awaitable[object]]

PRELIMINARY, FINAL, PRE_READ = READ_TYPE_PRELIMINARY, READ_TYPE_FINAL, READ_TYPE_PRE_READ


# What people do with a case


def locks(person: Person) -> Act:
    async def act(world: World, case_id: str) -> object:
        return await (await world.acting_as(person.login)).reporting.Lock(LockRequest(case_id=case_id))

    return act


def drafts(person: Person, text: str) -> Act:
    async def act(world: World, case_id: str) -> object:
        request = SaveDraftRequest(case_id=case_id, text=text)
        return await (await world.acting_as(person.login)).reporting.SaveDraft(request)

    return act


def completes(person: Person, read_type: "ReadType.ValueType", text: str) -> Act:
    async def act(world: World, case_id: str) -> object:
        request = CompleteRequest(case_id=case_id, read_type=read_type, text=text)
        return await (await world.acting_as(person.login)).reporting.Complete(request)

    return act


async def refusal(acting: Awaitable[object]) -> ReadroomError | None:
    """Why an act is refused; None if it is not."""
    try:
        await acting
    except ReadroomError as error:
        return error
    return None


# What people obtain of it


@dataclass(frozen=True, slots=True)
class Obtained:
    """What a user obtains of a case: on the worklist, and by opening it."""

    case: Case
    written: ListReportsResponse

    @classmethod
    async def by(cls, world: World, person: Person, study_instance_uid: str) -> "Obtained":
        case = await world.case(person.login, study_instance_uid)
        if case is None:
            raise NotFound(f"{person.name} does not see the study")
        readroom = await world.acting_as(person.login)
        return cls(case, await readroom.reporting.ListReports(ListReportsRequest(case_id=case.case_id)))

    @property
    def entries(self) -> list[Entry]:
        """What opening shows."""
        return list(entries(self.written))

    @property
    def told(self) -> tuple[str, ...]:
        """One line for the worklist, one for each thing that opening shows."""
        case = self.case
        words = [case.study_status_id]
        words += [f"locked by {case.lock_holder_name}"] if case.lock_holder_name else []
        words += [READ_TYPES.word(read_type) for read_type in case.reported_read_types]
        return (", ".join(words), *map(_told, self.entries))

    @property
    def octets(self) -> tuple[bytes, bytes]:
        """All of it, as it travels."""
        case, written = (m.SerializeToString(deterministic=True) for m in (self.case, self.written))
        return case, written


def _told(entry: Entry) -> str:
    return " ".join(filter(None, (entry.kind, entry.read_type, f"of {entry.name}", _quoted(entry.text))))


def _quoted(text: str | None) -> str:
    return f"“{text}”" if text else ""


@dataclass(frozen=True, slots=True)
class Scene:
    """An act, and what a radiologist and the referring physician obtain after it."""

    sentence: str
    act: Act
    radiologist: Sequence[str]
    referrer: Sequence[str]


UNREAD = ("READY_TO_READ",)
LOOK = "6 mm nodule, right upper lobe?"
ELSEWHERE = "Old fracture of the left wrist."
FIRST, LAST = "No acute finding.", "6 mm nodule, right upper lobe; follow up in a year."

LOCKED_BY_VOS = (f"READY_TO_READ, locked by {VOS.name}", f"lock of {VOS.name}")
HIS_PRE_READ = f"report pre-read of {VOS.name} “{LOOK}”"
PRELIMINARY_REPORT = f"report preliminary of {MARSH.name} “{FIRST}”"
FINAL_REPORT = f"report final of {MARSH.name} “{LAST}”"
HELD = f"lock of {MARSH.name}"

PRE_READING = (
    Scene(f"{VOS.name} locks it, and everybody sees who", locks(VOS), LOCKED_BY_VOS, LOCKED_BY_VOS),
    Scene(
        "she saves a draft",
        drafts(VOS, LOOK),
        (f"DICTATED, locked by {VOS.name}", f"lock of {VOS.name}", f"draft of {VOS.name} “{LOOK}”"),
        LOCKED_BY_VOS,
    ),
    Scene(
        "she completes a pre-read",
        completes(VOS, PRE_READ, LOOK),
        ("READY_TO_READ, pre-read", HIS_PRE_READ),
        UNREAD,
    ),
)

READING = (
    Scene(
        f"{MARSH.name} locks it",
        locks(MARSH),
        (f"READY_TO_READ, locked by {MARSH.name}, pre-read", HELD, HIS_PRE_READ),
        (f"READY_TO_READ, locked by {MARSH.name}", HELD),
    ),
    Scene(
        "she completes a preliminary",
        completes(MARSH, PRELIMINARY, FIRST),
        ("READ, preliminary, pre-read", HIS_PRE_READ, PRELIMINARY_REPORT),
        ("READ, preliminary", PRELIMINARY_REPORT),
    ),
    Scene(
        "she locks it again",
        locks(MARSH),
        (
            f"READ, locked by {MARSH.name}, preliminary, pre-read",
            HELD,
            HIS_PRE_READ,
            PRELIMINARY_REPORT,
        ),
        (f"READ, locked by {MARSH.name}, preliminary", HELD, PRELIMINARY_REPORT),
    ),
    Scene(
        "she completes a final",
        completes(MARSH, FINAL, LAST),
        ("READ, preliminary, final, pre-read", HIS_PRE_READ, PRELIMINARY_REPORT, FINAL_REPORT),
        ("READ, preliminary, final", PRELIMINARY_REPORT, FINAL_REPORT),
    ),
)


# The story


async def read(world: World, study_instance_uid: str) -> None:
    """The sixth step of the story."""
    await let_them_read(world)

    async def settled() -> Obtained | None:
        found = await Obtained.by(world, OKAFOR, study_instance_uid)
        return found if found.told == UNREAD else None

    before = await world.stage.until(settled, f"{OKAFOR.name} may view the study, and nobody has read it")
    for scene in PRE_READING:
        await play(world, scene, before.case)
        if scene is PRE_READING[0]:
            refused = await refusal(locks(MARSH)(world, before.case.case_id))
            world.stage.check(isinstance(refused, Conflict), f"{MARSH.name} cannot lock it: {refused}")
    await nothing_of_the_pre_read(world, before)
    for scene in READING:
        await play(world, scene, before.case)


async def let_them_read(world: World) -> None:
    """A36: a pre-read is off until it is on for the group, at the facility, and for the user."""
    for person in READERS:
        await create_user(world, person)
    admin, care = [await world.acting_as(login) for login in (ADMIN, CARE.login)]
    here = world.facility_ids[ENDPOINT]
    pre_read_here = ActivateReadTypeRequest(facility_id=here, read_type=PRE_READ, active=True)
    refused = await refusal(admin.reporting.ActivateReadType(pre_read_here))
    world.stage.check(isinstance(refused, Conflict), f"a pre-read at `{ENDPOINT}` is refused: {refused}")

    for_the_group = ActivateReadTypeRequest(read_type=PRE_READ, active=True)
    await care.reporting.ActivateReadType(for_the_group)
    for read_type in (PRELIMINARY, PRE_READ):
        request = ActivateReadTypeRequest(facility_id=here, read_type=read_type, active=True)
        active = (await admin.reporting.ActivateReadType(request)).read_types
    world.stage.check(
        {*active} == {PRELIMINARY, FINAL, PRE_READ},
        f"{CARE.name} has it enabled for the group; then `{ENDPOINT}` has {_words(active)}",
    )
    for person, types in ((VOS, [FINAL, PRE_READ]), (MARSH, [PRELIMINARY, FINAL])):
        held = await world.set_privilege(person.login, ENDPOINT, LEVEL_REPORT, read_types=types)
        world.stage.check(
            {*held.read_types} == {*types}, f"{person.name} may complete {_words(held.read_types)} there"
        )
    await world.set_privilege(OKAFOR.login, ENDPOINT, LEVEL_VIEW)


def _words(read_types: Sequence["ReadType.ValueType"]) -> str:
    return " and ".join(READ_TYPES.word(each) for each in read_types)


async def play(world: World, scene: Scene, case: Case) -> None:
    """Acts, waits until each side obtains what it should, and prints both side by side."""
    readers = ((MARSH, scene.radiologist), (OKAFOR, scene.referrer))

    async def obtained() -> dict[str, Sequence[str]] | None:
        found = [(await Obtained.by(world, person, case.study_instance_uid)).told for person, _ in readers]
        if any(told != tuple(expected) for told, (_, expected) in zip(found, readers, strict=True)):
            return None
        return {f"{person.name} obtains": expected for person, expected in readers}

    await scene.act(world, case.case_id)
    world.stage.side_by_side(await world.stage.until(obtained, scene.sentence))


async def nothing_of_the_pre_read(world: World, before: Obtained) -> None:
    """REP-4, REP-9, REP-12: now that its lock is gone, the facility's side has what it had before."""
    after = await Obtained.by(world, OKAFOR, before.case.study_instance_uid)
    world.stage.check(
        after.octets == before.octets, f"byte for byte {OKAFOR.name} obtains what they obtained before it"
    )
    marsh, okafor = [await world.acting_as(person.login) for person in (MARSH, OKAFOR)]
    written = await marsh.reporting.ListReports(ListReportsRequest(case_id=before.case.case_id))
    refused = [
        await refusal(
            okafor.reporting.AddAddendum(
                AddAddendumRequest(case_id=before.case.case_id, report_id=report_id, text="?")
            )
        )
        for report_id in (written.reports[0].report_id, before.case.case_id)
    ]
    world.stage.check(
        isinstance(refused[0], NotFound) and str(refused[0]) == str(refused[1]),
        f"even with its id in hand they are told what any id tells: {refused[0]}",
    )


async def a_privilege_ends(world: World, study_instance_uid: str) -> None:
    """ACC-12, A3: from 00:00 of its date View and report is View and draft, also for who is reading."""
    zone = ZoneInfo(TIME_ZONE)
    day = (datetime.now(zone) + timedelta(days=2)).date()
    midnight = datetime.combine(day, datetime.min.time(), zone)
    privilege = await world.set_privilege(VOS.login, ENDPOINT, LEVEL_REPORT, expires_on=day.isoformat())
    world.stage.check(
        privilege.expires_at.ToDatetime(UTC) == midnight,
        f"{VOS.name}'s privilege expires at 00:00 of {day} in {TIME_ZONE}",
    )

    async def case_at(moment: datetime, level: "Level.ValueType") -> Case:
        world.move_clock(moment)
        case = await world.case(VOS.login, study_instance_uid)
        if case is None:
            raise NotFound(f"{VOS.name} does not see the study")
        world.stage.check(case.level == level, f"when it is {told_time(moment)} she may {LEVELS.word(level)}")
        return case

    case = await case_at(midnight - timedelta(minutes=1), LEVEL_REPORT)
    await locks(VOS)(world, case.case_id)
    await case_at(midnight, LEVEL_DRAFT)
    refused = await refusal(completes(VOS, FINAL, ELSEWHERE)(world, case.case_id))
    world.stage.check(isinstance(refused, Denied), f"she has locked it and written: {refused}")
    found = await Obtained.by(world, VOS, study_instance_uid)
    world.stage.check(
        found.told[1:] == (f"draft of {VOS.name} “{ELSEWHERE}”",), "it is her draft, and her lock has ended"
    )
