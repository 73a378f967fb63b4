"""Moves in access: who is shown what meanwhile, what ends, and which case moves without a hand."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from kernel.errors import Conflict, Denied, NotFound, Unavailable
from kernel.ids import CaseId, DeletionId, MoveId
from kernel.reading import PrivilegeLevel, ReadType
from services.access import events
from services.access.buckets import Standing
from services.access.caseindex import Placement
from services.access.domain import Permission, PermissionGrant, Role, User
from services.access.moves import PATIENCE, Ending, Move
from services.access.reading import NOT_READ, Projection
from services.access.status import ReadingState
from tests.access.builders import a_lock, a_placement, a_reading, a_study
from tests.access.conftest import ADMIN, Access
from tests.clocks import NOON

pytestmark = pytest.mark.proves("A17", part="every move asks access first")

PRE_READ = Projection(ReadingState.UNREAD, None, frozenset({ReadType.PRE_READ}), NOON)
REPORTED = Projection(ReadingState.FINAL, None, frozenset({ReadType.FINAL}), NOON)


class Scene:
    """A case at a hub, an endpoint, somebody who administers both and sees it, who sees cases at each."""

    def __init__(self, access: Access) -> None:
        self.access = access

    async def set(self) -> "Scene":
        access = self.access
        self.hub, self.endpoint = await access.facility("Hub"), await access.facility("Lakeside")
        self.study = a_study()
        self.placement = a_placement(self.hub.id, self.study, undistributed=True)
        await access.hear(self.study, self.placement)
        self.case_id = self.placement.case_id
        self.mover = await self.a_mover(Role.ADMINISTRATOR)
        self.at_hub, self.at_endpoint = await access.user(), await access.user()
        await access.give(self.mover, self.hub, PrivilegeLevel.VIEW)
        await access.give(self.at_hub, self.hub, PrivilegeLevel.REPORT)
        await access.give(self.at_endpoint, self.endpoint, PrivilegeLevel.REPORT)
        return self

    async def a_mover(self, role: Role, *more: Permission) -> User:
        held = {Permission.ADMINISTER_FACILITIES, *more}
        there = {PermissionGrant(each, at.id) for each in held for at in (self.hub, self.endpoint)}
        home = {"home_facility_id": self.hub.id} if role is Role.FACILITY_MANAGER else {}
        return await self.access.user(role, permissions=frozenset(there), **home)

    def move(self, by_hand: bool = True, **changes: object) -> Move:
        move = Move(MoveId(uuid4()), self.case_id, self.hub.id, self.endpoint.id, by_hand)
        return replace(move, **changes)  # type: ignore[arg-type]

    async def begin(self, by: User | None = None, *, preview: bool = False, **changes: object) -> Ending:
        move = self.move(**changes)  # type: ignore[arg-type]
        return await self.access.moves.begin_for((by or self.mover).login, move, preview=preview)

    def moved(self, move: Move) -> Placement:
        return replace(
            self.placement,
            facility_id=self.endpoint.id,
            undistributed=False,
            version=self.placement.version + 1,
            last_move_id=move.id,
        )

    async def seen_by(self, user: User) -> bool:
        """Whether a user sees the case, asked in every way."""
        checked = (await self.access.check(user, self.case_id)).allowed
        (many,) = await self.access.questions.check_many(user.login, [self.case_id])
        assert checked == many.allowed == (self.case_id in await self.access.worklist(user))
        return checked


@pytest.fixture
async def scene(access: Access) -> Scene:
    return await Scene(access).set()


# What is shown while a case moves


async def test_a_case_that_moves_is_shown_to_nobody_until_its_new_place_is_known(
    access: Access, scene: Scene
) -> None:
    guest = await access.user()
    await access.folders.grant_case(ADMIN, scene.case_id, guest.id)
    await access.folders.put_in_folder(ADMIN, await access.folder(guest), scene.case_id)
    move = scene.move()

    before = await access.revision()
    ending = await access.moves.begin_for(scene.mover.login, move, preview=False)

    assert (1, 1) == (ending.grant_count, ending.folder_count)
    for user in (scene.at_hub, scene.at_endpoint, guest):
        assert not await scene.seen_by(user)
    assert before < await access.revision()
    assert ("sight.changed.v1", str(scene.case_id)) in [fact[:2] for fact in await access.facts()]
    assert (scene.mover.login, "case.move_begun", "done") in await access.audited()

    await access.hear(scene.moved(move))

    assert [False, True, False] == [
        await scene.seen_by(user) for user in (scene.at_hub, scene.at_endpoint, guest)
    ]


async def test_a_move_that_routing_never_makes_ends_and_nobody_has_lost_anything(
    access: Access, scene: Scene
) -> None:
    guest = await access.user()
    await access.folders.grant_case(ADMIN, scene.case_id, guest.id)
    move = scene.move()
    await access.moves.begin_for(scene.mover.login, move, preview=False)

    assert 0 == await events.settle(access.moves)
    access.clock.pass_by(PATIENCE)
    assert 1 == await events.settle(access.moves)

    assert {move.id} == access.owners.given_up
    assert await scene.seen_by(scene.at_hub)
    assert await scene.seen_by(guest)
    assert 0 == await events.settle(access.moves)
    assert ("service:access", "case.move_given_up", "done") in await access.audited()


async def test_a_move_whose_fact_is_lost_is_found_made(access: Access, scene: Scene) -> None:
    move = scene.move()
    await access.moves.begin_for(scene.mover.login, move, preview=False)
    access.owners.made.add(move.id)
    access.owners.add(scene.moved(move))

    access.clock.pass_by(PATIENCE)
    await events.settle(access.moves)

    assert not await scene.seen_by(scene.at_hub)
    assert await scene.seen_by(scene.at_endpoint)


async def test_a_move_that_is_begun_again_long_after_it_was_made_ends(access: Access, scene: Scene) -> None:
    """The case is back where the move began, and routing has told all that it will ever tell of it."""
    there = scene.move()
    back = scene.move(from_facility_id=scene.endpoint.id, to_facility_id=scene.hub.id)
    for version, (move, at) in enumerate([(there, scene.endpoint), (back, scene.hub)], 2):
        await access.moves.begin_for(scene.mover.login, move, preview=False)
        access.owners.made.add(move.id)
        await access.hear(replace(scene.moved(move), facility_id=at.id, version=version))

    await access.moves.begin_for(scene.mover.login, there, preview=False)
    assert not await scene.seen_by(scene.at_hub)
    access.clock.pass_by(PATIENCE)
    await events.settle(access.moves)

    assert await scene.seen_by(scene.at_hub)
    assert ("service:access", "case.move_given_up", "done") not in await access.audited()


async def test_what_else_is_heard_of_a_case_that_moves_does_not_show_it(access: Access, scene: Scene) -> None:
    await scene.begin()

    await access.hear(replace(scene.study, version=2, settled=True))
    await access.hear(replace(scene.placement, version=2))

    assert not await scene.seen_by(scene.at_hub)


async def test_a_page_is_as_full_as_if_the_case_that_moves_were_not_there(
    access: Access, scene: Scene
) -> None:
    older = a_study(received_at=NOON - timedelta(hours=1))
    other = await access.case(scene.hub, older)
    await scene.begin()

    assert [other] == await access.worklist(scene.at_hub, limit=1)


async def test_a_case_that_moves_can_neither_be_shown_to_others_nor_deleted(
    access: Access, scene: Scene
) -> None:
    guest, deleter = (
        await access.user(),
        await access.user(permissions=frozenset({PermissionGrant(Permission.DELETE_STUDY)})),
    )
    await access.give(deleter, scene.hub, PrivilegeLevel.VIEW)
    await scene.begin()

    with pytest.raises(NotFound):
        await access.folders.grant_case(ADMIN, scene.case_id, guest.id)
    with pytest.raises(NotFound):
        await access.deletions.begin_delete(
            deleter.login, "s", scene.case_id, DeletionId(uuid4()), force=False
        )


async def test_the_same_move_is_answered_the_same_again_and_another_one_waits(
    access: Access, scene: Scene
) -> None:
    move = scene.move()
    first = await access.moves.begin_for(scene.mover.login, move, preview=False)
    revision = await access.revision()

    assert first == await access.moves.begin_for(scene.mover.login, move, preview=False)
    assert revision == await access.revision()
    with pytest.raises(Conflict, match="being moved"):
        await scene.begin()


async def test_a_preview_tells_what_ends_and_does_nothing(access: Access, scene: Scene) -> None:
    guest = await access.user()
    await access.folders.grant_case(ADMIN, scene.case_id, guest.id)
    await access.folders.put_in_folder(ADMIN, await access.folder(guest, name="Board"), scene.case_id)
    may_know = await scene.a_mover(Role.ADMINISTRATOR, Permission.ADMINISTER_ACCESS)
    revision = await access.revision()

    assert Ending(1, 1) == await scene.begin(preview=True)
    assert Ending(1, 1, (guest.login,), ("Board",)) == await scene.begin(may_know, preview=True)
    assert revision == await access.revision()
    assert await scene.seen_by(scene.at_hub)


# Who may move, and what


async def test_who_does_not_administer_both_facilities_moves_nothing(access: Access, scene: Scene) -> None:
    for at in (scene.hub, scene.endpoint):
        half = {PermissionGrant(Permission.ADMINISTER_FACILITIES, at.id)}
        user = await access.user(permissions=frozenset(half))
        with pytest.raises(Denied, match=r"facility\.admin"):
            await scene.begin(user)
    assert await scene.seen_by(scene.at_hub)


async def test_where_access_has_not_heard_where_the_case_is_the_move_waits(
    access: Access, scene: Scene
) -> None:
    with pytest.raises(Unavailable):
        await scene.begin(case_id=CaseId(uuid4()))
    with pytest.raises(Unavailable):
        await scene.begin(from_facility_id=scene.endpoint.id, to_facility_id=scene.hub.id)
    unknown = await access.user(
        Role.ADMINISTRATOR, permissions=frozenset({PermissionGrant(Permission.ADMINISTER_FACILITIES)})
    )
    with pytest.raises(NotFound):
        await scene.begin(unknown, to_facility_id=uuid4())


@pytest.mark.parametrize(
    ("reading", "drafted", "why"),
    [
        (Projection(lock=a_lock("Dr. Roe")), False, "locked by `Dr. Roe`"),
        (NOT_READ, True, "draft"),
        (REPORTED, False, "report"),
        (PRE_READ, False, "report"),
    ],
    ids=["locked", "drafted", "reported", "pre-read"],
)
async def test_a_case_that_somebody_works_on_stays(
    access: Access, scene: Scene, reading: Projection, drafted: bool, why: str
) -> None:
    await access.hear(replace(a_reading(scene.case_id, reading), drafted=drafted))

    for preview in (True, False):
        with pytest.raises(Conflict, match=why):
            await scene.begin(preview=preview)
    assert await scene.seen_by(scene.at_hub)


@pytest.mark.proves("REP-4", part="a refused move tells nothing of a pre-read")
async def test_the_facility_side_is_not_told_whether_there_is_a_draft_or_a_report(
    access: Access, scene: Scene
) -> None:
    """A lock of the past is all that may show: they could have seen it."""
    manager = await scene.a_mover(Role.FACILITY_MANAGER)
    told = set()

    for version, (group, drafted) in enumerate(
        [(NOT_READ, False), (NOT_READ, True), (PRE_READ, False), (REPORTED, False)], 1
    ):
        await access.hear(replace(a_reading(scene.case_id, group, NOT_READ, version), drafted=drafted))
        for by_hand in (True, False):
            with pytest.raises(Conflict) as refusal:
                await scene.begin(manager, by_hand=by_hand)
            told.add((by_hand, refusal.value.sentence))

    assert 2 == len(told)


async def test_a_lock_that_has_ended_and_left_nothing_keeps_nobody_of_the_group_from_moving(
    access: Access, scene: Scene
) -> None:
    await access.hear(a_reading(scene.case_id, Projection(lock=a_lock("Dr. Roe"))))
    access.clock.pass_by(timedelta(hours=1))

    assert Ending(0, 0) == await scene.begin()


async def test_a_shared_case_stays_until_its_share_has_ended(access: Access, scene: Scene) -> None:
    friend = await access.user()
    await access.share(friend, scene.case_id, ends_at=NOON + timedelta(days=1))

    with pytest.raises(Conflict, match="shared"):
        await scene.begin()
    access.clock.pass_by(timedelta(days=1))
    assert await scene.begin() == Ending(0, 0)


@pytest.mark.parametrize("unblocked", ["while it moves", "afterwards"])
async def test_a_share_that_was_blocked_when_its_case_moved_never_shows_it_again(
    access: Access, scene: Scene, unblocked: str
) -> None:
    friend = await access.user()
    ends_at = NOON + timedelta(days=1)
    bucket_id = await access.share(friend, scene.case_id, is_open=False, ends_at=ends_at)
    unblock = [Standing(bucket_id, 1, True, ends_at)]
    move = scene.move()

    await access.moves.begin_for(scene.mover.login, move, preview=False)
    if unblocked == "while it moves":
        await access.buckets.change_buckets(unblock)
    await access.hear(scene.moved(move))
    await access.buckets.change_buckets(unblock)

    assert not await scene.seen_by(friend)
    assert await scene.seen_by(scene.at_endpoint)
    assert ("service:access", "bucket.case_ended", "done") in await access.audited()


async def test_a_case_that_is_being_deleted_is_none(access: Access, scene: Scene) -> None:
    deleter = await access.user(permissions=frozenset({PermissionGrant(Permission.DELETE_STUDY)}))
    await access.give(deleter, scene.hub, PrivilegeLevel.VIEW)
    await access.deletions.begin_delete(deleter.login, "s", scene.case_id, DeletionId(uuid4()), force=False)

    with pytest.raises(NotFound):
        await scene.begin()


# Without a hand


async def test_a_case_that_nobody_has_touched_moves_without_a_hand(access: Access, scene: Scene) -> None:
    move = scene.move(by_hand=False)

    assert [scene.case_id] == await access.worklist(scene.at_hub)  # shows no images
    assert Ending(0, 0) == await access.moves.begin_move(move, preview=True)


@pytest.mark.parametrize(
    "touch", ["granted", "in a folder", "shared", "moved by hand", "read", "drafted", "images shown"]
)
async def test_a_case_that_was_ever_touched_moves_by_hand_only(
    access: Access, scene: Scene, touch: str
) -> None:
    friend = await access.user()
    match touch:
        case "granted":
            await access.folders.grant_case(ADMIN, scene.case_id, friend.id)
            await access.folders.revoke_grant(ADMIN, scene.case_id, friend.id)
        case "in a folder":
            folder_id = await access.folder(friend)
            await access.folders.put_in_folder(ADMIN, folder_id, scene.case_id)
            await access.folders.remove_from_folder(ADMIN, folder_id, scene.case_id)
        case "shared":
            await access.share(friend, scene.case_id, is_open=False)
        case "moved by hand":
            await scene.begin()
            access.clock.pass_by(PATIENCE)
            await events.settle(access.moves)
        case "read":
            await access.hear(a_reading(scene.case_id))
        case "drafted":
            await access.hear(replace(a_reading(scene.case_id), drafted=True))
        case "images shown":
            assert (await access.check(scene.at_hub, scene.case_id)).studies

    with pytest.raises(Conflict, match="a person must move it"):
        await access.moves.begin_move(scene.move(by_hand=False), preview=False)
    if touch != "drafted":
        assert Ending(0, 0) == await scene.begin()


async def test_images_are_shown_or_the_case_moves_never_both(access: Access, scene: Scene) -> None:
    move = scene.move(by_hand=False)
    async with access.database.transaction() as transaction:
        await transaction.hold_case(move.case_id)
        assert (await transaction.movable(move.case_id, transaction.now)) is not None
        await transaction.begin_move(move)
        asked = asyncio.create_task(access.check(scene.at_hub, scene.case_id))
        await asyncio.wait([asked], timeout=0.2)  # it waits for the row
        assert not asked.done()

    decision = await asked

    assert (False, ()) == (decision.allowed, decision.studies)


async def test_what_the_version_before_indexed_moves_by_hand_only(access: Access, scene: Scene) -> None:
    """It did not note who was shown what."""
    await access.query("update cases set untouched = default")

    with pytest.raises(Conflict, match="a person must move it"):
        await access.moves.begin_move(scene.move(by_hand=False), preview=False)
    assert Ending(0, 0) == await scene.begin()


async def test_only_a_user_moves_by_hand(access: Access, scene: Scene) -> None:
    with pytest.raises(Denied):
        await access.moves.begin_move(scene.move(by_hand=True), preview=False)
