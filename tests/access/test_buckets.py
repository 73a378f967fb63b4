"""What a share shows, until when and in which session; who may grant it, and what is refused."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.clock import MonotonicClock
from kernel.errors import Conflict, Denied, Invalid, NotFound, ReadroomError, Unauthenticated
from kernel.ids import BucketId, CaseId, FacilityId
from services.access.buckets import MAX_CASES, MAX_CHANGES, Grant, Share, Standing, initials
from services.access.domain import (
    PUBLIC_READ_TYPES,
    Facility,
    Level,
    Path,
    Permission,
    PermissionGrant,
    Role,
    Side,
    User,
)
from tests.access.builders import NOON, a_bucket, a_study, a_user
from tests.access.conftest import ADMIN, Access

END = NOON + timedelta(days=30)
INSTANT = timedelta(microseconds=1)


@dataclass
class Scene:
    """Two cases of a facility, a radiologist who sees them, and two physicians who do not."""

    access: Access
    facility: Facility
    cases: list[CaseId]
    sender: User
    jane: User
    john: User

    def a_share(self, *recipients: User, two_factor: bool = False, **changes: Any) -> Share:
        grants = [
            Grant(BucketId(uuid4()), user.login, two_factor=two_factor) for user in recipients or [self.jane]
        ]
        values: dict[str, Any] = {
            "case_ids": (self.cases[0],),
            "grants": tuple(grants),
            "ends_at": END,
            "write_report": False,
            "allow_further_sharing": False,
            "parent_id": None,
        }
        return Share(**values | changes)

    async def grant(self, share: Share, by: User | None = None, session: str = "") -> BucketId:
        """Its first bucket."""
        await self.access.buckets.grant((by or self.sender).login, session, share)
        return share.grants[0].bucket_id

    async def change(self, bucket_id: BucketId, version: int, **changes: Any) -> int:
        values: dict[str, Any] = {"is_open": True, "ends_at": END} | changes
        return await self.access.buckets.change([Standing(bucket_id, version, **values)])

    async def sees(self, user: User, session: str = "") -> list[CaseId]:
        """What he sees of the cases: on his list, and by every question alike."""
        checked = [
            case_id for case_id in self.cases if (await self.access.check(user, case_id, session)).allowed
        ]
        many = await self.access.sight.check_many(user.login, self.cases, session=session)
        listed = await self.access.worklist(user, session=session)
        assert checked == [case_id for case_id, each in zip(self.cases, many, strict=True) if each.allowed]
        assert set(checked) == set(listed)
        return checked


@pytest.fixture
async def scene(access: Access) -> Scene:
    facility = await access.facility("MS44")
    sender = await access.user()
    await access.give(sender, facility, Level.VIEW)
    return Scene(
        access,
        facility,
        [await access.case(facility) for _ in range(2)],
        sender,
        await access.user(Role.REFERRING_PHYSICIAN),
        await access.user(Role.REFERRING_PHYSICIAN),
    )


async def refused(awaitable: Awaitable[object], word: type[ReadroomError], field: str | None) -> None:
    with pytest.raises(word) as refusal:
        await awaitable
    assert (word, field) == (type(refusal.value), refusal.value.field), refusal.value.sentence


# What is shown


@pytest.mark.proves("A6")
@pytest.mark.proves("SHR-12")
async def test_a_recipient_sees_the_shared_cases_and_nobody_else_does(scene: Scene) -> None:
    before = await scene.access.revision()

    facility_id, revision = await scene.access.buckets.grant(scene.sender.login, "", scene.a_share())

    assert (scene.facility.id, before + 1) == (facility_id, revision)
    assert scene.cases[:1] == await scene.sees(scene.jane)
    assert [] == await scene.sees(scene.john)
    decision = await scene.access.check(scene.jane, scene.cases[0])
    assert (Level.VIEW, True, True, (Path.SHARE,), Side.FACILITY) == (
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
    """The wall may step back; in one process `now` does not, and only a renewal opens what has ended."""
    wall = scene.access.clock
    steady = MonotonicClock(lambda: wall.at)
    scene.access.database._clock = scene.access.sight._clock = steady
    bucket_id = await scene.grant(scene.a_share())
    wall.at = END
    assert [] == await scene.sees(scene.jane)

    wall.at = NOON
    assert [] == await scene.sees(scene.jane)

    await scene.change(bucket_id, 1, ends_at=END + timedelta(days=1))
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


async def test_of_several_shares_of_a_case_each_counts(scene: Scene) -> None:
    """One with write access, and one in another session, take nothing from the plain one."""
    radiologist = await scene.access.user()
    plain = await scene.grant(scene.a_share(radiologist))
    writing = await scene.grant(scene.a_share(radiologist, two_factor=True, write_report=True))
    await scene.access.buckets.register_session(writing, "phone")

    levels = [(await scene.access.check(radiologist, scene.cases[0], each)).level for each in ("", "phone")]
    assert [Level.VIEW, Level.REPORT] == levels
    assert scene.cases[:1] == await scene.access.worklist(radiologist, session="phone")

    await scene.change(plain, 1, is_open=False)
    assert [[], scene.cases[:1]] == [await scene.sees(radiologist, each) for each in ("", "phone")]


@pytest.mark.proves("A45")
async def test_write_access_reaches_as_far_as_the_shared_cases_and_the_share(scene: Scene) -> None:
    radiologist = await scene.access.user()
    await scene.access.give(radiologist, scene.facility, Level.VIEW)
    await scene.grant(scene.a_share(radiologist, write_report=True))

    shared, other = [await scene.access.check(radiologist, each) for each in scene.cases]
    assert (Level.REPORT, PUBLIC_READ_TYPES) == (shared.level, shared.read_types)
    assert (Level.VIEW, frozenset()) == (other.level, other.read_types)
    listed = await scene.access.sight.list_cases(radiologist.login, None, 9, facility_id=None, at_least=0)
    assert {scene.cases[0]: Level.REPORT, scene.cases[1]: Level.VIEW} == {
        case.case_id: level for case, level in listed
    }

    scene.access.clock.at = END
    ended = await scene.access.check(radiologist, scene.cases[0])
    assert (Level.VIEW, frozenset(), (Path.PRIVILEGE,)) == (ended.level, ended.read_types, ended.paths)


async def test_who_is_deactivated_or_blind_sees_nothing_of_what_was_shared_with_him(scene: Scene) -> None:
    await scene.grant(scene.a_share(scene.jane, scene.john))
    async with scene.access.database.transaction() as transaction:
        await transaction.save_user(replace(scene.jane, active=False, version=2))
        await transaction.save_user(replace(scene.john, role=Role.OPERATOR, version=2))

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
        await scene.access.buckets.change(changes)
        assert [] == await scene.sees(scene.jane)


async def test_a_share_is_shortened_and_made_longer(scene: Scene) -> None:
    bucket_id = await scene.grant(scene.a_share())

    await scene.change(bucket_id, 1, ends_at=NOON)
    assert [] == await scene.sees(scene.jane)
    await scene.change(bucket_id, 2, ends_at=None)
    assert scene.cases[:1] == await scene.sees(scene.jane)


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
    first = await scene.access.buckets.grant(scene.sender.login, "", share)
    facts = await scene.access.facts()
    await scene.access.give(scene.sender, scene.facility, Level.NONE)

    facility_id, revision = await scene.access.buckets.grant(scene.sender.login, "", share)

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
    await scene.access.give(scene.john, scene.facility, Level.VIEW)
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


# Who may share


async def test_sharing_by_privilege_needs_sight_images_reports_and_the_permission(scene: Scene) -> None:
    north, access = scene.facility, scene.access

    async def somebody(*permissions: Permission, role: Role = Role.FACILITY_USER) -> User:
        user = await access.user(role, permissions=frozenset(map(PermissionGrant, permissions)))
        await access.give(user, north, Level.VIEW)
        return user

    images, report, create = Permission.VIEW_IMAGES, Permission.VIEW_REPORT, Permission.CREATE_SHARE
    await refused(scene.grant(scene.a_share(), by=await somebody(images, report)), Denied, None)
    await refused(scene.grant(scene.a_share(), by=await somebody(images, create)), Denied, "case_ids")
    await refused(scene.grant(scene.a_share(), by=await somebody(report, create)), Denied, "case_ids")
    elsewhere = await access.user(
        permissions=frozenset({PermissionGrant(images), PermissionGrant(report)})
        | {PermissionGrant(create, (await access.facility()).id)}
    )
    await access.give(elsewhere, north, Level.VIEW)
    await refused(scene.grant(scene.a_share(), by=elsewhere), Denied, None)

    await scene.grant(scene.a_share(), by=await somebody(images, report, create))
    assert scene.cases[:1] == await scene.sees(scene.jane)


async def test_what_one_sees_only_by_a_grant_a_folder_or_a_share_is_not_shared_by_privilege(
    scene: Scene,
) -> None:
    access = scene.access
    users = [await access.user() for _ in range(3)]
    await access.folders.grant_case(ADMIN, scene.cases[0], users[0].id)
    await access.folders.put_in_folder(ADMIN, await access.folder(users[1]), scene.cases[0])
    await scene.grant(scene.a_share(users[2], allow_further_sharing=True))

    for user in users:
        await refused(scene.grant(scene.a_share(), by=user), Denied, "case_ids")


async def test_a_case_that_the_sender_does_not_see_is_as_one_that_is_not_there(scene: Scene) -> None:
    hidden = await scene.access.case(await scene.access.facility())

    for case_id in (hidden, CaseId(uuid4())):
        share = scene.a_share(case_ids=(scene.cases[0], case_id))
        with pytest.raises(NotFound) as refusal:
            await scene.grant(share)
        assert (f"no case `{case_id}`", "case_id") == (refusal.value.sentence, refusal.value.field)
    assert [] == await scene.sees(scene.jane)


async def test_a_share_is_of_cases_of_one_facility(scene: Scene) -> None:
    other = await scene.access.facility()
    await scene.access.give(scene.sender, other, Level.VIEW)
    elsewhere = await scene.access.case(other)

    await refused(scene.grant(scene.a_share(case_ids=(scene.cases[0], elsewhere))), Invalid, "case_ids")


async def test_an_undistributed_case_is_shared_as_its_hubs(scene: Scene) -> None:
    case_id = await scene.access.case(scene.facility, undistributed=True)

    facility_id, _ = await scene.access.buckets.grant(
        scene.sender.login, "", scene.a_share(case_ids=(scene.cases[0], case_id))
    )

    assert scene.facility.id == facility_id
    assert (await scene.access.check(scene.jane, case_id)).allowed


async def test_a_recipient_is_somebody_else_who_can_see_studies(scene: Scene) -> None:
    inactive = await scene.access.user(Role.REFERRING_PHYSICIAN, active=False)
    operator = await scene.access.user(Role.OPERATOR)
    sentences = set()
    for login in (inactive.login, operator.login, "nobody", "", "x" * 9999, "a\0b", "o'brien", "İ"):
        share = scene.a_share(scene.jane)
        share = replace(share, grants=(*share.grants, Grant(BucketId(uuid4()), login, two_factor=False)))
        with pytest.raises(Invalid) as refusal:
            await scene.grant(share)
        assert "recipients" == refusal.value.field
        sentences.add(refusal.value.sentence)
    assert 1 == len(sentences)
    await refused(scene.grant(scene.a_share(scene.sender)), Invalid, "recipients")
    assert [] == await scene.sees(scene.jane)


async def test_a_recipient_is_found_whatever_the_case_of_his_login(scene: Scene) -> None:
    share = scene.a_share()
    await scene.grant(
        replace(share, grants=(replace(share.grants[0], recipient_login=scene.jane.login.upper()),))
    )

    assert scene.cases[:1] == await scene.sees(scene.jane)


async def test_a_share_that_would_have_ended_is_refused(scene: Scene) -> None:
    await refused(scene.grant(scene.a_share(ends_at=NOON)), Invalid, "valid_till")
    await scene.grant(scene.a_share(ends_at=NOON + INSTANT))


MALFORMED: dict[str, tuple[str, Callable[[Share], Share]]] = {
    "no cases": ("case_ids", lambda share: replace(share, case_ids=())),
    "many cases": (
        "case_ids",
        lambda share: replace(share, case_ids=tuple(CaseId(uuid4()) for _ in range(MAX_CASES + 1))),
    ),
    "nobody": ("recipients", lambda share: replace(share, grants=())),
    "everybody": (
        "recipients",
        lambda share: replace(
            share, grants=tuple(Grant(BucketId(uuid4()), f"u{n}", two_factor=False) for n in range(101))
        ),
    ),
    "one bucket for two": (
        "bucket_id",
        lambda share: replace(share, grants=(*share.grants, replace(share.grants[0], recipient_login="x"))),
    ),
    "two buckets for one": (
        "recipients",
        lambda share: replace(
            share,
            grants=(
                *share.grants,
                Grant(BucketId(uuid4()), share.grants[0].recipient_login.upper(), two_factor=False),
            ),
        ),
    ),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_what_is_no_share_is_refused_by_name(what: str) -> None:
    field, spoil = MALFORMED[what]
    share = Share((CaseId(uuid4()),), (Grant(BucketId(uuid4()), "jane", False),), END, False, False, None)

    with pytest.raises(Invalid) as refusal:
        spoil(share)
    assert field == refusal.value.field


async def test_what_is_no_change_is_refused_by_name(scene: Scene) -> None:
    buckets, bucket_id = scene.access.buckets, BucketId(uuid4())
    for field, changes in (
        ("changes", []),
        ("changes", [Standing(bucket_id, 1, True, None)] * (MAX_CHANGES + 1)),
        ("version", [Standing(bucket_id, 0, True, None)]),
        ("version", [Standing(bucket_id, -1, True, None)]),
    ):
        await refused(buckets.change(changes), Invalid, field)
    for session in ("", "x" * 129, "a\0b", "a\nb"):
        await refused(buckets.register_session(bucket_id, session), Invalid, "session")
    await refused(buckets.register_session(bucket_id, "phone"), NotFound, "bucket_id")
    await scene.change(bucket_id, 1)
    await refused(buckets.register_session(bucket_id, "phone"), NotFound, "bucket_id")


# Sharing on


@pytest.mark.proves("A46", part="validity, rights, two-factor; off by default")
@pytest.mark.proves("SHR-24", part="decided in access")
async def test_what_was_shared_is_shared_on_only_where_that_is_allowed(scene: Scene) -> None:
    closed = await scene.grant(scene.a_share())
    allowed = await scene.grant(scene.a_share(allow_further_sharing=True))

    await refused(
        scene.grant(scene.a_share(scene.john, parent_id=closed), by=scene.jane), Denied, "parent_bucket_id"
    )
    await refused(scene.grant(scene.a_share(scene.john), by=scene.jane), Denied, None)

    facility_id, _ = await scene.access.buckets.grant(
        scene.jane.login, "", scene.a_share(scene.john, parent_id=allowed)
    )
    assert scene.facility.id == facility_id
    assert scene.cases[:1] == await scene.sees(scene.john)


parents = st.builds(
    a_bucket,
    st.just(a_user()),
    ends_at=st.none() | st.integers(-2, 2).map(lambda hours: END + timedelta(hours=hours)),
    write_report=st.booleans(),
    two_factor=st.booleans(),
    allow_further_sharing=st.booleans(),
)


@pytest.mark.proves("A46", part="validity, rights, two-factor; off by default")
@given(parents, st.none() | st.just(END), st.booleans(), st.lists(st.booleans(), min_size=1, max_size=3))
def test_nothing_that_is_shared_on_exceeds_what_it_came_from(
    parent: Any, ends_at: datetime | None, write_report: bool, two_factor: list[bool]
) -> None:
    grants = tuple(
        Grant(BucketId(uuid4()), f"u{number}", two_factor=each) for number, each in enumerate(two_factor)
    )
    share = Share((CaseId(uuid4()),), grants, ends_at, write_report, True, parent.id)
    terms = parent.terms
    exceeded = set()
    if not terms.allow_further_sharing:
        exceeded = {"parent_bucket_id"}
    else:
        if (ends_at or datetime.max.replace(tzinfo=END.tzinfo)) > (
            parent.standing.ends_at or datetime.max.replace(tzinfo=END.tzinfo)
        ):
            exceeded.add("valid_till")
        if write_report > terms.write_report:
            exceeded.add("rights")
        if any(each < terms.two_factor for each in two_factor):
            exceeded.add("two_factor")

    if not exceeded:
        share.must_stay_within(parent.standing, terms)
        return
    with pytest.raises((Denied, Invalid)) as refusal:
        share.must_stay_within(parent.standing, terms)
    assert refusal.value.field in exceeded


async def test_only_ones_own_active_bucket_is_shared_on(scene: Scene) -> None:
    """A foreign, unknown, closed, ended or locked one: the same answer, whatever it lacks."""
    sentences = set()

    async def nothing(parent_id: BucketId, session: str = "") -> None:
        share = scene.a_share(scene.john, parent_id=parent_id, two_factor=True)
        with pytest.raises(NotFound) as refusal:
            await scene.grant(share, by=scene.jane, session=session)
        assert "parent_bucket_id" == refusal.value.field
        sentences.add(refusal.value.sentence.replace(str(parent_id), ""))

    third = await scene.access.user(Role.REFERRING_PHYSICIAN)
    await nothing(BucketId(uuid4()))
    await nothing(await scene.grant(scene.a_share(third, allow_further_sharing=True)))
    closed = await scene.grant(scene.a_share(allow_further_sharing=True))
    await scene.change(closed, 1, is_open=False)
    await nothing(closed)
    ended = await scene.grant(scene.a_share(allow_further_sharing=True))
    await scene.change(ended, 1, ends_at=NOON)
    await nothing(ended)
    told = BucketId(uuid4())
    await scene.change(told, 1)
    await nothing(told)
    locked = await scene.grant(scene.a_share(allow_further_sharing=True, two_factor=True))
    await nothing(locked)
    await scene.access.buckets.register_session(locked, "phone")
    await nothing(locked, "laptop")
    assert 1 == len(sentences)

    share = scene.a_share(scene.john, parent_id=locked, two_factor=True)
    await scene.grant(share, by=scene.jane, session="phone")


async def test_only_what_the_bucket_holds_is_shared_on(scene: Scene) -> None:
    parent_id = await scene.grant(scene.a_share(allow_further_sharing=True))
    await scene.access.give(scene.jane, scene.facility, Level.VIEW)  # sees the other one too

    share = scene.a_share(scene.john, parent_id=parent_id, case_ids=tuple(scene.cases))
    with pytest.raises(NotFound, match=str(scene.cases[1])):
        await scene.grant(share, by=scene.jane)


# What a mail needs of cases


@pytest.mark.parametrize(
    ("patient_name", "expected"),
    [
        ("Doe^Jane", "J.D."),
        ("Doe^Jane^Mary^Dr.^III", "J.M.D."),
        ("doe^jane", "J.D."),
        ("Doe", "D."),
        ("Doe^", "D."),
        ("^Jane", "J."),
        ("van der Berg^Jan Piet", "J.V."),
        ("'t Hof^  Anne", "A.T."),
        ("E\u0301mile^O\u0308zge", "Ö.É."),
        ("Ödön^Šárka", "Š.Ö."),
        ("ßen^ŉa", "ʼ.S."),
        ("Παπαδοπούλου^Μαρία", "Μ.Π."),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "T.Y."),
        ("=山田^太郎=やまだ^たろう", ""),
        ("山田^太郎", ""),
        ("王^明", ""),
        ("", ""),
        ("^^^^", ""),
        ("==", ""),
        ("=^=^=", ""),
        ("12345^67", ""),
        ("Doe\r\nBcc: x@y^\0Jane", "J.D."),
        ("<b>^<script>", "S.B."),
        ("^" * 70_000 + "Doe", ""),
        ("Doe^Jane^Mary^^^Extra^Much", "J.M.D."),
    ],
)
def test_initials(patient_name: str, expected: str) -> None:
    assert expected == initials(patient_name)


@given(st.text())
def test_initials_are_never_more_than_three_capitals(patient_name: str) -> None:
    letters = initials(patient_name)

    assert len(letters) <= 6
    assert set(letters[1::2]) <= {"."}
    assert "." not in letters[::2]


async def test_cases_are_described_in_the_order_asked_with_nothing_but_the_initials(access: Access) -> None:
    facility = await access.facility("MS44", "Europe/Amsterdam")
    one, other = [await access.case(facility) for _ in range(2)]
    unplaced = await access.case(replace(facility, id=FacilityId(uuid4())))

    found = await access.buckets.describe_cases([other, CaseId(uuid4()), unplaced, one])

    assert [other, one] == [case.case_id for case in found]
    assert (facility.id, "MS44", "Europe/Amsterdam", "J.D.") == (
        found[0].facility_id,
        found[0].facility_name,
        found[0].time_zone,
        found[0].patient_initials,
    )
    assert "Doe" not in repr(found)
    for count in (0, MAX_CASES + 1):
        await refused(access.buckets.describe_cases([one] * count), Invalid, "case_ids")
