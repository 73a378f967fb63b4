"""Roles, privileges and the decision, without a database."""

from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import Invalid
from kernel.ids import FolderId
from kernel.reading import PrivilegeLevel, ReadType, Side
from services.access.domain import (
    ROLES,
    Path,
    Privilege,
    Role,
    compile_user,
    decide,
    effective_privilege,
    expiry_instant,
)
from services.access.names import canonical_login, checked_name
from services.access.privileges import checked_privilege, must_suit
from tests.access.builders import PrivilegeCase, a_facility, a_user, privilege_cases

NORTH = a_facility("North", "Europe/Amsterdam")
SOUTH = a_facility("South", "America/New_York")
PLACES = {"North": NORTH.id, "South": SOUTH.id}

levels = st.sampled_from(PrivilegeLevel)
roles = st.sampled_from(Role)
zones = st.sampled_from(["UTC", "Europe/Amsterdam", "Asia/Kathmandu", "Pacific/Kiritimati", "Africa/Cairo"])
days = st.dates(date(2020, 1, 1), date(2035, 1, 1))
instants = st.integers(0, 17 * 365 * 86_400).map(
    lambda s: datetime(2019, 1, 1, tzinfo=UTC) + timedelta(seconds=s)
)


@st.composite
def privileges(draw: st.DrawFn) -> Privilege:
    level = draw(levels)
    if level is not PrivilegeLevel.REPORT:
        return checked_privilege(level, None, frozenset())
    read_types = draw(st.frozensets(st.sampled_from(ReadType)))
    return checked_privilege(level, draw(st.none() | days), read_types)


@pytest.mark.parametrize("case", privilege_cases())
def test_what_a_user_may_do_with_a_case(case: PrivilegeCase) -> None:
    held = [(NORTH, case.privilege()), (SOUTH, case.privilege("elsewhere"))]
    folder = FolderId(uuid4())
    user = compile_user(
        a_user(case.role, permissions=case.permissions(PLACES)),
        [(facility, privilege) for facility, privilege in held if privilege],
        [folder] if case.entry.get("folder") else [],
    )
    paths = {
        Path.PRIVILEGE: NORTH.id in user.facilities,
        Path.GRANT: bool(user.grantee) and case.entry.get("grant", False),
        Path.FOLDER: folder in user.folders,
        Path.SHARE: bool(user.grantee) and "share" in case.entry,
    }
    open_paths = tuple(path for path, is_open in paths.items() if is_open)

    assert bool(open_paths) == (case.expected is not None)
    if case.expected is None:
        return
    decision = decide(user, NORTH.id, open_paths, case.now, may_write=case.entry.get("share") == "write")
    assert {
        "level": decision.level.name.lower(),
        "images": decision.images,
        "reports": decision.reports,
        "read_types": sorted(decision.read_types),
        "ways": list(decision.paths),
    } == {**case.expected, "read_types": sorted(case.expected["read_types"])}
    assert decision.side is ROLES[case.role].side
    own = decide(user, NORTH.id, tuple(set(open_paths) - {Path.SHARE}), case.now)
    assert (own.level if open_paths != (Path.SHARE,) else PrivilegeLevel.NONE, own.read_types) == (
        decision.own_level,
        decision.own_read_types,
    )


@pytest.mark.proves("ACC-12")
@given(privileges(), roles, zones, instants, st.timedeltas(timedelta(0), timedelta(days=5000)))
def test_time_never_raises_a_level(
    privilege: Privilege, role: Role, zone: str, now: datetime, later: timedelta
) -> None:
    effective = effective_privilege(privilege, role, zone)

    assert effective.at(now + later) <= effective.at(now)
    assert effective.at(now) <= min(privilege.level, ROLES[role].ceiling)


@given(levels, levels, roles, zones, instants, days)
def test_a_higher_privilege_never_amounts_to_less(
    one: PrivilegeLevel, other: PrivilegeLevel, role: Role, zone: str, now: datetime, day: date
) -> None:
    low, high = (
        effective_privilege(Privilege(level, day if level is PrivilegeLevel.REPORT else None), role, zone).at(
            now
        )
        for level in sorted([one, other])
    )

    assert low <= high


@pytest.mark.proves("ACC-12")
@given(privileges(), roles, zones, instants)
def test_whether_a_path_opens_does_not_depend_on_the_time(
    privilege: Privilege, role: Role, zone: str, now: datetime
) -> None:
    facility = a_facility(time_zone=zone)
    user = compile_user(a_user(role), [(facility, privilege)], [])

    assert (facility.id in user.facilities) == (user.level_at(facility.id, now) >= PrivilegeLevel.VIEW)


@pytest.mark.proves("ACC-12")
@given(days, zones)
@pytest.mark.proves("R11", part="the end of a privilege")
def test_a_privilege_expires_at_the_beginning_of_the_day_at_the_facility(day: date, zone: str) -> None:
    effective = effective_privilege(Privilege(PrivilegeLevel.REPORT, day), Role.RADIOLOGIST, zone)
    instant = expiry_instant(day, zone)

    assert PrivilegeLevel.REPORT is effective.at(instant - timedelta(microseconds=1))
    assert PrivilegeLevel.DRAFT is effective.at(instant)


def test_where_midnight_is_skipped_the_day_begins_when_the_clock_jumps() -> None:
    # Cairo went from 23:59:59 EET (UTC+2) of 25 April 2024 to 01:00 EEST.
    assert datetime(2024, 4, 25, 22, tzinfo=UTC) == expiry_instant(date(2024, 4, 26), "Africa/Cairo")


def test_where_midnight_happens_twice_the_first_counts() -> None:
    # Havana went from 00:59:59 CDT (UTC-4) of 3 November 2024 back to 00:00 CST.
    assert datetime(2024, 11, 3, 4, tzinfo=UTC) == expiry_instant(date(2024, 11, 3), "America/Havana")


@pytest.mark.proves("ACC-11")
@pytest.mark.parametrize("level", [PrivilegeLevel.NONE, PrivilegeLevel.VIEW, PrivilegeLevel.DRAFT])
def test_only_view_and_report_may_expire(level: PrivilegeLevel) -> None:
    with pytest.raises(Invalid) as refused:
        checked_privilege(level, date(2027, 1, 1), frozenset())

    assert refused.value.field == "expires_on"


@pytest.mark.parametrize("level", [PrivilegeLevel.NONE, PrivilegeLevel.VIEW, PrivilegeLevel.DRAFT])
def test_only_view_and_report_has_read_types(level: PrivilegeLevel) -> None:
    with pytest.raises(Invalid) as refused:
        checked_privilege(level, None, frozenset({ReadType.FINAL}))

    assert refused.value.field == "read_types"


@pytest.mark.proves("REP-7", part="who may be given it")
@pytest.mark.parametrize("role", Role)
def test_a_pre_read_is_for_roles_of_the_group_side_only(role: Role) -> None:
    privilege = checked_privilege(PrivilegeLevel.REPORT, None, frozenset({ReadType.PRE_READ, ReadType.FINAL}))

    if ROLES[role].side is Side.GROUP:
        must_suit(privilege, role)
        return
    must_suit(checked_privilege(PrivilegeLevel.REPORT, None, frozenset()), role)
    with pytest.raises(Invalid) as refused:
        must_suit(privilege, role)
    assert refused.value.field == "read_types"
    # Stored while they had another role, it lies dormant.
    assert frozenset() == effective_privilege(privilege, role, "UTC").read_types


def test_a_facility_manager_needs_a_facility() -> None:
    with pytest.raises(Invalid) as refused:
        a_user(Role.FACILITY_MANAGER, home_facility_id=None)

    assert refused.value.field == "home_facility_id"


@pytest.mark.parametrize(
    "login", ["", "a" * 129, "$user", "o'brien", 'a"b', "a b", "a\0b", "ａda", "a\n", "é"]
)
def test_a_login_with_anything_else_than_letters_digits_and_four_signs_is_refused(login: str) -> None:
    with pytest.raises(Invalid) as refused:
        canonical_login(login)

    assert refused.value.field == "login"


def test_a_login_is_without_regard_to_case() -> None:
    assert "j.doe_1@ward-3" == canonical_login("J.Doe_1@Ward-3")
    assert "jane+rad@clinic.example" == canonical_login("Jane+Rad@clinic.example")


@pytest.mark.parametrize("name", ["", "   ", "a" * 65, "a\nb", "a\0b", "\u202eabc"])
def test_a_name_is_one_line(name: str) -> None:
    with pytest.raises(Invalid):
        checked_name(name, 64)
