"""Assigning cases to their readers by hand, and how soon they are to be read."""

from collections.abc import Awaitable
from dataclasses import replace
from datetime import date, timedelta
from typing import Any
from uuid import uuid4

import pytest

from kernel.errors import Conflict, Denied, Invalid, NotFound
from kernel.ids import CaseId, DeletionId, MoveId
from kernel.reading import DraftState, PrivilegeLevel, ReadType
from services.access.assignment import Assigned
from services.access.caseindex import ListedCase, Priority
from services.access.domain import Facility, Permission, PermissionGrant, Role, User
from services.access.manager import UserSettings
from services.access.moves import Move
from services.access.reading import NOT_READ, AtLock, Projection, Signed
from services.access.status import ReadingState
from tests.access.builders import a_lock, a_placement, a_reading, a_study, a_user
from tests.access.conftest import ADMIN, Access, refused
from tests.access.test_filters import save as save_filter
from tests.clocks import NOON

ASSIGNS = Permission.ASSIGN_CASE


class Scene:
    """A case of a facility, who coordinates there, two who report there, and a physician."""

    def __init__(self, access: Access) -> None:
        self.access = access

    async def set(self) -> "Scene":
        access = self.access
        self.facility = await access.facility("Maple Street")
        self.study = a_study(settled=True)
        self.placement = a_placement(self.facility.id, self.study)
        self.case_id = self.placement.case_id
        await access.hear(self.study, self.placement)
        self.coordinator = await self.a_user(Role.RADIOLOGY_SUPPORT, PrivilegeLevel.VIEW, login="silva")
        self.vos = await self.a_user(Role.RADIOLOGIST, PrivilegeLevel.REPORT, login="vos")
        self.lind = await self.a_user(Role.RADIOLOGIST, PrivilegeLevel.REPORT, login="lind")
        self.physician = await self.a_user(Role.REFERRING_PHYSICIAN, PrivilegeLevel.VIEW, login="okafor")
        return self

    async def a_user(
        self, role: Role, level: PrivilegeLevel, facility: Facility | None = None, **changes: Any
    ) -> User:
        user = await self.access.user(role, **changes)
        if level is not PrivilegeLevel.NONE:
            await self.access.give(user, facility or self.facility, level)
        return user

    async def assign(
        self, to: User | str, by: User | None = None, case_id: CaseId | None = None, *, force: bool = False
    ) -> Assigned:
        assigned, _ = await self.access.assignments.assign(
            (by or self.coordinator).login,
            "",
            case_id or self.case_id,
            to if isinstance(to, str) else to.login,
            force=force,
        )
        return assigned

    async def unassign(self, by: User | None = None, *, force: bool = False) -> None:
        await self.access.assignments.unassign((by or self.coordinator).login, "", self.case_id, force=force)

    async def set_priority(self, priority: Priority, by: User | None = None) -> None:
        await self.access.assignments.set_priority((by or self.coordinator).login, "", self.case_id, priority)

    async def acts(self, by: User) -> list[Awaitable[object]]:
        """Everything that one needs `case.assign` for."""
        return [
            self.assign(self.vos, by=by),
            self.unassign(by),
            self.set_priority(Priority.STAT, by),
        ]

    async def shown(self, user: User | None = None) -> ListedCase:
        """The case as they list it, of the status that filters of their side ask for."""
        user = user or self.coordinator
        (case,) = await self.access.questions.list_cases(user.login, None, 10, at_least=0)
        side = "facility" if user is self.physician else "group"
        [kept] = await self.access.query(f"select status_{side} from cases")
        assert kept[0] == case.study_status_id
        return case

    async def assignee(self) -> str | None:
        return (await self.shown()).assignee_login

    async def locked_by(self, user: User) -> None:
        lock = a_lock(user.name, holder_login=user.login, ends_at=NOON + timedelta(minutes=5))
        await self.access.hear(a_reading(self.case_id, Projection(lock=lock)))

    async def signs(self, user: User, read_type: ReadType, version: int = 1, **changes: Any) -> None:
        """Reporting tells that the user has signed a report, a minute from now."""
        self.access.clock.pass_by(timedelta(minutes=1))
        signed = Signed(read_type, user.login, changes.pop("at", self.access.clock.now()))
        public = read_type is not ReadType.PRE_READ
        state = ReadingState.FINAL if read_type is ReadType.FINAL else ReadingState.UNREAD
        group = Projection(state, None, frozenset({read_type}), signed.completed_at)
        reading = a_reading(self.case_id, group, group if public else NOT_READ, version)
        await self.access.hear(replace(reading, signed=(signed,)))

    async def traces(self) -> list[object]:
        """What an act that changes nothing leaves as it is."""
        tables = ("cases", "outbox", "revision")
        return [await self.access.query(f"select * from {table} t order by t") for table in tables]


@pytest.fixture
async def scene(access: Access) -> Scene:
    return await Scene(access).set()


# Who is assigned


@pytest.mark.proves("ASG-1")
@pytest.mark.proves("A64", part="a case that is assigned")
async def test_a_coordinator_assigns_a_case_and_everybody_is_told_that_sight_may_have_changed(
    scene: Scene,
) -> None:
    access, revision = scene.access, await scene.access.revision()
    assert (None, "READY_TO_READ") == ((before := await scene.shown()).assignee_login, before.study_status_id)

    assert Assigned("vos", PrivilegeLevel.REPORT) == await scene.assign("VOS")

    for user in (scene.coordinator, scene.vos, scene.lind):
        shown = await scene.shown(user)
        assert ("vos", "ASSIGNED") == (shown.assignee_login, shown.study_status_id)
    assert ("sight.changed.v1", str(scene.case_id)) == (await access.facts())[-1][:2]
    assert revision + 1 == await access.revision()
    assert ("silva", "case.assigned", "done") == (await access.audited())[-1]


@pytest.mark.proves("ASG-3")
async def test_a_case_is_unassigned(scene: Scene) -> None:
    await scene.assign(scene.vos)

    await scene.unassign()

    assert (None, "READY_TO_READ") == ((shown := await scene.shown()).assignee_login, shown.study_status_id)
    assert ("silva", "case.unassigned", "done") == (await scene.access.audited())[-1]


async def test_another_reader_takes_the_place_of_the_one_before(scene: Scene) -> None:
    await scene.assign(scene.vos)
    await scene.assign(scene.lind)

    assert "lind" == await scene.assignee()


async def test_what_is_so_already_changes_nothing(scene: Scene) -> None:
    await scene.unassign()
    await scene.set_priority(Priority.NORMAL)
    await scene.assign(scene.vos)
    traces = await scene.traces()

    assert Assigned("vos", PrivilegeLevel.REPORT) == await scene.assign(scene.vos)

    assert traces == await scene.traces()


@pytest.mark.proves("ASG-2", part="who is taken")
@pytest.mark.proves("A38", part="who is taken")
async def test_only_who_may_report_at_the_facility_now_is_taken(scene: Scene) -> None:
    access = scene.access
    elsewhere = await access.facility("Elsewhere")
    report = PrivilegeLevel.REPORT
    expired = await access.user(login="expired")
    await access.give(expired, scene.facility, report, expires_on=date(2026, 11, 1))
    others = [
        await scene.a_user(Role.RADIOLOGIST, PrivilegeLevel.NONE),
        await scene.a_user(Role.RADIOLOGIST, PrivilegeLevel.VIEW),
        await scene.a_user(Role.RADIOLOGIST, PrivilegeLevel.DRAFT),
        await scene.a_user(Role.RADIOLOGIST, report, elsewhere),
        await scene.a_user(Role.TRANSCRIPTIONIST, report),
        await scene.a_user(Role.REFERRING_PHYSICIAN, report),
        await scene.a_user(Role.RADIOLOGIST, report, active=False),
        expired,
    ]
    sentences = set()
    for login in (*(user.login for user in others), "nobody", "no login"):
        with pytest.raises(NotFound) as refusal:
            await scene.assign(login)
        assert "assignee_login" == refusal.value.field
        sentences.add(refusal.value.sentence.replace(f"`{login}`", "them"))

    assert 1 == len(sentences), "a stranger is answered as one who may not"
    assert await scene.assignee() is None


@pytest.mark.parametrize("written", ["ReferringPhysician", "$referringphysician"])
async def test_a_case_is_not_assigned_to_its_referring_physician_whom_nobody_knows_as_a_user(
    scene: Scene, written: str
) -> None:
    with pytest.raises(Invalid, match="no user yet: assign the case to somebody by their login") as refusal:
        await scene.assign(written)

    assert "assignee_login" == refusal.value.field
    assert await scene.assignee() is None


@pytest.mark.proves("A38", part="it gives no sight")
async def test_an_assignment_gives_nobody_more_than_they_had(scene: Scene) -> None:
    users = (scene.vos, scene.lind, scene.physician)
    before = [await scene.access.check(user, scene.case_id) for user in users]

    await scene.assign(scene.vos)

    assert before == [await scene.access.check(user, scene.case_id) for user in users]


# Who assigns


async def test_who_does_not_hold_the_permission_at_the_facility_assigns_nothing(scene: Scene) -> None:
    elsewhere = await scene.access.facility("Elsewhere")
    views = a_user().permissions
    there = await scene.a_user(
        Role.ADMINISTRATOR,
        PrivilegeLevel.REPORT,
        permissions=views | {PermissionGrant(ASSIGNS, elsewhere.id)},
    )
    for user in (scene.vos, there):
        for act in await scene.acts(user):
            await refused(act, Denied, None)
    at_home = await scene.a_user(
        Role.RADIOLOGIST,
        PrivilegeLevel.VIEW,
        permissions=views | {PermissionGrant(ASSIGNS, scene.facility.id)},
    )
    await scene.assign(scene.vos, by=at_home)


@pytest.mark.proves("A74", part="nobody of a facility")
async def test_nobody_of_a_facility_assigns_even_if_they_were_given_it_once(scene: Scene) -> None:
    for role in (Role.FACILITY_USER, Role.REFERRING_PHYSICIAN):
        user = await scene.a_user(
            role, PrivilegeLevel.VIEW, permissions=a_user(role).permissions | {PermissionGrant(ASSIGNS)}
        )
        for act in await scene.acts(user):
            with pytest.raises(Denied, match="only people of the radiology group"):
                await act
    assert await scene.assignee() is None


async def test_nobody_assigns_what_they_do_not_see(scene: Scene) -> None:
    stranger = await scene.a_user(Role.ADMINISTRATOR, PrivilegeLevel.NONE)
    for act in await scene.acts(stranger):
        await refused(act, NotFound, "case_id")
    await scene.access.deletions.begin_delete(
        (await deleter(scene)).login, "", scene.case_id, DeletionId(uuid4()), force=False
    )
    for act in await scene.acts(scene.coordinator):
        await refused(act, NotFound, "case_id")


async def deleter(scene: Scene) -> User:
    permissions = a_user().permissions | {PermissionGrant(Permission.DELETE_STUDY)}
    return await scene.a_user(Role.ADMINISTRATOR, PrivilegeLevel.VIEW, permissions=permissions)


async def test_a_share_does_not_assign_and_a_grant_does(scene: Scene) -> None:
    recipient, granted = [await scene.a_user(Role.ADMINISTRATOR, PrivilegeLevel.NONE) for _ in range(2)]
    await scene.access.share(recipient, scene.case_id, write_report=True)
    await scene.access.folders.grant_case(ADMIN, scene.case_id, granted.id)

    for act in await scene.acts(recipient):
        with pytest.raises(Denied, match="a share does not let you assign"):
            await act
    await scene.assign(scene.vos, by=granted)


@pytest.mark.proves("A74", part="who may be given it")
async def test_a_role_of_the_facility_side_is_not_given_the_permission_and_keeps_what_it_has(
    scene: Scene,
) -> None:
    users = scene.access.users
    nurse, silva = scene.physician, scene.coordinator
    given = PermissionGrant(ASSIGNS, scene.facility.id)
    await refused(
        users.save_user(ADMIN, settings(nurse, nurse.permissions | {given})), Invalid, "permissions"
    )
    await refused(
        users.save_user(ADMIN, settings(silva, None, role=Role.FACILITY_USER)), Invalid, "permissions"
    )

    stored = await scene.a_user(
        Role.FACILITY_USER, PrivilegeLevel.VIEW, permissions=frozenset({given}), login="tech"
    )
    renamed, _ = await users.save_user(ADMIN, settings(stored, None, version=2, name="Renamed"))
    assert frozenset({given}) == renamed.permissions
    await users.save_user(ADMIN, settings(scene.vos, scene.vos.permissions | {given}))


def settings(user: User, permissions: frozenset[PermissionGrant] | None, **changes: Any) -> UserSettings:
    values: dict[str, Any] = {
        "user_id": user.id,
        "version": 2,
        "login": user.login,
        "name": user.name,
        "role": user.role,
        "active": True,
        "home_facility_id": user.home_facility_id,
        "permissions": permissions,
    }
    return UserSettings(**values | changes)


# A case that somebody is reading


@pytest.mark.proves("A74", part="force")
async def test_a_case_that_another_has_locked_is_assigned_by_force_only(scene: Scene) -> None:
    await scene.assign(scene.vos)
    await scene.locked_by(scene.vos)

    with pytest.raises(Conflict, match=scene.vos.name) as refusal:
        await scene.assign(scene.lind)
    assert "force" == refusal.value.field
    await refused(scene.unassign(), Conflict, "force")
    assert "vos" == await scene.assignee()
    await scene.assign(scene.lind, force=True)
    assert "lind" == await scene.assignee()
    await scene.assign(scene.vos)  # it is their own lock
    await scene.unassign(force=True)
    assert await scene.assignee() is None


async def test_a_lock_that_has_ended_keeps_nobody_from_assigning(scene: Scene) -> None:
    await scene.locked_by(scene.vos)
    scene.access.clock.pass_by(timedelta(minutes=5))

    await scene.assign(scene.lind)
    await scene.unassign()


# What ends it


@pytest.mark.proves("A74", part="what was signed")
@pytest.mark.proves("A33", part="the assignment")
async def test_a_pre_read_by_the_assignee_ends_the_assignment_and_a_final_does_not(scene: Scene) -> None:
    access = scene.access
    await scene.assign(scene.vos)
    await scene.signs(scene.lind, ReadType.PRE_READ, version=1)
    assert "vos" == await scene.assignee()
    revision = await access.revision()

    await scene.signs(scene.vos, ReadType.PRE_READ, version=2)

    assert (None, "READY_TO_READ") == ((shown := await scene.shown()).assignee_login, shown.study_status_id)
    assert revision + 1 == await access.revision()
    assert "sight.changed.v1" == (await access.facts())[-1][0]
    assert ("service:access", "case.assignment_ended", "done") == (await access.audited())[-1]

    await scene.assign(scene.lind)
    for version, read_type in enumerate((ReadType.PRELIMINARY, ReadType.OTHER, ReadType.FINAL), start=3):
        await scene.signs(scene.lind, read_type, version)
    assert ("lind", "READ") == ((shown := await scene.shown()).assignee_login, shown.study_status_id)


async def test_a_pre_read_of_before_is_not_what_the_case_is_assigned_for(scene: Scene) -> None:
    """Access may hear of it after somebody has assigned the next reading to the same person."""
    signed_at = scene.access.clock.now()
    scene.access.clock.pass_by(timedelta(minutes=1))
    await scene.assign(scene.vos)

    await scene.signs(scene.vos, ReadType.PRE_READ, at=signed_at)

    assert "vos" == await scene.assignee()


async def test_with_a_move_the_assignment_ends_and_the_priority_stays(scene: Scene) -> None:
    access = scene.access
    other = await access.facility("Lakeside")
    await access.give(scene.coordinator, other, PrivilegeLevel.VIEW)
    await scene.assign(scene.vos)
    await scene.set_priority(Priority.URGENT)

    await access.hear(replace(scene.placement, facility_id=other.id, version=2))

    shown = await scene.shown()
    assert (other.id, None, "READY_TO_READ") == (
        shown.facility_id,
        shown.assignee_login,
        shown.study_status_id,
    )
    assert Priority.URGENT is shown.priority
    assert ("service:access", "case.assignment_ended", "done") in await access.audited()


async def test_who_is_assigned_does_not_keep_a_case_from_moving_without_a_hand(scene: Scene) -> None:
    """Whoever moves it may be of a facility, and would learn that somebody is to read it."""
    other = await scene.access.facility("Lakeside")
    await scene.assign(scene.vos)

    move = Move(MoveId(uuid4()), scene.case_id, scene.facility.id, other.id, by_hand=False)
    await scene.access.moves.begin_move(move, preview=False)


async def test_with_the_case_goes_who_was_to_read_it(scene: Scene) -> None:
    await scene.assign(scene.vos)
    login = (await deleter(scene)).login
    deletion_id = DeletionId(uuid4())
    await scene.access.deletions.begin_delete(login, "", scene.case_id, deletion_id, force=False)
    async with scene.access.database.transaction() as transaction:
        await scene.access.deletions.purge(transaction, scene.case_id, 1)

    assert [] == await scene.access.query("select assignee_id from cases")


# Who is shown what


@pytest.mark.proves("A59", part="assignments")
async def test_the_facility_side_is_shown_no_assignee(scene: Scene) -> None:
    before = await scene.shown(scene.physician)
    for assignee in (scene.vos, scene.lind):
        await scene.assign(assignee)
        assert before == await scene.shown(scene.physician)


@pytest.mark.proves("A75", part="by hand")
async def test_how_soon_a_case_is_to_be_read_is_set_by_hand_and_shown_to_both_sides(scene: Scene) -> None:
    for priority in (Priority.STAT, Priority.URGENT, Priority.NORMAL):
        await scene.set_priority(priority)
        for user in (scene.coordinator, scene.physician):
            assert priority is (await scene.shown(user)).priority
        assert ("silva", "case.priority_set", "done") == (await scene.access.audited())[-1]
        assert "sight.changed.v1" == (await scene.access.facts())[-1][0]


async def test_what_comes_to_a_case_leaves_its_assignment_and_its_priority(scene: Scene) -> None:
    await scene.assign(scene.vos)
    await scene.set_priority(Priority.STAT)

    await scene.access.hear(a_study(("1.2.3", "CT", 9), id=scene.study.id, version=2, settled=True))

    shown = await scene.shown()
    assert ("vos", Priority.STAT, 9) == (shown.assignee_login, shown.priority, shown.summary.instance_count)


# Filters


@pytest.mark.proves("ASG-8")
@pytest.mark.parametrize(
    "expression",
    [
        pytest.param("assignedToUser = 'VOS'", marks=pytest.mark.proves("ACC-28")),
        pytest.param("AssignedToUser = '$user'", marks=pytest.mark.proves("ACC-29")),
        pytest.param(
            "AssignedToUser in ('lind', '$User') and AssignedToUser != 'lind'",
            marks=pytest.mark.proves("A11"),
        ),
    ],
)
async def test_who_sees_only_what_is_assigned_to_them_sees_it_from_then_until_it_ends(
    scene: Scene, expression: str
) -> None:
    access, vos = scene.access, scene.vos
    await save_filter(access, vos, expression)
    assert [] == await access.worklist(vos)

    for _ in range(2):
        assert Assigned("vos", PrivilegeLevel.REPORT) == await scene.assign(vos)
        assert [scene.case_id] == await access.worklist(vos)
        assert PrivilegeLevel.REPORT is (await access.check(vos, scene.case_id)).level
        await scene.assign(scene.lind)
        assert [] == await access.worklist(vos)
    await scene.assign(vos)
    await scene.unassign()
    assert not (await access.check(vos, scene.case_id)).allowed


@pytest.mark.proves("ACC-31")
@pytest.mark.proves("ACC-32")
async def test_the_worked_example_report_at_two_facilities_draft_at_one_and_only_what_is_assigned(
    scene: Scene,
) -> None:
    access = scene.access
    facilities = {name: await access.facility(name) for name in "ABCD"}
    user = await access.user(login="worked")
    for name, level in (
        ("A", PrivilegeLevel.REPORT),
        ("B", PrivilegeLevel.REPORT),
        ("C", PrivilegeLevel.DRAFT),
    ):
        await access.give(user, facilities[name], level)
    cases: dict[str, CaseId] = {}
    for name, facility in facilities.items():
        await access.give(scene.coordinator, facility, PrivilegeLevel.VIEW)
        cases |= {f"{name}{number}": await access.case(facility) for number in (1, 2)}

    async def levels() -> dict[str, PrivilegeLevel]:
        """What they may do with each case that they see, asked and listed alike."""
        listed = set(await access.worklist(user))
        checked = {name: await access.check(user, case_id) for name, case_id in cases.items()}
        assert listed == {cases[name] for name, decision in checked.items() if decision.allowed}
        return {name: decision.level for name, decision in checked.items() if decision.allowed}

    report, draft = PrivilegeLevel.REPORT, PrivilegeLevel.DRAFT
    everything = {"A1": report, "A2": report, "B1": report, "B2": report, "C1": draft, "C2": draft}
    assert everything == await levels()
    await save_filter(access, user, "AssignedToUser = '$user'")
    assert {} == await levels()
    for name in ("A1", "B1"):
        await scene.assign(user, case_id=cases[name])
    # Nobody is assigned a case where they may not report; but they may have been able to once.
    for name in ("C1", "D1"):
        await access.query("update cases set assignee_id = $1 where case_id = $2", user.id, cases[name])

    assert {"A1": report, "B1": report, "C1": draft} == await levels()


@pytest.mark.proves("A38", part="judged as if assigned")
@pytest.mark.proves("BEY-19", part="of one case")
async def test_whoever_assigns_is_told_what_the_assignee_will_see_of_it(scene: Scene) -> None:
    access, vos = scene.access, scene.vos
    await save_filter(access, vos, "Modality = 'MR' and AssignedToUser = '$user'")

    assert Assigned("vos", PrivilegeLevel.NONE) == await scene.assign(vos)
    assert "vos" == await scene.assignee()
    assert [] == await access.worklist(vos)

    await access.folders.grant_case(ADMIN, scene.case_id, vos.id)
    assert Assigned("vos", PrivilegeLevel.VIEW) == await scene.assign(vos)
    await save_filter(access, vos, "Modality = 'CT' and AssignedToUser = '$user'")
    assert Assigned("vos", PrivilegeLevel.REPORT) == await scene.assign(vos)


@pytest.mark.proves("A64", part="nobody loses a case by saving a draft of it")
async def test_the_holder_of_the_lock_keeps_a_case_that_their_draft_moves_out_of_their_filter(
    scene: Scene,
) -> None:
    access = scene.access
    for user in (scene.vos, scene.lind):
        await save_filter(access, user, "StudyStatusID = 'READY_TO_READ' and ReportedTypes is null")
    lock = a_lock(scene.vos.name, holder_login="vos")
    stood = AtLock(ReadingState.UNREAD, DraftState.NONE, frozenset())
    dictated = Projection(lock=lock, draft=DraftState.DICTATED)

    async def seen() -> list[bool]:
        answers = []
        for user in (scene.vos, scene.lind):
            checked = (await access.check(user, scene.case_id)).allowed
            assert checked == (scene.case_id in await access.worklist(user))
            answers.append(checked)
        return answers

    await access.hear(replace(a_reading(scene.case_id, Projection(lock=lock)), at_lock=stood))
    assert [True, True] == await seen()
    await access.hear(replace(a_reading(scene.case_id, dictated, version=2), at_lock=stood))
    assert [True, False] == await seen()
    access.clock.at = lock.ends_at
    assert [False, False] == await seen()


@pytest.mark.proves("A75", part="in filters")
async def test_how_soon_a_case_is_to_be_read_decides_who_sees_it_through_a_filter(scene: Scene) -> None:
    await save_filter(scene.access, scene.vos, "Priority in ('urgent', 'stat')")
    assert [] == await scene.access.worklist(scene.vos)

    await scene.set_priority(Priority.STAT)

    assert [scene.case_id] == await scene.access.worklist(scene.vos)
