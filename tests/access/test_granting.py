"""Who may share what with whom, what may be shared on, and what is told of a case."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import Denied, Invalid, NotFound
from kernel.ids import BucketId, CaseId, FacilityId
from kernel.reading import PrivilegeLevel
from services.access.buckets import MAX_CASES, MAX_CHANGES, Grant, Share, Standing
from services.access.describedcases import initials
from services.access.domain import Permission, PermissionGrant, Role, User
from tests.access.builders import a_bucket, a_user
from tests.access.conftest import ADMIN, END, Access, Scene, refused
from tests.clocks import NOON

INSTANT = timedelta(microseconds=1)


# Who may share


async def test_sharing_by_privilege_needs_sight_images_reports_and_the_permission(scene: Scene) -> None:
    north, access = scene.facility, scene.access

    async def somebody(*permissions: Permission, role: Role = Role.FACILITY_USER) -> User:
        user = await access.user(role, permissions=frozenset(map(PermissionGrant, permissions)))
        await access.give(user, north, PrivilegeLevel.VIEW)
        return user

    images, report, create = Permission.VIEW_IMAGES, Permission.VIEW_REPORT, Permission.CREATE_SHARE
    await refused(scene.grant(scene.a_share(), by=await somebody(images, report)), Denied, None)
    await refused(scene.grant(scene.a_share(), by=await somebody(images, create)), Denied, "case_ids")
    await refused(scene.grant(scene.a_share(), by=await somebody(report, create)), Denied, "case_ids")
    elsewhere = await access.user(
        permissions=frozenset({PermissionGrant(images), PermissionGrant(report)})
        | {PermissionGrant(create, (await access.facility()).id)}
    )
    await access.give(elsewhere, north, PrivilegeLevel.VIEW)
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


@pytest.mark.proves("SHR-24", part="not by way of a privilege that carries less")
async def test_images_and_reports_that_only_a_share_gives_are_not_shared_by_privilege(scene: Scene) -> None:
    """They may share what their privilege carries; what a share showed them was not to be shared on."""
    create = frozenset({PermissionGrant(Permission.CREATE_SHARE)})
    user = await scene.access.user(Role.REFERRING_PHYSICIAN, permissions=create)
    await scene.access.give(user, scene.facility, PrivilegeLevel.VIEW)
    await scene.grant(scene.a_share(user, allow_further_sharing=False))

    await refused(scene.grant(scene.a_share(), by=user), Denied, "case_ids")
    assert [] == await scene.sees(scene.jane)


async def test_a_case_that_the_sender_does_not_see_is_as_one_that_is_not_there(scene: Scene) -> None:
    hidden = await scene.access.case(await scene.access.facility())

    for case_id in (hidden, CaseId(uuid4())):
        share = scene.a_share(case_ids=(scene.cases[0], case_id))
        with pytest.raises(NotFound) as refusal:
            await scene.grant(share)
        assert (f"there is no case `{case_id}`, or you do not see it", "case_id") == (
            refusal.value.sentence,
            refusal.value.field,
        )
    assert [] == await scene.sees(scene.jane)


async def test_a_share_is_of_cases_of_one_facility(scene: Scene) -> None:
    other = await scene.access.facility()
    await scene.access.give(scene.sender, other, PrivilegeLevel.VIEW)
    elsewhere = await scene.access.case(other)

    await refused(scene.grant(scene.a_share(case_ids=(scene.cases[0], elsewhere))), Invalid, "case_ids")


async def test_an_undistributed_case_is_shared_as_its_hubs(scene: Scene) -> None:
    case_id = await scene.access.case(scene.facility, undistributed=True)

    facility_id, _ = await scene.access.buckets.grant_buckets(
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
        await refused(buckets.change_buckets(changes), Invalid, field)
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

    facility_id, _ = await scene.access.buckets.grant_buckets(
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
    await scene.access.give(scene.jane, scene.facility, PrivilegeLevel.VIEW)  # sees the other one too

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
