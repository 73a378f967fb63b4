"""What a share shows, until when and in which session; and how buckets stand."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

import pytest

from kernel.clock import MAX_LEAD, MonotonicClock
from kernel.errors import Conflict, NotFound, Unauthenticated
from kernel.ids import BucketId
from kernel.reading import PUBLIC_READ_TYPES, PrivilegeLevel, Side
from services.access.buckets import Grant, Share, Standing
from services.access.domain import Path, Role
from tests.access.builders import a_study
from tests.access.conftest import END, Access, Scene, refused
from tests.clocks import NOON

INSTANT = timedelta(microseconds=1)


# What is shown


@pytest.mark.proves("A6")
@pytest.mark.proves("SHR-12")
async def test_a_recipient_sees_the_shared_cases_and_nobody_else_does(scene: Scene) -> None:
    before = await scene.access.revision()

    facility_id, revision = await scene.access.buckets.grant_buckets(scene.sender.login, "", scene.a_share())

    assert (scene.facility.id, before + 1) == (facility_id, revision)
    assert scene.cases[:1] == await scene.sees(scene.jane)
    assert [] == await scene.sees(scene.john)
    decision = await scene.access.check(scene.jane, scene.cases[0])
    assert (PrivilegeLevel.VIEW, True, True, (Path.SHARE,), Side.FACILITY) == (
        decision.level,
        decision.images,
        decision.reports,
        decision.paths,
        decision.side,
    )
    assert decision.studies


async def test_each_recipient_has_a_bucket_of_his_own(scene: Scene) -> None:
    share = scene.a_share(scene.jane, scene.john, case_ids=tuple(scene.cases))
    await scene.grant(share)

    await scene.change(share.grants[0].bucket_id, 1, is_open=False)

    assert [[], scene.cases] == [await scene.sees(scene.jane), await scene.sees(scene.john)]


@pytest.mark.proves("SHR-29", part="access's list, to the microsecond")
@pytest.mark.proves("R11", part="the end of a share")
async def test_a_share_ends_exactly_at_its_instant(scene: Scene) -> None:
    await scene.grant(scene.a_share())

    scene.access.clock.at = END - INSTANT
    assert scene.cases[:1] == await scene.sees(scene.jane)

    scene.access.clock.at = END
    assert [] == await scene.sees(scene.jane)


async def test_a_share_without_an_end_does_not_end(scene: Scene) -> None:
    await scene.grant(scene.a_share(ends_at=None))

    scene.access.clock.at = datetime(9999, 12, 31, tzinfo=END.tzinfo)
    assert scene.cases[:1] == await scene.sees(scene.jane)


@pytest.mark.proves("R11", part="the end of a share")
async def test_what_has_ended_stays_so_when_the_clock_is_stepped_back(scene: Scene) -> None:
    """The wall may step back a little; `now` does not, and only a renewal opens what has ended."""
    wall = scene.access.clock
    steady = MonotonicClock(lambda: wall.at)
    scene.access.database._clock = scene.access.questions._clock = steady
    bucket_id = await scene.grant(scene.a_share())
    wall.at = END
    assert [] == await scene.sees(scene.jane)

    wall.at = END - MAX_LEAD
    assert [] == await scene.sees(scene.jane)

    await scene.extend(bucket_id, 1, ends_at=END + timedelta(days=1))
    assert scene.cases[:1] == await scene.sees(scene.jane)


@pytest.mark.proves("A57")
async def test_two_factor_gives_sight_only_in_the_session_that_a_code_has_registered(scene: Scene) -> None:
    bucket_id = await scene.grant(scene.a_share(two_factor=True))
    other = await scene.grant(scene.a_share(scene.john, two_factor=True))
    assert [] == await scene.sees(scene.jane, "phone")

    await scene.access.buckets.register_session(bucket_id, "phone")
    await scene.access.buckets.register_session(other, "laptop")

    assert scene.cases[:1] == await scene.sees(scene.jane, "phone")
    assert [[], [], []] == [await scene.sees(scene.jane, each) for each in ("laptop", "", "PHONE")]
    assert [] == await scene.sees(scene.john, "phone")


async def test_a_registered_session_opens_nothing_that_is_closed_or_has_ended(scene: Scene) -> None:
    bucket_id = await scene.grant(scene.a_share(two_factor=True))
    await scene.change(bucket_id, 1, is_open=False)

    await scene.access.buckets.register_session(bucket_id, "phone")
    assert [] == await scene.sees(scene.jane, "phone")

    await scene.change(bucket_id, 2, is_open=True)
    assert scene.cases[:1] == await scene.sees(scene.jane, "phone")
    scene.access.clock.at = END
    assert [] == await scene.sees(scene.jane, "phone")


@pytest.mark.proves("A57", part="what has ended forgets its sessions")
async def test_a_bucket_that_has_ended_forgets_in_which_sessions_it_was_open(scene: Scene) -> None:
    ending, blocked = [await scene.grant(scene.a_share(two_factor=True)) for _ in range(2)]
    for bucket_id in (ending, blocked):
        await scene.access.buckets.register_session(bucket_id, "phone")

    await scene.change(ending, 1, is_open=False, has_ended=True)
    await scene.change(blocked, 1, is_open=False)

    left = await scene.access.query(
        "select bucket_id from bucket_sessions where bucket_id = any($1)", [ending, blocked]
    )
    assert [blocked] == [row["bucket_id"] for row in left]


async def test_of_several_shares_of_a_case_each_counts(scene: Scene) -> None:
    """One with write access, and one in another session, take nothing from the plain one."""
    radiologist = await scene.access.user()
    plain = await scene.grant(scene.a_share(radiologist))
    writing = await scene.grant(scene.a_share(radiologist, two_factor=True, write_report=True))
    await scene.access.buckets.register_session(writing, "phone")

    levels = [(await scene.access.check(radiologist, scene.cases[0], each)).level for each in ("", "phone")]
    assert [PrivilegeLevel.VIEW, PrivilegeLevel.REPORT] == levels
    assert scene.cases[:1] == await scene.access.worklist(radiologist, session="phone")

    await scene.change(plain, 1, is_open=False)
    assert [[], scene.cases[:1]] == [await scene.sees(radiologist, each) for each in ("", "phone")]


@pytest.mark.proves("A45")
async def test_write_access_reaches_as_far_as_the_shared_cases_and_the_share(scene: Scene) -> None:
    radiologist = await scene.access.user()
    await scene.access.give(radiologist, scene.facility, PrivilegeLevel.VIEW)
    await scene.grant(scene.a_share(radiologist, write_report=True))

    shared, other = [await scene.access.check(radiologist, each) for each in scene.cases]
    assert (PrivilegeLevel.REPORT, PUBLIC_READ_TYPES) == (shared.level, shared.read_types)
    assert (PrivilegeLevel.VIEW, frozenset()) == (other.level, other.read_types)
    listed = await scene.access.questions.list_cases(radiologist.login, None, 9, at_least=0)
    assert {scene.cases[0]: PrivilegeLevel.REPORT, scene.cases[1]: PrivilegeLevel.VIEW} == {
        case.case_id: case.level for case in listed
    }

    scene.access.clock.at = END
    ended = await scene.access.check(radiologist, scene.cases[0])
    assert (PrivilegeLevel.VIEW, frozenset(), (Path.PRIVILEGE,)) == (
        ended.level,
        ended.read_types,
        ended.paths,
    )


async def test_who_is_deactivated_or_blind_sees_nothing_of_what_was_shared_with_him(scene: Scene) -> None:
    await scene.grant(scene.a_share(scene.jane, scene.john))
    async with scene.access.database.transaction() as transaction:
        await transaction.save_user(replace(scene.jane, active=False, version=2), by="ada")
        await transaction.save_user(replace(scene.john, role=Role.OPERATOR, version=2), by="ada")

    assert [] == await scene.sees(scene.john)
    with pytest.raises(Unauthenticated):
        await scene.sees(scene.jane)


async def test_a_case_that_moves_stays_shared(scene: Scene) -> None:
    """As a grant does: the share names the case, wherever it belongs."""
    await scene.grant(scene.a_share())
    other = await scene.access.facility()
    placement = scene.access.owners.placements[scene.cases[0]]
    await scene.access.hear(replace(placement, facility_id=other.id, version=2))

    assert scene.cases[:1] == await scene.sees(scene.jane)
    assert [] == await scene.access.worklist(scene.jane, facility_id=scene.facility.id)
    assert scene.cases[:1] == await scene.access.worklist(scene.jane, facility_id=other.id)


async def test_a_case_in_several_shares_takes_one_place_on_a_page(access: Access) -> None:
    facility, user = await access.facility(), await access.user()
    cases = [
        await access.case(facility, a_study(received_at=NOON + timedelta(minutes=minute)))
        for minute in range(4)
    ]
    for _ in range(3):
        await access.share(user, *cases)

    assert cases[:0:-1] == await access.worklist(user, limit=3)


# How buckets stand


async def test_only_what_is_newer_counts(scene: Scene) -> None:
    bucket_id = await scene.grant(scene.a_share())
    revision = await scene.change(bucket_id, 3, is_open=False)

    for version in (1, 2, 3):
        assert revision == await scene.change(bucket_id, version)
    assert [] == await scene.sees(scene.jane)

    assert revision + 1 == await scene.change(bucket_id, 4)
    assert scene.cases[:1] == await scene.sees(scene.jane)


async def test_of_two_changes_told_at_once_the_newer_counts(scene: Scene) -> None:
    bucket_id = await scene.grant(scene.a_share())
    closed, opened = Standing(bucket_id, 2, False, END), Standing(bucket_id, 1, True, END)

    for changes in ([closed, opened], [opened, closed]):
        await scene.access.buckets.change_buckets(changes)
        assert [] == await scene.sees(scene.jane)


async def test_what_sharing_says_by_itself_shortens_and_never_makes_longer(scene: Scene) -> None:
    bucket_id = await scene.grant(scene.a_share())
    one, two = Standing(bucket_id, 2, True, END - INSTANT), Standing(bucket_id, 3, True, None)

    await scene.change(bucket_id, 1, ends_at=None)
    assert [END] == await scene.ends(bucket_id)
    await scene.access.buckets.change_buckets([two, one])
    assert [END - INSTANT] == await scene.ends(bucket_id)
    await scene.change(bucket_id, 4, ends_at=NOON)
    assert [] == await scene.sees(scene.jane)
    await scene.change(bucket_id, 5, ends_at=END)
    assert [] == await scene.sees(scene.jane)


@pytest.mark.parametrize("is_open", [False, True])
async def test_a_grant_that_comes_after_its_bucket_was_told_of_opens_nothing(
    scene: Scene, is_open: bool
) -> None:
    share = scene.a_share(scene.jane, scene.john)
    await scene.change(share.grants[1].bucket_id, 1, is_open=is_open)

    await refused(scene.grant(share), Conflict, "bucket_id")

    assert [[], []] == [await scene.sees(scene.jane), await scene.sees(scene.john)]


async def test_the_same_grant_again_is_the_same_answer(scene: Scene) -> None:
    """The answer was lost, and sharing asks again: nothing happens twice, whatever else changed since."""
    share = scene.a_share(scene.jane, scene.john, two_factor=True, case_ids=tuple(scene.cases))
    first = await scene.access.buckets.grant_buckets(scene.sender.login, "", share)
    facts = await scene.access.facts()
    await scene.access.give(scene.sender, scene.facility, PrivilegeLevel.NONE)

    facility_id, revision = await scene.access.buckets.grant_buckets(scene.sender.login, "", share)

    assert (first[0], await scene.access.revision()) == (facility_id, revision)
    assert [f for f in facts if f[0] == "sight.changed.v1"] == [
        f for f in await scene.access.facts() if f[0] == "sight.changed.v1"
    ]


CONTENT: dict[str, Callable[[Scene, Share], Share]] = {
    "cases": lambda scene, share: replace(share, case_ids=tuple(scene.cases)),
    "end": lambda scene, share: replace(share, ends_at=END + INSTANT),
    "no end": lambda scene, share: replace(share, ends_at=None),
    "rights": lambda scene, share: replace(share, write_report=True),
    "further sharing": lambda scene, share: replace(share, allow_further_sharing=True),
    "recipient": lambda scene, share: replace(
        share, grants=(replace(share.grants[0], recipient_login=scene.john.login),)
    ),
    "nobody": lambda scene, share: replace(
        share, grants=(replace(share.grants[0], recipient_login="nobody"),)
    ),
    "two-factor": lambda scene, share: replace(share, grants=(replace(share.grants[0], two_factor=True),)),
    "one more": lambda scene, share: replace(
        share, grants=(*share.grants, Grant(BucketId(uuid4()), scene.john.login, two_factor=False))
    ),
    "parent": lambda scene, share: replace(share, parent_id=BucketId(uuid4())),
}


async def test_another_grant_under_the_same_id_is_a_conflict(scene: Scene) -> None:
    share = scene.a_share()
    await scene.grant(share)

    for change in CONTENT.values():
        await refused(scene.grant(change(scene, share)), Conflict, "bucket_id")
    await scene.access.give(scene.john, scene.facility, PrivilegeLevel.VIEW)
    await refused(scene.grant(share, by=scene.john), Conflict, "bucket_id")
    assert [scene.cases[:1], scene.cases] == [await scene.sees(scene.jane), await scene.sees(scene.john)]


async def test_a_grant_that_was_closed_since_is_not_opened_by_saying_it_again(scene: Scene) -> None:
    share = scene.a_share()
    await scene.change(await scene.grant(share), 1, is_open=False)

    await refused(scene.grant(share), Conflict, "bucket_id")
    assert [] == await scene.sees(scene.jane)


async def test_a_grant_and_the_news_that_it_is_closed_end_closed_in_any_order(scene: Scene) -> None:
    for _ in range(5):
        share = scene.a_share()
        bucket_id = share.grants[0].bucket_id

        await asyncio.gather(
            scene.grant(share), scene.change(bucket_id, 1, is_open=False), return_exceptions=True
        )

        assert [] == await scene.sees(scene.jane)


async def test_acts_are_audited_and_told_without_a_word_of_the_patient(scene: Scene) -> None:
    bucket_id = await scene.grant(scene.a_share(two_factor=True))
    await scene.access.buckets.register_session(bucket_id, "phone")
    await scene.access.buckets.register_session(bucket_id, "phone")
    await scene.change(bucket_id, 1, is_open=False)
    await refused(scene.grant(scene.a_share(), by=scene.john), NotFound, "case_id")

    assert [
        (scene.sender.login, "buckets.granted", "done"),
        ("service:sharing", "bucket.session_registered", "done"),
        ("service:sharing", "bucket.changed", "done"),
        (scene.john.login, "buckets.granted", "refused"),
    ] == (await scene.access.audited())[-4:]
    told = [fact[1] for fact in await scene.access.facts() if fact[0] == "sight.changed.v1"]
    assert [str(scene.cases[0])] * 3 == told
    written = await scene.access.query(
        "select detail::text from audit_rows union select payload::text from outbox"
    )
    assert not [row for row in written if "Doe" in row[0] or "phone" in row[0]]
