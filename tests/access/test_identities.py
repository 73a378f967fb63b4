"""Who signs in as whom: identities that administrators bind, and invitations by which people bind theirs."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from kernel.errors import Conflict, Denied, Invalid, NotFound, ReadroomError, Unauthenticated
from kernel.reading import PrivilegeLevel
from services.access.domain import Facility, Permission, PermissionGrant, Role, User
from services.access.identities import Invited
from services.access.identity import (
    INVITATION_LASTS,
    MAX_IDENTITIES,
    MAX_WRONG_CODES,
    Code,
    Identity,
    checked_identity,
)
from services.access.manager import UserSettings
from services.access.me import MAX_NAMED_FACILITIES
from tests.access.conftest import ADMIN, Access, refused

ISSUER = "https://login.example.org"
JANE, JOHN = Identity(ISSUER, "jane-1"), Identity(ISSUER, "john-1")


async def invited(access: Access, user: User, by: str = ADMIN) -> Invited:
    return await access.identities.invite(by, user.id)


async def redeemed(access: Access, invitation: Invited, identity: Identity = JANE) -> User:
    return await access.identities.redeem_invitation(invitation.code.text, identity)


async def not_valid(access: Access, code: str) -> None:
    for ask in (
        access.identities.describe_invitation(code),
        access.identities.redeem_invitation(code, JOHN),
    ):
        with pytest.raises(NotFound) as refusal:
            await ask
        assert "this invitation is not valid" in refusal.value.sentence


# Identities


async def test_an_identity_signs_in_as_the_user_it_was_bound_to(access: Access) -> None:
    jane = await access.user(login="jane")

    bound = await access.identities.save_identity(ADMIN, jane.id, JANE)
    again = await access.identities.save_identity(ADMIN, jane.id, JANE)

    assert (JANE, jane.id, ADMIN, access.clock.now()) == (
        bound.identity,
        bound.user_id,
        bound.bound_by,
        bound.bound_at,
    )
    assert bound == again
    assert jane.id == (await access.identities.resolve_identity(JANE)).id
    assert ([bound], None) == await access.identities.list_identities(ADMIN, jane.id)
    await access.identities.remove_identity(ADMIN, jane.id, JANE)
    with pytest.raises(NotFound, match="signs in as nobody"):
        await access.identities.resolve_identity(JANE)
    with pytest.raises(NotFound, match="`jane` has no such identity"):
        await access.identities.remove_identity(ADMIN, jane.id, JANE)


async def test_issuer_and_subject_are_compared_letter_by_letter(access: Access) -> None:
    jane = await access.user(login="jane", name="Jane")
    await access.identities.save_identity(ADMIN, jane.id, JANE)

    for other in (
        Identity(ISSUER, "JANE-1"),
        Identity(ISSUER, "jane-11"),
        Identity(f"{ISSUER}/", "jane-1"),
        Identity(ISSUER.upper(), "jane-1"),
    ):
        with pytest.raises(NotFound):
            await access.identities.resolve_identity(other)


async def test_an_identity_signs_in_as_one_user_only(access: Access) -> None:
    jane, john = await access.user(login="jane"), await access.user(login="john")
    await access.identities.save_identity(ADMIN, jane.id, JANE)

    await refused(access.identities.save_identity(ADMIN, john.id, JANE), Conflict, "identity")
    await refused(redeemed(access, await invited(access, john)), Conflict, "identity")

    assert jane.id == (await access.identities.resolve_identity(JANE)).id


async def test_a_user_has_so_many_identities_and_no_more(access: Access) -> None:
    jane = await access.user()
    for number in range(MAX_IDENTITIES):
        await access.identities.save_identity(ADMIN, jane.id, Identity(ISSUER, str(number)))

    with pytest.raises(Conflict, match="remove one of them first"):
        await access.identities.save_identity(ADMIN, jane.id, Identity(ISSUER, "one more"))


async def test_a_deactivated_user_gets_no_identity(access: Access) -> None:
    jane = await access.user(login="jane", active=False)

    with pytest.raises(Conflict, match="deactivated"):
        await access.identities.save_identity(ADMIN, jane.id, JANE)
    with pytest.raises(Conflict, match="deactivated"):
        await invited(access, jane)
    with pytest.raises(Conflict, match="deactivated"):
        await access.identities.invite_first("jane")


async def test_a_user_who_signs_in_and_is_deactivated_is_told_so(access: Access) -> None:
    jane = await access.user()
    await access.identities.save_identity(ADMIN, jane.id, JANE)
    async with access.database.statements() as statements:
        await statements.connection.execute("update users set active = false where user_id = $1", jane.id)

    assert not (await access.identities.resolve_identity(JANE)).active


@pytest.mark.parametrize("value", ["", " ", "a b", "a\n", "é", "x" * 256, "\0"])
def test_what_is_no_name_of_an_identity_is_refused_and_not_repeated(value: str) -> None:
    for issuer, subject, field in ((value, "x", "issuer"), ("x", value, "subject")):
        with pytest.raises(Invalid) as refusal:
            checked_identity(issuer, subject)
        assert field == refusal.value.field
        assert value.strip() == "" or value not in refusal.value.sentence


# Invitations


async def test_who_shows_the_code_binds_their_identity_once(access: Access) -> None:
    jane = await access.user(login="jane")
    invitation = await invited(access, jane)

    described, _ = await access.identities.describe_invitation(invitation.code.text)
    user = await redeemed(access, invitation)

    assert (jane.id, jane.id, 64) == (described.id, user.id, len(invitation.code.text))
    assert jane.id == (await access.identities.resolve_identity(JANE)).id
    (bound,), still_open = await access.identities.list_identities(ADMIN, jane.id)
    assert (jane.login, None) == (bound.bound_by, still_open)
    assert user == await redeemed(access, invitation), "an answer that was lost is answered again"
    await not_valid(access, invitation.code.text)
    assert [
        (ADMIN, "user.invited", "done"),
        ("jane", "invitation.redeemed", "done"),
        ("service:bff", "invitation.redeemed", "refused"),
        ("service:bff", "invitation.redeemed", "refused"),
    ] == (await access.audited())[-4:]


async def test_the_code_is_kept_nowhere(access: Access) -> None:
    invitation = await invited(access, await access.user())
    tables = await access.query("select tablename from pg_tables where schemaname = 'public'")

    kept = [str(await access.query(f"select * from {each['tablename']}")) for each in tables]

    secret = invitation.code.secret
    for form in (invitation.code.text, repr(secret)[2:-1], secret.hex(), str(secret)):
        assert not any(form in each for each in kept)
    assert secret.hex() not in repr(invitation)
    assert repr(secret)[2:-1] not in repr(invitation)


async def test_an_invitation_ends_by_the_clock(access: Access) -> None:
    invitation = await invited(access, await access.user())
    access.clock.pass_by(INVITATION_LASTS - timedelta(seconds=1))
    await access.identities.describe_invitation(invitation.code.text)

    access.clock.pass_by(timedelta(seconds=1))

    await not_valid(access, invitation.code.text)


async def test_a_new_invitation_ends_the_one_before(access: Access) -> None:
    jane = await access.user()
    first, second = await invited(access, jane), await invited(access, jane)

    await not_valid(access, first.code.text)
    await redeemed(access, second)


async def test_five_wrong_codes_end_an_invitation_however_they_come(access: Access) -> None:
    invitation = await invited(access, await access.user())
    wrong = Code(invitation.code.invitation_id, bytes(32)).text

    await asyncio.gather(*(not_valid(access, wrong) for _ in range(MAX_WRONG_CODES)))

    await not_valid(access, invitation.code.text)


async def test_the_right_code_forgives_the_wrong_ones_before_it(access: Access) -> None:
    invitation = await invited(access, await access.user())
    wrong = Code(invitation.code.invitation_id, bytes(32)).text
    for _ in range(3):
        for _ in range(2):
            await not_valid(access, wrong)
        await access.identities.describe_invitation(invitation.code.text)

    await redeemed(access, invitation)


@pytest.mark.parametrize("code", ["", "x", "x" * 63, "é" * 64, "/" * 64, "A" * 64, "A" * 4000, "\0" * 64])
async def test_what_is_no_code_answers_like_a_wrong_one(access: Access, code: str) -> None:
    await not_valid(access, code)


async def test_two_who_show_one_code_at_once_bind_one_identity(access: Access) -> None:
    jane = await access.user()
    invitation = await invited(access, jane)

    answers = await asyncio.gather(
        redeemed(access, invitation, JANE), redeemed(access, invitation, JOHN), return_exceptions=True
    )

    assert [NotFound] == [type(each) for each in answers if isinstance(each, ReadroomError)]
    assert 1 == len((await access.identities.list_identities(ADMIN, jane.id))[0])


async def test_a_deactivation_ends_the_invitation_for_good(access: Access) -> None:
    jane = await access.user(login="jane")
    invitation = await invited(access, jane)
    for active in (False, True):
        stored = await access.stored(jane.id)
        settings = a_settings(stored, active=active)
        await access.users.save_user(ADMIN, settings)

    await not_valid(access, invitation.code.text)


async def test_who_has_the_database_invites_the_first_administrator(access: Access) -> None:
    invitation = await access.identities.invite_first(ADMIN.upper())

    _, shown = await access.identities.list_identities(ADMIN, access.admin.id)
    assert shown is not None
    assert shown.invited_by is None
    assert access.admin.id == (await redeemed(access, invitation)).id
    with pytest.raises(NotFound, match="there is no user `nobody`"):
        await access.identities.invite_first("nobody")


def a_settings(user: User, **changes: Any) -> UserSettings:
    values: dict[str, Any] = {
        "user_id": user.id,
        "version": user.version,
        "login": user.login,
        "name": user.name,
        "role": user.role,
        "active": user.active,
        "home_facility_id": user.home_facility_id,
        "permissions": None,
        "contact": user.contact,
    }
    return UserSettings(**values | changes)


# Who may


async def at_home(access: Access, facility: Facility, **changes: Any) -> User:
    """A user of the facility, with nothing but what its manager may give."""
    return await access.user(
        Role.REFERRING_PHYSICIAN,
        home_facility_id=facility.id,
        permissions=frozenset({PermissionGrant(Permission.VIEW_REPORT, facility.id)}),
        **changes,
    )


async def test_identities_are_bound_by_administrators_of_everything_only(access: Access) -> None:
    facility = await access.facility()
    mia, jane = await access.manager(facility), await access.user()
    own = await at_home(access, facility)

    for login in (mia.login, jane.login):
        with pytest.raises(Denied):
            await access.identities.save_identity(login, own.id, JANE)
        with pytest.raises(Denied):
            await access.identities.remove_identity(login, own.id, JANE)
    with pytest.raises(Denied):
        await access.identities.list_identities(jane.login, own.id)
    assert ([], None) == await access.identities.list_identities(mia.login, own.id)
    assert ([], None) == await access.identities.list_identities(jane.login, jane.id)
    with pytest.raises(NotFound):
        await access.identities.list_identities(mia.login, jane.id)
    with pytest.raises(Unauthenticated):
        await access.identities.list_identities("nobody", jane.id)


async def test_a_manager_invites_whose_account_lies_within_theirs(access: Access) -> None:
    facility = await access.facility()
    mia, own = await access.manager(facility), await at_home(access, facility)

    invitation = await invited(access, own, mia.login)

    assert own.id == (await redeemed(access, invitation)).id


@pytest.mark.parametrize(
    "more", ["a permission everywhere", "a level elsewhere", "a level above", "signs in"]
)
async def test_a_manager_invites_nobody_who_is_more_than_they_are(access: Access, more: str) -> None:
    """Who redeems an invitation is the user: a manager could become somebody who may more than they."""
    facility, elsewhere = await access.facility(), await access.facility()
    mia, own = await access.manager(facility), await at_home(access, facility)
    await make_more(access, own, facility, elsewhere, more)

    with pytest.raises(Denied):
        await invited(access, own, mia.login)


@pytest.mark.parametrize(
    "more", ["a permission everywhere", "a level elsewhere", "a level above", "signs in"]
)
async def test_an_invitation_of_a_manager_ends_where_the_user_becomes_more(access: Access, more: str) -> None:
    """Position: a manager keeps the code of a user whom an administrator promotes within the week."""
    facility, elsewhere = await access.facility(), await access.facility()
    mia, own = await access.manager(facility), await at_home(access, facility)
    invitation = await invited(access, own, mia.login)
    await make_more(access, own, facility, elsewhere, more)

    with pytest.raises(Conflict, match="whoever invited you may no longer do so"):
        await redeemed(access, invitation)
    with pytest.raises(NotFound):
        await access.identities.resolve_identity(JANE)


async def make_more(access: Access, user: User, facility: Facility, elsewhere: Facility, more: str) -> None:
    match more:
        case "a permission everywhere":
            async with access.database.transaction() as transaction:
                promoted = a_promoted(user)
                await transaction.save_user(promoted, by="ada")
        case "a level elsewhere":
            await access.give(user, elsewhere, PrivilegeLevel.VIEW)
        case "a level above":
            await access.give(user, facility, PrivilegeLevel.VIEW)
        case _:
            await access.identities.save_identity(ADMIN, user.id, Identity("other", "x"))


def a_promoted(user: User) -> User:
    return replace(user, permissions=user.permissions | {PermissionGrant(Permission.READ_AUDIT)})


async def test_an_invitation_of_a_deactivated_manager_counts_no_more(access: Access) -> None:
    facility = await access.facility()
    mia, own = await access.manager(facility), await at_home(access, facility)
    invitation = await invited(access, own, mia.login)
    await access.users.save_user(ADMIN, a_settings(await access.stored(mia.id), active=False))

    with pytest.raises(Conflict, match="whoever invited you"):
        await redeemed(access, invitation)


async def test_a_manager_invites_nobody_of_another_facility(access: Access) -> None:
    mia = await access.manager(await access.facility())
    foreign = await at_home(access, await access.facility())

    with pytest.raises(NotFound):
        await invited(access, foreign, mia.login)


# What somebody is told of themself


async def test_everybody_is_told_who_they_are_with_names(access: Access) -> None:
    north, south = await access.facility("North", "Europe/Amsterdam"), await access.facility("South")
    mia = await access.manager(north, login="mia", name="Mia")
    await access.give(mia, south, PrivilegeLevel.VIEW)

    me = await access.myself.describe_me("MIA")

    held = {each.permission: (each.everywhere, [f.name for f in each.facilities]) for each in me.held}
    assert ("mia", "Mia", north, PrivilegeLevel.VIEW, True) == (
        me.user.login,
        me.user.name,
        me.home,
        me.highest_level,
        me.may_see_cases,
    )
    assert (False, ["North"]) == held[Permission.ADMINISTER_ACCESS]
    assert (True, []) == held[Permission.CREATE_SHARE]
    assert Permission.OPERATOR not in held
    assert "Europe/Amsterdam" == str(me.compiled.zone)


async def test_of_many_facilities_some_are_named_and_the_others_counted(access: Access) -> None:
    facilities = [await access.facility() for _ in range(MAX_NAMED_FACILITIES + 2)]
    grants = frozenset(PermissionGrant(Permission.UPLOAD_STUDY, each.id) for each in facilities)
    await access.user(Role.FACILITY_USER, login="tim", permissions=grants)

    (held,) = (await access.myself.describe_me("tim")).held

    assert (MAX_NAMED_FACILITIES, 2) == (len(held.facilities), held.left_out)
    listed = await access.myself.list_my_facilities("tim", Permission.UPLOAD_STUDY, None, 100)
    assert {each.id for each in facilities} == {each.id for each in listed}


async def test_an_operator_is_told_that_no_case_is_shown_to_them(access: Access) -> None:
    await access.user(Role.OPERATOR, login="oli")

    me = await access.myself.describe_me("oli")

    assert (False, PrivilegeLevel.NONE, None) == (me.may_see_cases, me.highest_level, me.home)


async def test_nobody_learns_of_a_facility_where_they_are_nothing(access: Access) -> None:
    """A permission on cases that somebody holds everywhere tells of no facility."""
    north, south = await access.facility("North"), await access.facility("South")
    jane = await access.user(login="jane")

    async def listed(login: str, permission: Permission | None = None) -> list[str]:
        found = await access.myself.list_my_facilities(login, permission, None, 100)
        return [each.name for each in found]

    assert [] == await listed("jane")
    assert [] == await listed("jane", Permission.VIEW_IMAGES)
    await access.give(jane, south, PrivilegeLevel.VIEW)
    assert ["South"] == await listed("jane")
    assert ["South"] == await listed("jane", Permission.VIEW_IMAGES)
    assert [] == await listed("jane", Permission.READ_AUDIT)
    assert ["North", "South"] == await listed(ADMIN) == await listed(ADMIN, Permission.ADMINISTER_ACCESS)
    after = await access.myself.list_my_facilities(ADMIN, None, (north.name, north.id), 100)
    assert [south] == after
