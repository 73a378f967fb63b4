"""Explain: why a user sees a case, or does not (BEY-1)."""

from collections.abc import Awaitable
from datetime import date, datetime, timedelta
from itertools import product
from uuid import uuid4

import pytest

from kernel.errors import Denied, NotFound, ReadroomError
from kernel.ids import CaseId, DeletionId, MoveId, UserId
from kernel.reading import PrivilegeLevel
from services.access.domain import Facility, Path, Permission, PermissionGrant, Role, User
from services.access.explain import Counted, ExplainedFacility, Explanation, Obstacle, Reason
from services.access.moves import Move
from tests.access.builders import a_study, a_user
from tests.access.conftest import ADMIN, END, Access
from tests.clocks import NOON

YESTERDAY = NOON - timedelta(days=1)


async def explained(access: Access, user: User, case_id: CaseId, by: str = ADMIN) -> Explanation:
    return await access.explaining.explain(by, user.id, case_id)


def reasons(told: Explanation) -> dict[Path, Reason]:
    return {each.path: each.reason for each in told.paths}


async def refused(asking: Awaitable[object], word: type[ReadroomError]) -> str:
    with pytest.raises(word) as refusal:
        await asking
    return refusal.value.sentence


# What it tells


@pytest.mark.proves("BEY-1", part="paths")
async def test_whoever_sees_nothing_is_told_of_each_path_that_nothing_opens_it(access: Access) -> None:
    facility = await access.facility("North")
    case_id = await access.case(facility)
    jane = await access.user()

    told = await explained(access, jane, case_id)

    assert (told.user, told.case.facility.name, told.obstacle) == (jane, "North", None)
    assert not told.decision.allowed
    assert reasons(told) == dict.fromkeys(Path, Reason.NONE)
    assert (told.privilege.level, told.ceiling) == (PrivilegeLevel.NONE, PrivilegeLevel.REPORT)


SHARES: dict[str, dict[str, object]] = {
    "none": {},
    "open": {"ends_at": END},
    "with a code": {"ends_at": END, "two_factor": True},
    "blocked": {"ends_at": END, "is_open": False},
    "ended": {"ends_at": YESTERDAY},
}


@pytest.mark.proves("BEY-1", part="paths")
async def test_the_open_paths_are_those_by_which_check_shows_the_case(access: Access) -> None:
    """Every combination of what may show a case to somebody, at one of each."""
    facility = await access.facility()
    case_id = await access.case(facility)
    told_of = set()
    for role, level, granted, in_folder, share in product(
        (Role.RADIOLOGIST, Role.REFERRING_PHYSICIAN, Role.OPERATOR),
        (PrivilegeLevel.NONE, PrivilegeLevel.VIEW, PrivilegeLevel.REPORT),
        (False, True),
        (False, True),
        SHARES,
    ):
        user = await access.user(role)
        if level:
            await access.give(user, facility, level)
        if granted:
            await access.folders.grant_case(ADMIN, case_id, user.id)
        if in_folder:
            folder_id = await access.folder(user, name=user.login)
            await access.folders.put_in_folder(ADMIN, folder_id, case_id)
        if SHARES[share]:
            await access.share(user, case_id, **SHARES[share])

        told = await explained(access, user, case_id)

        checked = await access.check(user, case_id)
        assert (told.decision.allowed, told.decision.level) == (checked.allowed, checked.level)
        assert (told.decision.images, told.decision.reports) == (checked.images, checked.reports)
        assert [each.path for each in told.paths] == list(Path)
        found = reasons(told)
        assert {path for path, reason in found.items() if reason is Reason.OPEN} == {*checked.paths}
        told_of |= {*found.values()}
    assert told_of == {*Reason} - {Reason.FILTER}  # of filters: test_explained_filters.py


async def test_a_privilege_is_told_as_stored_with_its_end_and_what_the_role_makes_of_it(
    access: Access,
) -> None:
    facility = await access.facility(time_zone="Europe/Amsterdam")
    case_id = await access.case(facility)
    jane, support = await access.user(), await access.user(Role.RADIOLOGY_SUPPORT)
    for user in (jane, support):
        await access.give(user, facility, PrivilegeLevel.REPORT, expires_on=date(2026, 11, 1))

    of_jane, of_support = [await explained(access, user, case_id) for user in (jane, support)]

    assert of_jane.privilege.expires_on == date(2026, 11, 1)
    assert of_jane.effective.expires_at == datetime.fromisoformat("2026-10-31T23:00:00Z")
    assert of_jane.effective.at(of_jane.at) == of_jane.effective.reverts_to == PrivilegeLevel.DRAFT
    assert (of_support.ceiling, of_support.effective.reverts_to) == (PrivilegeLevel.VIEW,) * 2
    assert of_support.decision.level == PrivilegeLevel.VIEW


async def test_who_sees_a_case_and_not_its_images_is_told_which_permission_they_lack(access: Access) -> None:
    facility = await access.facility()
    case_id = await access.case(facility)
    physician = await access.user(Role.REFERRING_PHYSICIAN)
    await access.give(physician, facility, PrivilegeLevel.VIEW)

    told = await explained(access, physician, case_id)

    assert (told.decision.allowed, told.decision.images, told.decision.reports) == (True, False, True)
    assert told.holds == {Permission.VIEW_IMAGES: False, Permission.VIEW_REPORT: True}


async def test_what_hides_a_case_from_everybody_is_told_with_the_paths(access: Access) -> None:
    facility, elsewhere = await access.facility(), await access.facility()
    deleted, moved, plain = [await access.case(facility) for _ in range(3)]
    there = {PermissionGrant(Permission.DELETE_STUDY, facility.id)}
    jane = await access.user(permissions=a_user().permissions | there)
    gone = await access.user(active=False)
    for user in (jane, gone):
        await access.give(user, facility, PrivilegeLevel.VIEW)
    await access.deletions.begin_delete(jane.login, "s", deleted, DeletionId(uuid4()), force=True)
    move = Move(MoveId(uuid4()), moved, facility.id, elsewhere.id, False)
    await access.moves.begin_move(move, preview=False)

    for user, case_id, obstacle in (
        (jane, deleted, Obstacle.BEING_DELETED),
        (jane, moved, Obstacle.BEING_MOVED),
        (gone, plain, Obstacle.DEACTIVATED),
    ):
        told = await explained(access, user, case_id)

        assert told.obstacle is obstacle
        assert not told.decision.allowed
        assert reasons(told)[Path.PRIVILEGE] is Reason.OPEN


async def test_of_several_shares_the_one_that_opens_is_told(access: Access) -> None:
    facility = await access.facility()
    case_id = await access.case(facility)
    jane = await access.user(Role.REFERRING_PHYSICIAN)
    for share in ("ended", "blocked", "open"):
        await access.share(jane, case_id, **SHARES[share])
    later = END + timedelta(days=1)
    await access.share(jane, case_id, ends_at=later)

    told = next(each for each in (await explained(access, jane, case_id)).paths if each.path is Path.SHARE)

    assert (told.path, told.reason, told.ends_at) == (Path.SHARE, Reason.OPEN, later)


# Of a whole facility


@pytest.mark.proves("BEY-1", part="counts of a facility")
async def test_of_each_facility_it_is_told_how_many_cases_somebody_sees(access: Access) -> None:
    north, south = await access.facility("North"), await access.facility("South")
    cases = [await access.case(north) for _ in range(3)]
    (elsewhere, *_) = [await access.case(south) for _ in range(2)]
    jane = await access.user()
    await access.give(jane, north, PrivilegeLevel.DRAFT)
    await access.folders.grant_case(ADMIN, elsewhere, jane.id)
    await access.moves.begin_move(
        Move(MoveId(uuid4()), cases[0], north.id, south.id, False), preview=False
    )  # shown to nobody

    told = await access.explaining.explain_list(ADMIN, jane.id, None, 10)

    assert [(each.facility.name, each.level) for each in told] == [
        ("North", PrivilegeLevel.DRAFT),
        ("South", PrivilegeLevel.NONE),
    ]
    assert [(each.counted.cases, each.counted.shown) for each in told] == [(2, 2), (2, 1)]
    assert not any(each.hidden_by_filter or each.counted.has_more for each in told)
    (second,) = await access.explaining.explain_list(ADMIN, jane.id, ("North", north.id), 10)
    assert second.facility.id == south.id


async def test_of_a_large_facility_the_newest_cases_are_counted(access: Access) -> None:
    facility = await access.facility()
    jane = await access.user()
    studies = [a_study(received_at=NOON + timedelta(hours=hours)) for hours in range(3)]
    oldest, *_ = [await access.case(facility, study) for study in studies]
    await access.folders.grant_case(ADMIN, oldest, jane.id)

    async with access.database.statements() as statements:
        compiled = await statements.compiled_user(jane.login)
        assert compiled is not None
        counted = [await statements.count_shown(compiled, facility.id, most) for most in (2, 3)]

    assert counted == [Counted(2, 0, True), Counted(3, 1, False)]


@pytest.mark.proves("A73", part="explanations")
async def test_a_manager_is_told_of_their_own_facilities_only(access: Access) -> None:
    home, _ = await access.facility(), await access.facility()
    manager = await access.manager(home)
    theirs = await access.user(Role.FACILITY_USER, home_facility_id=home.id)
    foreign = await access.user(Role.FACILITY_USER)
    of_the_group = await access.user(Role.RADIOLOGIST, home_facility_id=home.id)

    def ask(user: User) -> Awaitable[list[ExplainedFacility]]:
        return access.explaining.explain_list(manager.login, user.id, None, 10)

    assert [each.facility.id for each in await ask(theirs)] == [home.id]
    await refused(ask(foreign), NotFound)
    await refused(ask(of_the_group), Denied)


# Who is told


@pytest.mark.proves("A73", part="explanations")
async def test_it_is_explained_to_whoever_administers_the_facility_of_the_case(access: Access) -> None:
    """And manages the user; what one does not know of is answered like what does not exist."""
    home, elsewhere = await access.facility(), await access.facility()
    here, there = await access.case(home), await access.case(elsewhere)
    manager = await access.manager(home)
    theirs, foreign = [
        await access.user(Role.FACILITY_USER, home_facility_id=each.id) for each in (home, elsewhere)
    ]
    nobody = UserId(uuid4())

    def ask(user_id: UserId, case_id: CaseId) -> Awaitable[Explanation]:
        return access.explaining.explain(manager.login, user_id, case_id)

    assert (await ask(theirs.id, here)).case.facility.id == home.id
    unknown = CaseId(uuid4())
    assert (await refused(ask(theirs.id, there), NotFound)).replace(str(there), "X") == (
        await refused(ask(theirs.id, unknown), NotFound)
    ).replace(str(unknown), "X")
    assert (await refused(ask(foreign.id, here), NotFound)).replace(str(foreign.id), "X") == (
        await refused(ask(nobody, here), NotFound)
    ).replace(str(nobody), "X")
    await access.give(manager, elsewhere, PrivilegeLevel.VIEW)
    assert "access.admin" in await refused(ask(theirs.id, there), Denied)
    for asker in (theirs, await access.user(Role.RADIOLOGIST)):
        await access.give(asker, home, PrivilegeLevel.VIEW)
        await refused(access.explaining.explain(asker.login, asker.id, here), Denied)


@pytest.mark.proves("A73", part="explanations")
async def test_to_the_facilitys_side_nobody_of_the_group_is_explained(access: Access) -> None:
    home = await access.facility()
    case_id = await access.case(home)
    manager = await access.manager(home)
    of_the_group = await access.user(Role.RADIOLOGIST, home_facility_id=home.id)
    of_the_facility = await access.user(Role.FACILITY_USER, home_facility_id=home.id)
    support = await access.user(
        Role.RADIOLOGY_SUPPORT, permissions={PermissionGrant(Permission.ADMINISTER_ACCESS, home.id)}
    )

    assert await explained(access, of_the_facility, case_id, manager.login)
    assert "belongs to the radiology group" in await refused(
        explained(access, of_the_group, case_id, manager.login), Denied
    )
    assert await explained(access, of_the_group, case_id, support.login)


async def test_a_folder_is_named_to_whom_it_exists_for(access: Access) -> None:
    home = await access.facility()
    case_id = await access.case(home)
    manager = await access.manager(home)
    theirs = await access.user(Role.FACILITY_USER, home_facility_id=home.id)
    foreign = await access.user(Role.RADIOLOGIST)
    for name, members in (("Board", (theirs,)), ("Anonymous", (theirs, foreign))):
        await access.folders.put_in_folder(ADMIN, await access.folder(*members, name=name), case_id)

    def names(told: Explanation) -> list[str]:
        return [folder.name for folder in told.paths[2].folders]

    assert names(await explained(access, theirs, case_id)) == ["Anonymous", "Board"]
    assert names(await explained(access, theirs, case_id, manager.login)) == ["", "Board"]


async def test_the_facility_may_be_unknown_yet(access: Access) -> None:
    """A case may come before what routing says of its facility."""
    facility = Facility(uuid4(), "", "UTC", 0)  # type: ignore[arg-type]
    case_id = await access.case(facility)

    told = await explained(access, await access.user(), case_id)

    assert (told.case.facility.name, told.decision.allowed) == ("", False)
