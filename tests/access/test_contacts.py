"""How users are reached: what is taken, what is refused, and who is told."""

from collections.abc import Awaitable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import Denied, Expired, Invalid, NotFound, ReadroomError
from kernel.ids import UserId
from kernel.language import Language
from kernel.reading import PrivilegeLevel, ReadType
from services.access.administration import MAX_DESCRIBED_USERS
from services.access.contact import NO_CONTACT, Contact, checked_contact
from services.access.domain import Role, User
from services.access.manager import UserSettings
from tests.access.builders import a_user
from tests.access.conftest import ADMIN, Access, Scene

HUMAN = Contact("jane.doe@example.org", "+32470123456", Language.NL)

EMAILS = [
    "jane@example.org",
    "Jane.O'Hara+shares@sub.example.co.uk",
    "j@localhost",
    "x" * 64 + "@example.org",
    "!#$%&'*+/=?^_`{|}~-@example.org",
    "jane@xn--mnchen-3ya.example",
]

NOT_EMAILS = [
    "jane",
    "@example.com",
    "jane@",
    "jane@@example.org",
    "jane@doe@example.org",
    "jane@example.org\nBcc: all@example.org",
    "jane@example.org\r\n",
    "jane\0@example.org",
    "jane@example.org\u2028",
    "jane@exam\u202eple.org",
    "jane doe@example.org",
    "Jane <jane@example.org>",
    "jane@example.org, john@example.org",
    '"jane doe"@example.org',
    "jane@[127.0.0.1]",
    "jané@example.org",
    "jane@mün chen.example",
    "jane@☃.example",
    "jürgen@clinic.example",
    "jane@example..org",
    "jane..doe@example.org",
    ".jane@example.org",
    "jane.@example.org",
    "jane@-example.org",
    "jane@example-.org",
    "jane@" + "x" * 64 + ".org",
    "x" * 65 + "@example.org",
    "jane@" + "example." * 32 + "org",
    " ",
]

NUMBERS = {
    "+32470123456": "+32470123456",
    "+32 470 12 34 56": "+32470123456",
    "+32 (0)470-12.34/56": "+32470123456",
    "+31 6 12345678": "+31612345678",
    "+33 6 12 34 56 78": "+33612345678",
    "+49 1511 2345678": "+4915112345678",
    "+1 202-555-0123": "+12025550123",
    "  +32470123456 ": "+32470123456",
}

NOT_NUMBERS = [
    "0470123456",  # of which country?
    "32470123456",
    "+32 2 555 12 34",  # in a house
    "+32 800 12 345",  # free of charge
    "+32 900 12 345",  # dear
    "+3247012345",
    "+324701234567890",
    "+999123456789",
    "+33700000000",
    "+",
    "++32470123456",
    "+32470123456;ext=3",
    "tel:+32470123456",
    "+32470123456,+32470123457",
    "+32470123456\n+32470123457",
    "+32470123456\0",
    "+３２４７０１２３４５６",
    "+٣٢٤٧٠١٢٣٤٥٦",
    "+32470TAXI12",
    "+32470" + " " * 32 + "123456",
    "+" + "1" * 10_000,
]


@pytest.mark.parametrize("email", EMAILS)
def test_an_address_is_taken_as_it_is(email: str) -> None:
    assert Contact(email) == checked_contact(f" {email} ", "", None)


def test_an_international_domain_becomes_its_a_labels() -> None:
    assert checked_contact("jane@Straße.example", "", None).email == "jane@xn--strae-oqa.example"


@pytest.mark.proves("SEC-12", part="no address reaches further than a header's value")
@pytest.mark.parametrize("email", NOT_EMAILS)
def test_what_is_no_single_address_is_refused_without_repeating_it(email: str) -> None:
    with pytest.raises(Invalid) as refusal:
        checked_contact(email, "", None)
    assert "email" == refusal.value.field
    assert email.strip() == "" or email not in refusal.value.sentence


@given(st.text(alphabet=st.characters(), max_size=40))
def test_whatever_is_taken_as_an_address_is_one_printable_ascii_word(text: str) -> None:
    for email in (text, f"{text}@example.org", f"jane@{text}"):
        try:
            taken = checked_contact(email, "", None).email
        except Invalid:
            continue
        assert taken == "" or (taken.isascii() and taken.isprintable() and taken.count("@") == 1)
        assert not set(taken) & set(' <>,;:"()[]\\\r\n')


@pytest.mark.parametrize("text", NUMBERS)
def test_a_mobile_number_is_kept_in_its_canonical_form(text: str) -> None:
    assert Contact("", NUMBERS[text]) == checked_contact("", text, None)


@pytest.mark.parametrize("text", NOT_NUMBERS)
def test_what_is_no_mobile_number_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(Invalid) as refusal:
        checked_contact("", text, None)
    assert "mobile_number" == refusal.value.field
    assert text not in refusal.value.sentence or len(text) < 3


# Kept and told


def settings(user: User, **changes: Any) -> UserSettings:
    values: dict[str, Any] = {
        "user_id": user.id,
        "version": user.version,
        "login": user.login,
        "name": user.name,
        "role": user.role,
        "active": user.active,
        "home_facility_id": user.home_facility_id,
        "permissions": None,
        "contact": HUMAN,
    }
    return UserSettings(**values | changes)


async def save(access: Access, user: User, by: str = ADMIN, **changes: Any) -> User:
    """As an administrator does who has just loaded the user."""
    version = (await access.stored(user.id)).version
    saved, _ = await access.users.save_user(by, settings(user, **{"version": version} | changes))
    return saved


async def refused(awaitable: Awaitable[object], word: type[ReadroomError], field: str | None) -> None:
    with pytest.raises(word) as refusal:
        await awaitable
    assert field == refusal.value.field


async def test_how_a_user_is_reached_is_part_of_his_version(access: Access) -> None:
    user = await access.user()
    versions = []

    for contact in (
        HUMAN,
        HUMAN,
        replace(HUMAN, mobile_number="+31612345678"),
        replace(HUMAN, language=None),
        NO_CONTACT,
    ):
        saved = await save(access, user, contact=contact)
        assert contact == saved.contact == (await access.stored(user.id)).contact
        versions.append(saved.version)

    assert [2, 2, 3, 4, 5] == versions
    told = [fact for fact in await access.facts() if fact[1] == str(user.id)]
    assert [("user.changed.v1", str(user.id), version) for version in (2, 3, 4, 5)] == told


@pytest.mark.parametrize(
    ("changes", "ends"),
    [
        ({"contact": replace(HUMAN, mobile_number="+31612345678")}, True),
        ({"contact": replace(HUMAN, email="john@example.org")}, True),
        ({"contact": NO_CONTACT}, True),
        ({"active": False}, True),
        ({"contact": replace(HUMAN, language=Language.FR)}, False),
        ({"name": "Jane Roe"}, False),
    ],
    ids=["number", "e-mail", "emptied", "deactivated", "language", "name"],
)
async def test_a_change_of_contact_ends_two_factor_sessions_and_voids_codes_sent_before(
    scene: Scene, changes: dict[str, Any], ends: bool
) -> None:
    access, john, shown = scene.access, scene.john, scene.cases[:1]
    await save(access, scene.jane)
    bucket_id = await scene.grant(scene.a_share(two_factor=True))
    others = await scene.grant(scene.a_share(john, two_factor=True))
    sent_to = (await access.stored(scene.jane.id)).contact_version
    await access.buckets.register_session(bucket_id, "phone", sent_to)
    await access.buckets.register_session(others, "tablet", john.contact_version)
    assert shown == await scene.sees(scene.jane, "phone")

    changed = await save(access, scene.jane, **changes)
    if not changed.active:
        await save(access, changed, active=True)

    assert ([] if ends else shown) == await scene.sees(scene.jane, "phone")
    assert shown == await scene.sees(john, "tablet")
    now = (await access.stored(scene.jane.id)).contact_version
    assert ends == (now != sent_to)
    if now != sent_to:
        await refused(access.buckets.register_session(bucket_id, "laptop", sent_to), Expired, None)
        assert [] == await scene.sees(scene.jane, "laptop")
    await access.buckets.register_session(bucket_id, "laptop", now)
    assert shown == await scene.sees(scene.jane, "laptop")


async def test_the_audit_tells_that_a_number_changed_and_not_which(access: Access) -> None:
    user = await access.user()

    await save(access, user)
    await save(access, user, contact=replace(HUMAN, mobile_number="+31612345678"))

    details = [row[0] for row in await access.query("select detail::text from audit_rows order by id")][-2:]
    assert '"contact_changed": "email language mobile_number"' in details[0]
    assert '"contact_changed": "mobile_number"' in details[1]
    written = await access.query("select detail::text from audit_rows union select payload::text from outbox")
    assert not [row for row in written if "example.org" in row[0] or "470123456" in row[0]]


async def test_a_manager_says_how_a_new_user_is_reached_and_nothing_of_it_later(access: Access) -> None:
    north, south = await access.facility(), await access.facility()
    manager, stranger = await access.manager(north), await access.manager(south)
    bare = a_user(Role.FACILITY_USER, home_facility_id=north.id)
    user, _ = await access.users.save_user(manager.login, settings(bare, user_id=None, version=0))
    assert HUMAN == (await access.stored(user.id)).contact

    for contact, field in (
        (replace(HUMAN, mobile_number="+31612345678"), "mobile_number"),
        (replace(HUMAN, email="eve@example.org"), "email"),
        (replace(HUMAN, mobile_number=""), "mobile_number"),
        (NO_CONTACT, "email"),
    ):
        for by in (manager, await access.manager(north)):
            await refused(save(access, user, by.login, contact=contact), Denied, field)
    await refused(save(access, manager, manager.login), Denied, "email")
    await save(access, user, manager.login, contact=replace(HUMAN, language=Language.FR), name="Jane Roe")

    await refused(save(access, user, stranger.login), NotFound, "user_id")
    await refused(save(access, user, user.login), Denied, None)
    assert (replace(HUMAN, language=Language.FR), 1) == (
        (await access.stored(user.id)).contact,
        (await access.stored(user.id)).contact_version,
    )
    await save(access, user, contact=NO_CONTACT)
    assert NO_CONTACT == (await access.stored(user.id)).contact


async def test_users_are_described_with_their_privileges_and_without_their_permissions(
    access: Access,
) -> None:
    north, south = await access.facility(), await access.facility()
    user, other = await access.user(), await access.user(Role.REFERRING_PHYSICIAN)
    await save(access, user)
    expires_on = access.clock.at.date().replace(year=2027)
    types = [ReadType.FINAL, ReadType.PRE_READ]
    await access.give(user, north, PrivilegeLevel.REPORT, expires_on=expires_on, read_types=types)
    await access.give(user, south, PrivilegeLevel.VIEW)

    users, held = await access.users.describe_users(
        [user.id, UserId(uuid4())], [other.login.upper(), user.login, "nobody", "a\0b", "x" * 9999]
    )

    assert sorted([user.login, other.login]) == [each.login for each in users]
    assert {HUMAN, NO_CONTACT} == {each.contact for each in users}
    assert not any(each.permissions for each in users)
    assert {(user.id, north.id, PrivilegeLevel.REPORT), (user.id, south.id, PrivilegeLevel.VIEW)} == {
        (each.user_id, each.facility_id, each.effective_level) for each in held
    }
    (expiring,) = [each for each in held if each.expires_at]
    assert (expires_on, frozenset({ReadType.FINAL})) == (
        expiring.privilege.expires_on,
        expiring.privilege.read_types,
    )


async def test_too_many_or_no_users_are_not_described(access: Access) -> None:
    await refused(access.users.describe_users([], []), Invalid, "user_ids")
    ids = [UserId(uuid4()) for _ in range(MAX_DESCRIBED_USERS)]
    assert ([], []) == await access.users.describe_users(ids, [])
    await refused(access.users.describe_users(ids, ["jane"]), Invalid, "user_ids")


async def test_the_versions_of_all_users_come_page_by_page(access: Access) -> None:
    users = [await access.user() for _ in range(3)]
    expected = sorted([(access.admin.id, access.admin.version), *((user.id, 1) for user in users)])

    assert expected == await access.users.list_versions(None)
    assert expected[2:] == await access.users.list_versions(expected[1][0])
    assert [] == await access.users.list_versions(expected[-1][0])
