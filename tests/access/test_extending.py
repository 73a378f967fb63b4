"""A later end is granted anew: by whoever could share the same now, and by nobody else."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from kernel.errors import Conflict, Denied, Invalid, NotFound, ReadroomError, Unauthenticated
from kernel.ids import BucketId
from kernel.reading import PrivilegeLevel
from services.access.caseindex import Placement
from services.access.domain import Permission, PermissionGrant, Role, User
from tests.access.conftest import END, Scene, refused
from tests.clocks import NOON

LATER = END + timedelta(days=1)


async def tried(act: Awaitable[Any]) -> type[ReadroomError] | None:
    try:
        await act
    except ReadroomError as error:
        return type(error)
    return None


async def everywhere(
    scene: Scene, *permissions: Permission, level: PrivilegeLevel = PrivilegeLevel.NONE
) -> User:
    """A user with exactly these permissions, everywhere, and this level at the facility."""
    user = await scene.access.user(
        Role.FACILITY_USER, permissions=frozenset(PermissionGrant(each) for each in permissions)
    )
    await scene.access.give(user, scene.facility, level)
    return user


IMAGES, REPORTS, CREATE = Permission.VIEW_IMAGES, Permission.VIEW_REPORT, Permission.CREATE_SHARE
EACH = (IMAGES, REPORTS, CREATE, Permission.ADMINISTER_SHARES)


async def test_who_could_share_the_same_now_makes_it_longer_and_nobody_else_does(scene: Scene) -> None:
    bucket_id = await scene.grant(scene.a_share())
    may = await everywhere(scene, *EACH[:3], level=PrivilegeLevel.VIEW)
    may_not = [
        await everywhere(scene, *EACH),
        *[await everywhere(scene, *set(EACH) - {each}, level=PrivilegeLevel.VIEW) for each in EACH[:3]],
        scene.john,
    ]

    for actor in may_not:
        as_a_share = await tried(scene.grant(scene.a_share(), by=actor))
        assert as_a_share in (Denied, NotFound)
        assert as_a_share is await tried(scene.extend(bucket_id, 1, by=actor, ends_at=LATER))
    assert [END] == await scene.ends(bucket_id)

    await scene.extend(bucket_id, 1, by=may, ends_at=LATER)
    assert [LATER] == await scene.ends(bucket_id)
    assert (may.login, "bucket.extended", "done") == (await scene.access.audited())[-1]
    assert (scene.john.login, "bucket.extended", "refused") in await scene.access.audited()


async def test_a_sender_who_lost_images_and_reports_makes_nothing_longer(scene: Scene) -> None:
    bucket_id = await scene.grant(scene.a_share())
    async with scene.access.database.transaction() as transaction:
        await transaction.save_user(
            replace(scene.sender, permissions=frozenset({PermissionGrant(CREATE)}), version=9), by="ada"
        )

    await refused(scene.extend(bucket_id, 1, ends_at=None), Denied, "case_ids")
    assert [END] == await scene.ends(bucket_id)


async def test_nobody_makes_longer_what_was_shared_with_themself(scene: Scene) -> None:
    bucket_id = await scene.grant(scene.a_share(scene.john))
    await scene.access.give(scene.john, scene.facility, PrivilegeLevel.VIEW)

    await refused(scene.extend(bucket_id, 1, by=scene.john, ends_at=None), Invalid, "recipients")


async def test_a_sender_or_recipient_who_was_deactivated_is_as_in_a_new_share(scene: Scene) -> None:
    bucket_id = await scene.grant(scene.a_share())
    async with scene.access.database.transaction() as transaction:
        await transaction.save_user(replace(scene.jane, active=False, version=9), by="ada")
    await refused(scene.extend(bucket_id, 1, ends_at=LATER), Invalid, "recipients")

    async with scene.access.database.transaction() as transaction:
        await transaction.save_user(replace(scene.sender, active=False, version=9), by="ada")
    await refused(scene.extend(bucket_id, 1, ends_at=LATER), Unauthenticated, None)


async def a_chain(scene: Scene, **changes: Any) -> tuple[BucketId, BucketId]:
    """The sender shares with jane, who shares on with john."""
    parent = await scene.grant(scene.a_share(allow_further_sharing=True, **changes))
    child = scene.a_share(scene.john, parent_id=parent, **changes | {"ends_at": END - timedelta(days=1)})
    if changes.get("two_factor"):
        await scene.access.buckets.register_session(parent, "phone")
    return parent, await scene.grant(child, by=scene.jane, session="phone")


@pytest.mark.proves("A46", part="an extension stays within what it came from")
async def test_what_was_shared_on_is_made_longer_by_who_received_it_or_by_privilege_within_its_end(
    scene: Scene,
) -> None:
    parent, child = await a_chain(scene)
    third = await scene.access.user(Role.REFERRING_PHYSICIAN)
    await scene.grant(scene.a_share(third, allow_further_sharing=True))

    for actor in (scene.jane, scene.sender):
        for ends_at in (LATER, None):
            await refused(scene.extend(child, 9, by=actor, ends_at=ends_at), Invalid, "valid_till")
    # They have received the case too, but not what this was shared on from.
    await refused(scene.extend(child, 9, by=third, ends_at=END), Denied, None)
    await refused(scene.extend(parent, 9, by=third, ends_at=END), Denied, None)

    await scene.extend(child, 1, by=scene.jane, ends_at=END)
    await scene.extend(parent, 1, by=scene.sender, ends_at=None)
    await scene.extend(child, 2, by=scene.sender, ends_at=LATER)
    assert [LATER, None] == await scene.ends(child, parent)
    await scene.change(parent, 2, is_open=False)
    for actor in (scene.jane, scene.sender):
        await refused(scene.extend(child, 9, by=actor, ends_at=END), Conflict, None)


async def test_what_asks_for_a_code_is_made_longer_in_a_session_with_one_or_by_privilege(
    scene: Scene,
) -> None:
    _, child = await a_chain(scene, two_factor=True)

    await refused(scene.extend(child, 1, by=scene.jane, session="laptop"), NotFound, "case_id")
    await scene.extend(child, 1, by=scene.jane, session="phone")
    await scene.extend(child, 2, by=scene.sender)
    await scene.access.give(scene.jane, scene.facility, PrivilegeLevel.VIEW)
    await refused(scene.extend(child, 3, by=scene.jane, session="laptop"), Denied, None)


@pytest.mark.parametrize("how", ["extended", "shared on"])
async def test_a_case_that_moved_is_neither_made_longer_nor_shared_on(scene: Scene, how: str) -> None:
    bucket_id = await scene.grant(scene.a_share(allow_further_sharing=True))
    south = await scene.access.facility()
    await scene.access.give(scene.sender, south, PrivilegeLevel.VIEW)
    placement: Placement = scene.access.owners.placements[scene.cases[0]]
    await scene.access.hear(replace(placement, facility_id=south.id, version=2))
    acts: dict[str, Callable[[], Awaitable[Any]]] = {
        "extended": lambda: scene.extend(bucket_id, 1),
        "shared on": lambda: scene.grant(scene.a_share(scene.john, parent_id=bucket_id), by=scene.jane),
    }

    await refused(acts[how](), Conflict, None)
    assert [] == await scene.sees(scene.john)


async def test_only_a_newer_version_counts_and_the_same_again_is_the_same_answer(scene: Scene) -> None:
    bucket_id = await scene.grant(scene.a_share())
    revision = await scene.extend(bucket_id, 2, ends_at=LATER)
    await scene.access.give(scene.sender, scene.facility, PrivilegeLevel.NONE)

    assert await scene.access.revision() == await scene.extend(bucket_id, 2, ends_at=LATER) > revision
    await scene.access.give(scene.sender, scene.facility, PrivilegeLevel.VIEW)
    for version, ends_at in ((2, None), (1, LATER)):
        await refused(scene.extend(bucket_id, version, ends_at=ends_at), Conflict, "bucket_id")
    await refused(scene.extend(bucket_id, 3, ends_at=NOON), Invalid, "valid_till")
    await scene.change(bucket_id, 4, is_open=False)
    await refused(scene.extend(bucket_id, 3), Conflict, "bucket_id")
    assert [] == await scene.sees(scene.jane)


async def test_what_is_not_known_or_was_never_granted_is_not_made_longer(scene: Scene) -> None:
    told = BucketId(uuid4())
    await scene.change(told, 1)

    for bucket_id in (told, BucketId(uuid4())):
        await refused(scene.extend(bucket_id, 2), NotFound, "bucket_id")


async def test_of_a_deleted_case_nothing_is_made_longer(scene: Scene) -> None:
    bucket_id = await scene.grant(scene.a_share(case_ids=tuple(scene.cases)))
    async with scene.access.database.transaction() as transaction:
        await transaction.connection.execute("delete from cases where case_id = $1", scene.cases[0])
    await scene.extend(bucket_id, 1, ends_at=LATER)
    assert scene.cases[1:] == await scene.sees(scene.jane)

    async with scene.access.database.transaction() as transaction:
        await transaction.connection.execute("delete from cases where case_id = $1", scene.cases[1])
    await refused(scene.extend(bucket_id, 2, ends_at=LATER), NotFound, "bucket_id")


async def test_an_extension_and_the_news_that_it_is_closed_end_closed_in_any_order(scene: Scene) -> None:
    bucket_id = await scene.grant(scene.a_share())
    for version in range(1, 11, 2):
        await asyncio.gather(
            scene.extend(bucket_id, version, ends_at=LATER),
            scene.change(bucket_id, version + 1, is_open=False),
            return_exceptions=True,
        )
        assert [] == await scene.sees(scene.jane)


async def test_a_privilege_that_is_taken_meanwhile_makes_nothing_longer(scene: Scene) -> None:
    """Whichever comes first: afterwards there is no extension by who could not share it then."""
    bucket_id = await scene.grant(scene.a_share())
    for version in range(1, 6):
        await scene.access.give(scene.sender, scene.facility, PrivilegeLevel.VIEW)
        before = await scene.ends(bucket_id)
        wanted = LATER + timedelta(days=version)
        done, _ = await asyncio.gather(
            tried(scene.extend(bucket_id, version, ends_at=wanted)),
            scene.access.give(scene.sender, scene.facility, PrivilegeLevel.NONE),
        )
        assert ([wanted] if done is None else before) == await scene.ends(bucket_id)
        assert NotFound is await tried(scene.extend(bucket_id, version + 100, ends_at=None))
