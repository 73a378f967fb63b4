"""The worklist in every order, searched, page by page, forward and back."""

import asyncio
from base64 import urlsafe_b64decode
from collections.abc import Callable
from datetime import date, timedelta
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.errors import Invalid, Unavailable
from kernel.ids import CaseId, FacilityId
from kernel.reading import PrivilegeLevel
from plumbing.db import Database
from services.access.accessfilter import Historical
from services.access.answers import a_page
from services.access.domain import Facility, Role, User
from services.access.filtering import FilterSettings
from services.access.main import LISTING_SETTINGS
from services.access.places import PlaceTokens
from services.access.received import StudyAttributes
from services.access.search import NEWEST_FIRST, Listing, Order, Place
from services.access.shown import ALL_COLUMNS
from services.access.store import AccessTransaction
from services.access.usecases import Count, Page, Questions
from services.access.walking import PATIENT, Pace
from tests.access.builders import a_bucket, a_part, a_study
from tests.access.conftest import ADMIN, Access, start
from tests.clocks import NOON
from tests.wait import eventually

# Spelt alike, almost alike, absent.
NAMES = {
    "": "",
    "Roe^Jane": "roe^jane",
    "ROE^JANE^^": "roe^jane",
    "Röe^A": "roe^a",
    "Doe": "doe",
    "Åberg": "aberg",
}
DATES = {"": None, "20261120": date(2026, 11, 20), "20261031": date(2026, 10, 31), "unknown": None}
MODALITIES = ("CT", "MR", "US")

Told = dict[CaseId, dict[str, Any]]

BREATHLESS = Pace(budget_s=0, first_look=2, first_page=2, spare=1)
"""Each page ends after its first window, which is small."""

CURIOUS = Pace(budget_s=60, first_look=1, first_page=1, long_walk=0, few=3, spare=0)
"""Windows are small, and every index is tried, some of which find more than few."""

# A line or a filter, and what it means, told without the language.
SEARCHES: dict[tuple[str, str], Callable[[dict[str, Any]], bool]] = {
    ("", ""): lambda case: True,
    ("roe", ""): lambda case: "roe" in case["plain name"],
    ("roe ct", ""): lambda case: "roe" in case["plain name"] and case["modality"] == "CT",
    ("2026-11", ""): lambda case: case["day"] == date(2026, 11, 20),
    ("", "StudyDate is null"): lambda case: case["day"] is None,
    ("", "Priority != 'NORMAL' and Modality in ('CT', 'US')"): lambda case: (
        case["priority"] > 0 and case["modality"] in ("CT", "US")
    ),
    ("", "StudyStatusID != 'READ'"): lambda case: True,
    ("-400d", "not plain(PatientName) contains 'roe'"): lambda case: (
        case["day"] is not None and case["name"] != "" and "roe" not in case["plain name"]
    ),
}

KEYS: dict[Order, Callable[[dict[str, Any]], Any]] = {
    Order.RECEIVED: lambda case: case["received"],
    Order.STUDY_DATE: lambda case: case["day"] or date.min,
    Order.PATIENT_NAME: lambda case: case["plain name"],
    Order.PRIORITY: lambda case: case["priority"],
}


async def a_case(access: Access, facility: Facility, random: Random) -> tuple[CaseId, dict[str, Any]]:
    name, study_date = random.choice(list(NAMES)), random.choice(list(DATES))
    received = NOON + timedelta(minutes=random.randint(0, 5))
    modality, priority = random.choice(MODALITIES), random.choice((0, 0, 1, 2))
    attributes = StudyAttributes(patient_name=name, study_date=study_date)
    part = a_part(modalities=(modality,), received_at=received)
    study = a_study(part, attributes=attributes, in_full=True)
    case_id = await access.case(facility, study)
    async with access.database.transaction() as transaction:
        await transaction.connection.execute(
            "update cases set priority = $2 where case_id = $1", case_id, priority
        )
    return case_id, {
        "facility": facility.id,
        "name": name,
        "plain name": NAMES[name],
        "day": DATES[study_date],
        "received": received,
        "modality": modality,
        "priority": priority,
    }


async def a_world(access: Access, random: Random) -> tuple[list[User], list[Facility], Told]:
    """Facilities, users, cases, and all ways by which these see those, at random."""
    facilities = [await access.facility() for _ in range(3)]
    told = dict(
        [await a_case(access, random.choice(facilities), random) for _ in range(random.randint(0, 24))]
    )
    users = [await access.user(role) for role in (Role.RADIOLOGIST, Role.FACILITY_USER)]
    users.append(await access.user())
    for user in users:
        for facility in facilities:
            if random.random() < 0.6:
                await access.give(user, facility, random.choice(list(PrivilegeLevel)))
        some = random.sample(sorted(told), len(told) // 4)
        for case_id in some:
            await access.folders.grant_case(ADMIN, case_id, user.id)
        for name in ("one", "other"):
            folder_id = await access.folder(user, name=f"{name} {user.login}")
            for case_id in random.sample(sorted(told), len(told) // 4):
                await access.folders.put_in_folder(ADMIN, folder_id, case_id)
        async with access.database.transaction() as transaction:
            await transaction.save_buckets([a_bucket(user, *random.sample(sorted(told), len(told) // 5))])
    filtered = FilterSettings(
        users[2].id, {}, "plain(PatientName) contains 'roe'", random.choice(list(Historical)), 0
    )
    await access.filters.save_filter(ADMIN, filtered)
    return users, facilities, told


async def pages(
    access: Access, user: User, asked: Listing, size: int, place: Place | None = None, *, back: bool = False
) -> list[list[CaseId]]:
    """All pages from a place on, in the order in which they are asked for."""
    found: list[list[CaseId]] = []
    while True:
        page = await access.questions.list_cases(user.login, place, size, asked)
        found.append([case.case_id for case in page])
        assert len(page) == size or page.is_cut or page.more is None
        if page.more is None:
            return found
        assert page.more.backward is back
        place = page.more


async def allowed(access: Access, user: User, told: Told) -> set[CaseId]:
    if not told:
        return set()
    checked = await access.questions.check_many(user.login, list(told))
    return {case_id for case_id, each in zip(told, checked, strict=True) if each.allowed}


@pytest.mark.proves("BEY-3", part="lists")
def test_all_pages_together_are_what_check_allows_and_the_search_finds_in_order(fresh_database: Any) -> None:
    @settings(max_examples=12, deadline=None)
    @given(st.integers(0, 2**32), st.integers(1, 7))
    def agree(seed: int, size: int) -> None:
        async def try_it() -> None:
            random = Random(seed)
            async for access in start(fresh_database("access")):
                users, facilities, told = await a_world(access, random)
                if random.random() < 0.5:  # then PostgreSQL knows where most cases are
                    await access.query("analyze cases")
                patient = access.questions
                access.questions = Questions(
                    access.database, access.clock, pace=random.choice((PATIENT, BREATHLESS, CURIOUS))
                )
                for user in users:
                    seen = await allowed(access, user, told)
                    for order in Order:
                        (line, where), finds = random.choice(list(SEARCHES.items()))
                        facility_id = random.choice((None, None, facilities[0].id))
                        asked = Listing(order, random.random() < 0.5, facility_id, where, line)
                        expected = sorted(
                            (
                                case_id
                                for case_id in seen
                                if finds(told[case_id]) and facility_id in (None, told[case_id]["facility"])
                            ),
                            key=lambda case_id, order=order: (KEYS[order](told[case_id]), case_id),  # type: ignore[misc]
                            reverse=asked.descending,
                        )
                        counted = await access.questions.count_cases(user.login, asked)
                        assert not counted.is_more
                        assert counted.count == len(expected) or counted.is_cut, asked
                        assert counted.count <= len(expected)
                        forward = await pages(access, user, asked, size)
                        assert expected == [each for page in forward for each in page], asked
                        if len(expected) > 1:
                            whole = await patient.list_cases(user.login, None, 500, asked)
                            last = whole[-1].place
                            assert last is not None
                            back = await pages(access, user, asked, size, last.before(), back=True)
                            assert expected[:-1] == [each for page in back[::-1] for each in page], asked

        asyncio.run(try_it())

    agree()


@pytest.mark.proves("BEY-3", part="lists")
@pytest.mark.parametrize("order", list(Order))
@pytest.mark.parametrize("pace", [PATIENT, BREATHLESS], ids=["patient", "breathless"])
async def test_in_any_order_pages_stay_complete_while_cases_come_move_and_go(
    access: Access, order: Order, pace: Pace
) -> None:
    """Who is there all the while is told once, wherever a page ends; who goes is told no more."""
    random = Random(order)
    questions = Questions(access.database, access.clock, pace=pace)
    here, there, elsewhere = [await access.facility() for _ in range(3)]
    user = await access.user()
    for facility in (here, there):
        await access.give(user, facility, PrivilegeLevel.VIEW)
    told = dict([await a_case(access, random.choice((here, there)), random) for _ in range(20)])
    goes = random.sample(sorted(told), 6)
    asked, place = Listing(order, random.random() < 0.5), None
    seen: list[CaseId] = []
    gone: set[CaseId] = set()
    for _ in range(200):
        page = await questions.list_cases(user.login, place, 3, asked)
        listed = [case.case_id for case in page]
        assert gone.isdisjoint(listed)
        seen += listed
        place = page.more
        if place is None:
            break
        await a_case(access, random.choice((here, there)), random)
        if goes:
            case_id = goes.pop()
            gone.add(case_id)
            if len(goes) % 2:
                await access.query(
                    "update cases set facility_id = $2 where case_id = $1", case_id, elsewhere.id
                )
            else:
                await access.query("update cases set move_id = $1 where case_id = $1", case_id)

    assert place is None, "the list has an end"
    assert told.keys() - gone <= set(seen)
    assert len(seen) == len(set(seen))


# Where a search ends


async def test_a_search_restricts_what_is_seen_by_a_grant_too(access: Access) -> None:
    user = await access.user()
    elsewhere = await access.facility()
    random = Random(1)
    told = dict([await a_case(access, elsewhere, random) for _ in range(12)])
    for case_id in told:
        await access.folders.grant_case(ADMIN, case_id, user.id)

    found = await access.questions.list_cases(user.login, None, 50, Listing(line="roe"))

    roes = {case_id for case_id, case in told.items() if "roe" in case["plain name"]}
    assert 0 < len(roes) < len(told)
    assert roes == {case.case_id for case in found}


async def test_who_does_not_exist_for_one_is_answered_like_who_does_not_exist(access: Access) -> None:
    reader, colleague = await access.user(), await access.user(login="colleague")
    outsider = await access.user(Role.FACILITY_USER, login="outsider")
    hidden = await access.facility("Hidden")

    async def answer(user: User, where: str, name: str) -> str:
        try:
            await access.questions.list_cases(user.login, None, 5, Listing(where=where.format(name)))
        except Invalid as refused:
            return f"{refused.field}: {refused.sentence.replace(name, 'NAME')}"
        return "found"

    for user, where, name in (
        (outsider, "LockedBy = '{}'", colleague.login),
        (reader, "LockedBy = '{}'", outsider.login),
        (reader, "Facility = '{}'", hidden.name),
        (outsider, "AssignedToUser = '{}'", colleague.login),
    ):
        assert await answer(user, where, name) == await answer(user, where, "nobodyat"), where
    assert await answer(reader, "AssignedToUser = '{}'", colleague.login) == "found"
    assert await answer(outsider, "LockedBy = '{}'", "$user") == "found"


async def test_a_place_in_a_search_is_judged_with_todays_rights(access: Access) -> None:
    """A facility that somebody may not know of any more is as unknown in the next search."""
    user, facility = await access.user(), await access.facility("Maple")
    await access.give(user, facility, PrivilegeLevel.VIEW)
    asked = Listing(where="Facility = 'Maple'")
    assert [] == await access.questions.list_cases(user.login, None, 5, asked)
    await access.give(user, facility, PrivilegeLevel.NONE)

    with pytest.raises(Invalid, match="there is no facility"):
        await access.questions.list_cases(user.login, None, 5, asked)


async def test_what_somebody_came_to_know_of_is_searched_for_at_once(access: Access) -> None:
    user, facility = await access.user(), await access.facility("Maple")
    asked = Listing(where="Facility = 'Maple'")
    with pytest.raises(Invalid):
        await access.questions.list_cases(user.login, None, 5, asked)
    await access.give(user, facility, PrivilegeLevel.VIEW)
    case_id = await access.case(facility)

    assert [case_id] == [
        case.case_id for case in await access.questions.list_cases(user.login, None, 5, asked)
    ]


async def test_a_line_is_shown_as_a_filter(access: Access) -> None:
    user, facility = await access.user(), await access.facility("Maple")
    await access.give(user, facility, PrivilegeLevel.VIEW)

    assert "Facility in ('Maple')" == await access.questions.read_search(user.login, "fac:map")
    assert "" == await access.questions.read_search(user.login, " ")


# Tokens of places

PLACE = Place("roe^jane", CaseId(uuid4()))
TOKENS = PlaceTokens("k" * 32)


def test_a_token_of_a_place_names_nobody_and_comes_back() -> None:
    token = TOKENS.token(PLACE, "jane", NEWEST_FIRST)

    assert PLACE == TOKENS.place(token, "jane", NEWEST_FIRST)
    assert b"roe" not in urlsafe_b64decode(token)
    assert token != TOKENS.token(PLACE, "jane", NEWEST_FIRST)
    assert TOKENS.place("", "jane", NEWEST_FIRST) is None


@pytest.mark.parametrize(
    ("login", "asked"),
    [
        ("john", NEWEST_FIRST),
        ("jane", Listing(Order.PATIENT_NAME)),
        ("jane", Listing(descending=False)),
        ("jane", Listing(facility_id=FacilityId(UUID(int=1)))),
        ("jane", Listing(where="true")),
        ("jane", Listing(line="ct")),
    ],
)
def test_a_token_counts_for_its_user_order_and_search_alone(login: str, asked: Listing) -> None:
    token = TOKENS.token(PLACE, "jane", NEWEST_FIRST)

    with pytest.raises(Invalid) as refused:
        TOKENS.place(token, login, asked)
    assert refused.value.field == "page_token"


@pytest.mark.parametrize("token", ["x", "AAAA", "é", "A" * 9000, "IlwUMDAwMCI="])
def test_what_is_no_token_of_a_place_is_refused(token: str) -> None:
    with pytest.raises(Invalid):
        TOKENS.place(token, "jane", NEWEST_FIRST)


def test_a_token_of_another_key_is_refused() -> None:
    with pytest.raises(Invalid):
        TOKENS.place(PlaceTokens("o" * 32).token(PLACE, "jane", NEWEST_FIRST), "jane", NEWEST_FIRST)


# What grants, folders and shares keep of an order


async def test_what_is_shown_keeps_its_place_in_every_order_whatever_is_corrected(access: Access) -> None:
    random = Random(5)
    facility, user = await access.facility(), await access.user()
    told = dict([await a_case(access, facility, random) for _ in range(4)])
    for case_id in told:
        await access.folders.grant_case(ADMIN, case_id, user.id)
        await access.folders.put_in_folder(ADMIN, await access.folder(user, name=f"{case_id}"), case_id)
    await access.share(user, *told)
    for _ in range(6):
        case_id = random.choice(sorted(told))
        await access.query(
            "update cases set patient_name_order = $2, priority = $3, study_order = $4 where case_id = $1",
            case_id,
            random.choice(list(NAMES.values())),
            random.choice((0, 1, 2)),
            NOON.replace(tzinfo=None) + timedelta(days=random.randint(0, 9)),
        )

    for table in ("case_grants", "folder_cases", "bucket_cases"):
        rows = await access.query(
            f"""
            select (s.patient_name_order, s.priority, s.study_order) = (
                c.patient_name_order, c.priority, c.study_order
            ) as alike from {table} s join cases c using (case_id)
            """
        )
        assert [True] * 4 == [row["alike"] for row in rows], table


async def test_what_is_shown_while_it_is_corrected_gets_the_place_that_the_correction_gave(
    access: Access,
) -> None:
    """Whoever shows a case waits for whoever changes it, and reads what that left."""
    facility, user = await access.facility(), await access.user()
    case_id, _ = await a_case(access, facility, Random(1))
    async with access.database.transaction() as correcting:
        await correcting.connection.execute(
            "update cases set patient_name_order = 'corrected' where case_id = $1", case_id
        )
        async with access.database.statements() as elsewhere:
            showing = asyncio.create_task(elsewhere.grant_case(user.id, case_id))
            await eventually(lambda: waits_for_a_row(correcting.connection))
    assert await showing

    [row] = await access.query("select patient_name_order from case_grants")
    assert "corrected" == row["patient_name_order"]


async def waits_for_a_row(connection: Any) -> bool:
    return bool(
        await connection.fetchval(
            "select exists (select from pg_stat_activity where wait_event_type = 'Lock'"
            " and datname = current_database())"
        )
    )


# Counts, and what is passed over


async def test_a_long_list_is_not_counted_to_its_end(access: Access) -> None:
    user, facility = await access.user(), await access.facility()
    await access.give(user, facility, PrivilegeLevel.VIEW)
    questions = Questions(access.database, access.clock, max_counted=7)
    for _ in range(7):
        await access.case(facility)

    assert Count(7, is_more=False, is_cut=False) == await questions.count_cases(user.login)
    await access.case(facility)
    assert Count(7, is_more=True, is_cut=False) == await questions.count_cases(user.login)
    hasty = Questions(access.database, access.clock, pace=Pace(budget_s=0, first_page=3))
    counted = await hasty.count_cases(user.login)
    assert counted.is_cut
    assert not counted.is_more
    assert 0 < counted.count < 8


async def test_what_is_passed_over_is_not_told(access: Access) -> None:
    user, facility = await access.user(), await access.facility()
    await access.give(user, facility, PrivilegeLevel.VIEW)
    random = Random(3)
    for _ in range(7):
        await a_case(access, facility, random)
    whole = [case.case_id for case in await access.questions.list_cases(user.login, None, 9)]

    page = await access.questions.list_cases(user.login, None, 3, skip=2)

    assert whole[2:5] == [case.case_id for case in page]
    assert page.more is not None
    after = await access.questions.list_cases(user.login, page.more, 9)
    assert whole[5:] == [case.case_id for case in after]
    assert [] == await access.questions.list_cases(user.login, None, 3, skip=7)


async def test_a_list_that_cannot_be_looked_at_in_time_is_refused_and_never_cut_in_silence(
    access: Access, fresh_database: Any
) -> None:
    user, facility = await access.user(), await access.facility()
    await access.give(user, facility, PrivilegeLevel.VIEW)
    [row] = await access.query("select current_database() as name")
    url = fresh_database("access").rsplit("/", 1)[0] + f"/{row['name']}"
    hasty = await Database.connect(
        url,
        AccessTransaction,
        clock=access.clock,
        new_id=uuid4,
        settings={**LISTING_SETTINGS, "statement_timeout": "400ms"},
    )
    questions = Questions(access.database, access.clock, lists=hasty, pace=Pace())
    try:
        assert [] == await questions.list_cases(user.login, None, 5)
        async with access.database.transaction() as blocking:
            await blocking.connection.execute("lock table cases in access exclusive mode")
            with pytest.raises(Unavailable, match="takes too long"):
                await questions.list_cases(user.login, None, 5)
        assert [] == await questions.list_cases(user.login, None, 5), "the connection is as it was"
    finally:
        await hasty.close()


def test_an_empty_page_whose_time_ended_leads_on_and_back() -> None:
    def answered(came_to: Place | None, more: Place) -> tuple[str, str, bool]:
        page = Page()
        page.more, page.is_cut = more, True
        told = a_page(page, came_to, lambda place: "back" if place.backward else "on", ALL_COLUMNS)
        return told.next_page_token, told.previous_page_token, told.continues

    assert ("on", "", True) == answered(None, PLACE)
    assert ("on", "back", True) == answered(PLACE, PLACE)
    assert ("on", "back", True) == answered(PLACE.before(), PLACE.before())
