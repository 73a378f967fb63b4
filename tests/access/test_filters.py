"""Who saves which filter for whom, and what it hides."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from kernel.errors import Conflict, Denied, Invalid, NotFound
from kernel.ids import FacilityId, UserId
from kernel.reading import PrivilegeLevel
from services.access.accessfilter import Historical
from services.access.domain import Facility, Path, Permission, PermissionGrant, Role, User
from services.access.events import BROKEN_FILTERS, look_at
from services.access.filter.faults import FilterError
from services.access.filtering import DescribedFilter, FilterSettings
from services.access.manager import UserSettings
from services.access.received import StudyAttributes
from tests.access.builders import a_study
from tests.access.conftest import ADMIN, Access, refused
from tests.access.service import Service
from tests.clocks import NOON
from wire.access.v1 import access_pb2 as pb

RESEARCH = "StudyDescription contains 'research'"


async def save(
    access: Access,
    user: User,
    expression: str = "",
    *,
    by: str = ADMIN,
    form: Mapping[str, object] | None = None,
    historical: Historical = Historical.OFF,
    version: int | None = None,
) -> DescribedFilter:
    if version is None:
        async with access.database.statements() as statements:
            version = (await statements.last_change_of_filter(user.id)).version
    settings = FilterSettings(user.id, form or {}, expression, historical, version)
    saved, _ = await access.filters.save_filter(by, settings)
    return saved


async def filtered(
    access: Access, facility: Facility, expression: str, role: Role = Role.RADIOLOGIST, **changes: Any
) -> User:
    """A user who sees the facility through a filter."""
    user = await access.user(role, **changes)
    await access.give(user, facility, PrivilegeLevel.REPORT)
    await save(access, user, expression)
    return user


def described(text: str, **attributes: str) -> Any:
    return a_study(attributes=StudyAttributes(patient_name="Doe^Jane", study_description=text, **attributes))


# What a filter does


@pytest.mark.proves("ACC-15", part="as saved")
@pytest.mark.proves("ACC-25", part="hides and shows")
async def test_a_filter_hides_what_it_does_not_show_and_shows_nothing_more(access: Access) -> None:
    facility, other = await access.facility(), await access.facility()
    shown = await access.case(facility, described("Research CT"))
    hidden = await access.case(facility, described("CT head"))
    elsewhere = await access.case(other, described("Research CT"))

    user = await filtered(access, facility, RESEARCH)

    assert [shown] == await access.worklist(user)
    checked = await access.questions.check_many(user.login, [shown, hidden, elsewhere])
    assert [True, False, False] == [each.allowed for each in checked]
    assert PrivilegeLevel.REPORT is checked[0].level
    assert not (await access.check(user, hidden)).allowed


@pytest.mark.proves("ACC-27")
async def test_a_folder_shows_its_cases_through_a_filter_that_hides_everything(access: Access) -> None:
    facility = await access.facility()
    put, other = await access.case(facility), await access.case(facility)
    user = await filtered(access, facility, "false", Role.REFERRING_PHYSICIAN)
    assert [] == await access.worklist(user)

    await access.folders.put_in_folder(ADMIN, await access.folder(user), put)

    assert [put] == await access.worklist(user)
    decision = await access.check(user, put)
    assert ((Path.FOLDER,), PrivilegeLevel.VIEW) == (decision.paths, decision.level)
    assert not (await access.check(user, other)).allowed


async def test_what_a_filter_hides_and_a_grant_shows_is_to_be_viewed_only(access: Access) -> None:
    """The privilege says REPORT, and its path is closed."""
    facility = await access.facility()
    case_id = await access.case(facility)
    user = await filtered(access, facility, "false")
    await access.folders.grant_case(ADMIN, case_id, user.id)

    decision = await access.check(user, case_id)

    assert ((Path.GRANT,), PrivilegeLevel.VIEW, frozenset()) == (
        decision.paths,
        decision.level,
        decision.read_types,
    )


async def test_whoever_is_filtered_sees_nothing_of_what_is_no_case_yet(access: Access) -> None:
    facility = await access.facility()
    user = await access.user()
    await access.give(user, facility, PrivilegeLevel.REPORT)

    async def sees_cases() -> bool:
        answer = await access.questions.check_permission(user.login, Permission.VIEW_IMAGES, facility.id)
        return answer[-1]

    assert await sees_cases()
    await save(access, user, "true")
    assert not await sees_cases()


# Saving


@pytest.mark.proves("ACC-16")
@pytest.mark.proves("A14")
async def test_form_and_expression_are_asked_together_and_open_again_as_they_were(access: Access) -> None:
    facility = await access.facility("Maple Street")
    jane = await filtered(access, facility, "")
    cases = {
        (name, text): await access.case(facility, described(text, referring_physician_name=name))
        for name in ("ROE^RAY", "VOS^VERA")
        for text in ("Research", "Head")
    }
    form = {"referring_physicians": ["roe", "brandt"], "facilities": [str(facility.id)]}
    text = f"{RESEARCH} and facility = 'maple street'"

    saved = await save(access, jane, text, form=form, historical=Historical.EARLIER)

    assert [cases["ROE^RAY", "Research"]] == await access.worklist(jane)
    assert saved == await access.filters.describe_filter(ADMIN, jane.id)
    assert (form, f"{RESEARCH} and facility = 'Maple Street'", Historical.EARLIER, ADMIN, "") == (
        saved.saved.form,
        saved.saved.expression,
        saved.saved.historical,
        saved.last.by,
        saved.fault,
    )


async def test_a_filter_is_kept_by_ids_and_shown_by_todays_names(access: Access) -> None:
    facility = await access.facility("North")
    case_id = await access.case(facility)
    user = await filtered(access, facility, "Facility = 'north'")
    renamed = replace(facility, name="South", version=2)

    await access.hear(renamed)

    assert [case_id] == await access.worklist(user)
    assert "Facility = 'South'" == (await access.filters.describe_filter(ADMIN, user.id)).saved.expression


async def test_another_time_zone_of_the_home_facility_reads_the_dates_of_a_filter_anew(
    access: Access,
) -> None:
    """A date against an instant is read in the zone of the user: that of their home facility."""
    home, facility = await access.facility("Home", "UTC"), await access.facility()
    user = await access.user(home_facility_id=home.id)
    await access.give(user, facility, PrivilegeLevel.VIEW)
    await save(access, user, f"CreatedTime < '{NOON:%Y-%m-%d %H:%M}'")
    case_id = await access.case(facility, a_study(received_at=NOON - timedelta(minutes=30)))
    assert [case_id] == await access.worklist(user)

    # An hour later in Berlin: the same time of day is an hour earlier.
    await access.hear(replace(home, time_zone="Europe/Berlin", version=2))

    assert [] == await access.worklist(user)
    assert not (await access.check(user, case_id)).allowed


@pytest.mark.parametrize("expression", ["StudyDescription = ", "RefPhysName = 'A'", "PatientAge < 18"])
async def test_what_does_not_parse_is_refused_with_its_place_and_changes_nothing(
    access: Access, expression: str
) -> None:
    facility = await access.facility()
    case_id = await access.case(facility, described("Research"))
    user = await filtered(access, facility, RESEARCH)
    before = await access.revision(), await access.audited()

    with pytest.raises(FilterError) as fault:
        await save(access, user, expression)

    assert "expression" == fault.value.field
    assert before == (await access.revision(), await access.audited())
    assert [case_id] == await access.worklist(user)


@pytest.mark.proves("A68", part="filters")
async def test_a_save_names_the_version_that_it_was_made_from(access: Access) -> None:
    user = await access.user()
    first = await save(access, user, RESEARCH)
    assert 1 == first.last.version

    await refused(save(access, user, "true", version=0), Conflict, "version")
    again = await save(access, user, RESEARCH)
    assert first == again
    taken = await save(access, user, "")
    assert (2, "") == (taken.last.version, taken.saved.expression)
    assert 3 == (await save(access, user, "true")).last.version


async def test_a_save_is_audited_told_and_says_nothing_of_a_patient(access: Access) -> None:
    user = await access.user()
    facts, version = len(await access.facts()), (await access.stored(user.id)).version

    await save(access, user, "PatientName = 'Doe^Jane'")

    assert (ADMIN, "filter.saved", "done") == (await access.audited())[-1]
    assert [("user.changed.v1", str(user.id), version + 1)] == (await access.facts())[facts:]
    written = await access.query("select detail::text from audit_rows union select payload::text from outbox")
    assert not [row for row in written if "Doe" in row[0]]


# A stored filter that no longer parses


@pytest.mark.proves("A15")
async def test_a_stored_filter_that_no_longer_parses_hides_everything_and_is_told(access: Access) -> None:
    facility = await access.facility()
    case_id = await access.case(facility)
    user = await filtered(access, facility, "true")
    assert [case_id] == await access.worklist(user)
    for broken in ("NoSuchField = 'x'", "true and", "AssignedToUser = 'no id'"):
        async with access.database.transaction() as transaction:
            await transaction.connection.execute("update user_filters set expression = $1", broken)
            await transaction.bump_users([user.id], by="ada")

        assert [] == await access.worklist(user)
        assert not (await access.check(user, case_id)).allowed
        [listed] = await access.filters.list_filters(ADMIN, "", 10)
        assert (user.login, True) == (listed.login, bool(listed.fault))
        assert (await access.filters.describe_filter(ADMIN, user.id)).fault
        assert 1 == await look_at(access.filters) == BROKEN_FILTERS._value.get()
    await save(access, user, "true")
    assert [case_id] == await access.worklist(user)
    assert 0 == await look_at(access.filters)


async def test_a_form_that_is_kept_and_no_longer_read_hides_everything(access: Access) -> None:
    facility = await access.facility()
    await access.case(facility)
    user = await filtered(access, facility, "true")
    async with access.database.transaction() as transaction:
        await transaction.connection.execute("""update user_filters set form = '{"age_from": "old"}'""")
        await transaction.bump_users([user.id], by="ada")

    assert [] == await access.worklist(user)
    assert (await access.filters.describe_filter(ADMIN, user.id)).fault


# Delegated managers


async def a_managed_user(access: Access, home: Facility, role: Role = Role.FACILITY_USER) -> User:
    user = await access.user(role, home_facility_id=home.id)
    await access.give(user, home, PrivilegeLevel.VIEW)
    return user


@pytest.mark.proves("A72", part="whose filters they change")
async def test_a_manager_changes_filters_of_users_all_of_whose_privileges_are_at_their_facilities(
    access: Access,
) -> None:
    home, other = await access.facility(), await access.facility()
    manager = await access.manager(home)
    jane = await a_managed_user(access, home)
    assert 1 == (await save(access, jane, RESEARCH, by=manager.login)).last.version

    await access.give(jane, other, PrivilegeLevel.VIEW)
    await refused(save(access, jane, "", by=manager.login), Denied, None)
    assert RESEARCH == (await access.filters.describe_filter(manager.login, jane.id)).saved.expression
    await refused(save(access, manager, RESEARCH, by=manager.login), Denied, None)
    stranger = await access.user(Role.FACILITY_USER, home_facility_id=other.id)
    for user_id in (stranger.id, UserId(uuid4())):
        await refused(save(access, replace(stranger, id=user_id), "", by=manager.login), NotFound, "user_id")
        await refused(access.filters.describe_filter(manager.login, user_id), NotFound, "user_id")
    await refused(save(access, jane, "", by=jane.login), Denied, None)
    assert [jane.login] == [each.login for each in await access.filters.list_filters(manager.login, "", 10)]


@pytest.mark.proves("A73", part="filters")
async def test_whoever_is_of_the_facility_side_saves_and_knows_filters_of_that_side_only(
    access: Access,
) -> None:
    home = await access.facility()
    manager = await access.manager(home)
    radiologist = await a_managed_user(access, home, Role.RADIOLOGIST)
    await save(access, radiologist, RESEARCH)

    await refused(save(access, radiologist, "", by=manager.login), Denied, None)
    await refused(access.filters.describe_filter(manager.login, radiologist.id), Denied, None)
    assert [] == await access.filters.list_filters(manager.login, "", 10)
    assert [radiologist.login] == [each.login for each in await access.filters.list_filters(ADMIN, "", 10)]


@pytest.mark.proves("A72", part="whom they create")
async def test_a_manager_who_has_a_filter_gives_it_to_whom_they_create_and_changes_no_other(
    access: Access,
) -> None:
    home = await access.facility()
    manager = await access.manager(home)
    await access.give(manager, home, PrivilegeLevel.VIEW)
    before = await a_managed_user(access, home)
    await save(access, manager, RESEARCH, historical=Historical.ALL)

    created, _ = await access.users.save_user(manager.login, new_user(home.id, Role.FACILITY_USER))

    saved = (await access.filters.describe_filter(ADMIN, created.id)).saved
    assert (RESEARCH, Historical.ALL) == (saved.expression, saved.historical)
    shown = await access.case(home, described("Research"))
    await access.case(home, described("Head"))
    await access.give(created, home, PrivilegeLevel.VIEW, by=manager.login)
    assert [shown] == await access.worklist(created)
    for user in (created, before):
        await refused(save(access, user, "", by=manager.login), Denied, None)


@pytest.mark.proves("A72", part="to whom they give more")
async def test_a_manager_who_has_a_filter_gives_more_only_to_who_has_the_same(access: Access) -> None:
    home = await access.facility()
    manager = await access.manager(home)
    await access.give(manager, home, PrivilegeLevel.VIEW)
    same, other, none = [await access.user(Role.FACILITY_USER, home_facility_id=home.id) for _ in range(3)]
    for user, expression in ((same, RESEARCH), (other, "Modality = 'CT'"), (manager, RESEARCH)):
        await save(access, user, expression)

    for user in (other, none):
        with pytest.raises(Denied):
            await access.give(user, home, PrivilegeLevel.VIEW, by=manager.login)
    await access.give(same, home, PrivilegeLevel.VIEW, by=manager.login)


def new_user(home: FacilityId, role: Role) -> UserSettings:
    return UserSettings(
        user_id=None,
        version=0,
        login=f"new{uuid4().hex[:8]}",
        name="New",
        role=role,
        active=True,
        home_facility_id=home,
        permissions=None,
    )


@pytest.mark.proves("A72", part="a role that makes a filter illegal")
async def test_a_role_that_makes_the_filter_illegal_is_refused(access: Access) -> None:
    user = await access.user(Role.RADIOLOGIST)
    await save(access, user, "AssignedToUser = '$user'")
    stored = await access.stored(user.id)
    settings = replace(
        new_user(FacilityId(uuid4()), Role.REFERRING_PHYSICIAN),
        user_id=user.id,
        version=stored.version,
        login=user.login,
        home_facility_id=None,
    )

    await refused(access.users.save_user(ADMIN, settings), Conflict, "role")
    assert Role.RADIOLOGIST is (await access.stored(user.id)).role
    await save(access, user, "")
    await access.users.save_user(ADMIN, replace(settings, version=stored.version + 1))


async def test_a_manager_shows_others_only_what_their_filter_shows_them(access: Access) -> None:
    home = await access.facility()
    manager = await access.manager(home)
    await access.give(manager, home, PrivilegeLevel.VIEW)
    jane = await a_managed_user(access, home, Role.REFERRING_PHYSICIAN)
    shown = await access.case(home, described("Research"))
    hidden = await access.case(home, described("Head"))
    await save(access, manager, RESEARCH)

    await access.folders.grant_case(manager.login, shown, jane.id)
    await refused(access.folders.grant_case(manager.login, hidden, jane.id), Denied, None)


@pytest.mark.proves("A59", part="filters")
async def test_a_facility_side_filter_answers_alike_for_unknown_and_unseen_names(access: Access) -> None:
    home, other = await access.facility("Home"), await access.facility("Other")
    manager = await access.manager(home)
    jane = await a_managed_user(access, home)
    stranger = await access.user(Role.RADIOLOGIST, home_facility_id=other.id, login="stranger")

    async def said(expression: str) -> str:
        with pytest.raises(Invalid) as refusal:
            await save(access, jane, expression, by=manager.login)
        return refusal.value.sentence

    assert (await said("LockedBy = 'stranger'")).replace("stranger", "x") == (
        await said("LockedBy = 'nobodyyy'")
    ).replace("nobodyyy", "x")
    assert (await said("Facility = 'Other'")).replace("Other", "x") == (
        await said("Facility = 'Thing'")
    ).replace("Thing", "x")
    assert (await said(f"LockedBy = '#{stranger.id}'")).replace(str(stranger.id), "x") == (
        await said(f"LockedBy = '#{(absent := uuid4())}'")
    ).replace(str(absent), "x")
    assert (await said("AssignedToUser = '$user'")) == (await said("AssignedToUser = '$user'"))
    await save(access, jane, "Facility = 'home'", by=manager.login)


async def test_permissions_of_a_filtered_user_stay(access: Access) -> None:
    user = await access.user(permissions=frozenset({PermissionGrant(Permission.DELETE_STUDY)}))
    await save(access, user, "false")

    held, *_ = await access.questions.check_permission(user.login, Permission.DELETE_STUDY, None)

    assert held


# Over the wire


@pytest.mark.proves("ACC-16", part="over the wire")
@pytest.mark.proves("ACC-18", part="over the wire")
async def test_a_filter_is_saved_described_and_listed_over_the_wire(service: Service) -> None:
    facility_id = await service.facility("Maple")
    jane = await service.user(login="jane")
    await service.give(jane, facility_id, pb.LEVEL_VIEW)
    form = pb.FilterForm(
        referring_physicians=["Roe\nVos"],
        modalities=["CT"],
        facility_ids=[facility_id],
        description_words=["research"],
        age_from="18Y",
        study_to="2026-11-21",
    )
    wanted = pb.Filter(
        user_id=jane.user_id,
        form=form,
        expression="Facility = 'maple' and AssignedToUser != 'jane'",
        historical=pb.HISTORICAL_EARLIER,
    )

    saved = await service.stub.SaveFilter(pb.SaveFilterRequest(filter=wanted))

    assert saved.revision
    del form.referring_physicians[:]
    form.referring_physicians.extend(["Roe", "Vos"])
    expected = pb.Filter(
        user_id=jane.user_id,
        login="jane",
        form=form,
        expression="Facility = 'Maple' and AssignedToUser != 'jane'",
        historical=pb.HISTORICAL_EARLIER,
        version=1,
        changed_by=ADMIN,
        changed_at=saved.filter.changed_at,
    )
    assert expected == saved.filter
    described = await service.stub.DescribeFilter(pb.DescribeFilterRequest(user_id=jane.user_id))
    assert expected == described.filter
    listed = await service.stub.ListFilters(pb.ListFiltersRequest())
    assert [("jane", 1, pb.HISTORICAL_EARLIER, False)] == [
        (each.login, each.version, each.historical, each.broken) for each in listed.filters
    ]
    with pytest.raises(Conflict):
        await service.stub.SaveFilter(pb.SaveFilterRequest(filter=wanted))
    with pytest.raises(Denied):
        await service.acting("jane").DescribeFilter(pb.DescribeFilterRequest(user_id=jane.user_id))


async def test_filters_are_listed_in_pages(service: Service) -> None:
    for number in range(5):
        user = await service.user(login=f"user{number}")
        saved = pb.Filter(user_id=user.user_id, expression="true")
        await service.stub.SaveFilter(pb.SaveFilterRequest(filter=saved))

    logins, token = [], ""
    while True:
        page = await service.stub.ListFilters(pb.ListFiltersRequest(page_size=2, page_token=token))
        logins += [each.login for each in page.filters]
        assert len(page.filters) <= 2
        token = page.next_page_token
        if not token:
            break
    assert [f"user{number}" for number in range(5)] == logins


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"user_id": "nobody"}, "user_id"),
        ({"historical": 9}, "historical"),
        ({"expression": "true\0"}, "expression"),
        ({"expression": "(" * 5000}, "expression"),
        ({"form": pb.FilterForm(age_from="old")}, "age_from"),
        ({"form": pb.FilterForm(facility_ids=["north"])}, "facilities"),
        ({"form": pb.FilterForm(facility_ids=[str(uuid4())])}, "form"),
        ({"form": pb.FilterForm(modalities=["CT"] * 9 + [f"M{n}" for n in range(50)])}, "modalities"),
    ],
)
async def test_a_filter_that_cannot_be_is_refused_by_its_field(
    service: Service, changes: dict[str, Any], field: str
) -> None:
    user = await service.user(login="jane")
    values: dict[str, Any] = {"user_id": user.user_id} | changes

    with pytest.raises(Invalid) as refusal:
        await service.stub.SaveFilter(pb.SaveFilterRequest(filter=pb.Filter(**values)))

    assert field == refusal.value.field
    described = await service.stub.DescribeFilter(pb.DescribeFilterRequest(user_id=user.user_id))
    assert 0 == described.filter.version
