"""What is outdated is derived again: slowly, by one process at a time, and harmless when it is done twice."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from prometheus_client import REGISTRY

from kernel.errors import Unavailable
from kernel.ids import CaseId, FacilityId
from local.embedded import EmbeddedServers
from plumbing.components import COMPONENTS
from plumbing.leases import Lease
from plumbing.migrating import migrate
from services.access import events
from services.access.derived import DERIVED
from services.access.describing import BATCH, OUTLIVED, Describing
from services.access.domain import Facility
from services.access.received import Distinct, ReceivedStudy, StudyAttributes
from tests.access.builders import a_part, a_placement, a_study
from tests.access.conftest import Access, start
from tests.access.test_filters import filtered
from tests.clocks import NOON

ROOT = Path(__file__).parents[2]
SAID = StudyAttributes("Müller^Ute", "P-1", "19700131", study_date="20261101", study_time="1000")


def a_full_study(**changes: Any) -> ReceivedStudy:
    """As an ingest of this version tells it."""
    part = a_part(institution_names=Distinct(("East",)), last_received_at=NOON)
    return a_study(part, attributes=changes.pop("attributes", SAID), in_full=True, **changes)


async def one_round(access: Access, holder: UUID | None = None) -> None:
    describing = Describing(access.database, access.index)
    await events.describe(describing, Lease(access.database, "describe", holder or uuid4()))


async def rows(access: Access, columns: str, *case_ids: CaseId) -> list[tuple[Any, ...]]:
    found = await access.query(
        f"select {columns} from cases where $1 = '{{}}'::uuid[] or case_id = any($1) order by case_id",
        case_ids,
    )
    return [tuple(row) for row in found]


def test_each_state_of_what_is_derived_has_an_index_of_what_waits() -> None:
    migrations = [path.read_text() for path in (ROOT / "services/access/migrations").glob("*.sql")]

    assert any(f"on cases (case_id) where derived < {DERIVED};" in text for text in migrations)


async def test_cases_that_the_version_before_wrote_are_described_and_filed(access: Access) -> None:
    """More than a batch of them, of which ingest tells more now than it did then."""
    facility = await access.facility(time_zone="Europe/Berlin")
    studies = [a_full_study() for _ in range(BATCH + 3)]
    for study in studies:
        await access.case(facility, replace(study, in_full=False, parts=(a_part(),)))
        access.owners.add(study)
    await access.query(
        """
        update cases set derived = 0, derived_in = null, plain_text = null, person_id = null,
            patient_record_id = null
        """
    )
    await access.query("delete from patients")
    before = await access.query("select case_id, received_at from cases order by case_id")

    await one_round(access)

    found = await rows(
        access, "derived, institution_names, study_at, last_received_at, plain_text like '%muller%'"
    )
    assert {(DERIVED, ("East",), datetime(2026, 11, 1, 9, tzinfo=UTC), NOON, True)} == {
        (derived, tuple(names), *others) for derived, names, *others in found
    }
    assert 1 == len(set(await rows(access, "person_id")))
    assert before == await access.query("select case_id, received_at from cases order by case_id")
    assert 0 == REGISTRY.get_sample_value("readroom_access_outdated_cases")


async def test_a_study_that_ingest_does_not_tell_in_full_waits_and_is_derived_from_what_is_known(
    access: Access,
) -> None:
    facility = await access.facility()
    study = a_full_study()
    case_id = await access.case(facility, replace(study, in_full=False))
    assert [(0, True)] == await rows(access, "derived, plain_text is not null", case_id)

    await one_round(access)
    assert [(0,)] == await rows(access, "derived", case_id)

    access.owners.add(study)
    await one_round(access)
    assert [(DERIVED,)] == await rows(access, "derived", case_id)


async def test_a_filter_takes_nothing_for_absent_before_a_case_is_described(access: Access) -> None:
    """The version before kept no institution: that says nothing of whether there is one."""
    facility = await access.facility()
    with_one, without = a_full_study(), a_study(a_part(last_received_at=NOON), in_full=True)
    cases = []
    for study in (with_one, without):
        cases.append(await access.case(facility, replace(study, in_full=False, parts=(a_part(),))))
        access.owners.add(study)
    user = await filtered(access, facility, "InstitutionName is null")
    assert [] == await access.worklist(user)
    assert not any([(await access.check(user, each)).allowed for each in cases])

    await one_round(access)

    assert [cases[1]] == await access.worklist(user)
    assert [False, True] == [(await access.check(user, each)).allowed for each in cases]


async def test_one_case_that_cannot_be_described_keeps_no_other_from_it(access: Access) -> None:
    facility = await access.facility()
    cases = [await access.case(facility, replace(a_full_study(), in_full=False)) for _ in range(3)]
    for study in list(access.owners.studies.values()):
        access.owners.add(replace(study, in_full=True))
    broken = (await access.query("select study_id from case_studies where case_id = $1", cases[1]))[0][0]
    access.owners.studies[broken] = "no study"  # type: ignore[assignment]

    with pytest.raises(Unavailable, match="1 cases could not be derived again"):
        await one_round(access)

    assert [(DERIVED,), (DERIVED,)] == await rows(access, "derived", cases[0], cases[2])
    assert [(0,)] == await rows(access, "derived", cases[1])


async def test_where_nothing_goes_it_stops_and_goes_on_from_there_later(access: Access) -> None:
    """Somebody is away: whoever asked thousands of times would ask for hours."""
    facility = await access.facility()
    cases = [await access.case(facility, replace(a_full_study(), in_full=False)) for _ in range(BATCH + 2)]
    told = {id_: replace(study, in_full=True) for id_, study in access.owners.studies.items()}
    access.owners.studies.update(dict.fromkeys(told, "no study"))  # type: ignore[arg-type]
    access.owners.asked.clear()
    describing = Describing(access.database, access.index)
    lease = Lease(access.database, "describe", uuid4())

    with pytest.raises(Unavailable):
        await events.describe(describing, lease)
    assert BATCH == len(access.owners.asked)

    access.owners.studies.update(told)
    await events.describe(describing, lease)
    await events.describe(describing, lease)
    assert {(DERIVED,)} == set(await rows(access, "derived", *cases))


async def test_a_second_process_leaves_it_to_the_first(access: Access) -> None:
    facility = await access.facility()
    study = a_full_study()
    case_id = await access.case(facility, replace(study, in_full=False))
    access.owners.add(study)
    first = uuid4()
    assert await Lease(access.database, "describe", first).hold()

    await one_round(access)
    assert [(0,)] == await rows(access, "derived", case_id)
    await one_round(access, first)
    assert [(DERIVED,)] == await rows(access, "derived", case_id)


async def test_several_at_once_end_as_one_does(access: Access) -> None:
    """A lease guards nothing: a process that stood still may go on."""
    facility = await access.facility()
    for _ in range(8):
        study = a_full_study()
        await access.case(facility, replace(study, in_full=False))
        access.owners.add(study)
    describing = [Describing(access.database, access.index) for _ in range(3)]

    async def all_of(each: Describing) -> None:
        for case_id in await each.next():
            await each.describe(case_id)

    await asyncio.gather(*map(all_of, describing))

    assert {(DERIVED,)} == set(await rows(access, "derived"))
    assert 1 == len(await access.query("select * from patients"))


async def test_a_case_that_is_purged_meanwhile_stays_away(access: Access) -> None:
    facility = await access.facility()
    case_id = await access.case(facility, replace(a_full_study(), in_full=False))
    describing = Describing(access.database, access.index)
    assert [case_id] == await describing.next()
    async with access.database.transaction() as transaction:
        await transaction.purge_case(case_id)

    await describing.describe(case_id)

    assert [] == await rows(access, "case_id")
    assert [] == await access.query("select * from case_studies")


# A facility's time zone


async def rezoned(access: Access, facility: Facility, zone: str) -> None:
    await access.hear(replace(facility, time_zone=zone, version=facility.version + 1))
    access.clock.pass_by(OUTLIVED + timedelta(seconds=1))


async def test_another_time_zone_of_a_facility_moves_the_instants_of_its_studies_and_of_no_others(
    access: Access,
) -> None:
    north, south = await access.facility(time_zone="UTC"), await access.facility(time_zone="UTC")
    mine = [await access.case(north, a_full_study()) for _ in range(3)]
    named = await access.case(north, a_full_study(attributes=replace(SAID, timezone_offset_from_utc="+0000")))
    other = await access.case(south, a_full_study())
    access.clock.pass_by(2 * OUTLIVED)
    await one_round(access)  # both became known
    ((before,),) = await rows(access, "version", other)

    await rezoned(access, north, "Asia/Tokyo")
    await one_round(access)

    assert {(datetime(2026, 11, 1, 1, tzinfo=UTC),)} == set(await rows(access, "study_at", *mine))
    assert [(datetime(2026, 11, 1, 10, tzinfo=UTC),)] == await rows(access, "study_at", named)
    assert [(before, datetime(2026, 11, 1, 10, tzinfo=UTC))] == await rows(access, "version, study_at", other)
    assert [] == await access.query("select * from rezoned")


async def test_between_the_change_and_the_deriving_the_instant_is_not_known(access: Access) -> None:
    north = await access.facility(time_zone="UTC")
    case_id = await access.case(north, a_full_study())
    await rezoned(access, north, "Asia/Tokyo")

    assert await Describing(access.database, access.index).mark()

    assert [(0, None)] == await rows(access, "derived, study_at", case_id)


async def test_marking_goes_on_where_it_stopped(access: Access) -> None:
    north = await access.facility(time_zone="UTC")
    for _ in range(5):
        await access.case(north, a_full_study())
    await rezoned(access, north, "Asia/Tokyo")

    marked = []
    while await Describing(access.database, access.index, marked_at_once=2).mark():
        marked.append(len(await access.query("select from cases where derived = 0")))

    assert [2, 4, 5] == marked


async def test_a_case_that_came_before_its_facility_is_derived_once_the_facility_is_known(
    access: Access,
) -> None:
    study = a_full_study()
    placement = a_placement(FacilityId(uuid4()), study)
    await access.hear(study, placement)
    assert [(None,)] == await rows(access, "study_at", placement.case_id)

    await access.hear(Facility(placement.facility_id, "Late", "Asia/Tokyo", 1))
    access.clock.pass_by(OUTLIVED + timedelta(seconds=1))
    await one_round(access)

    assert [(datetime(2026, 11, 1, 1, tzinfo=UTC),)] == await rows(access, "study_at", placement.case_id)


# What the version before leaves


async def test_records_that_the_version_before_left_without_a_case_go_and_others_stay(access: Access) -> None:
    north = await access.facility()
    gone = await access.case(north, a_full_study())
    kept = await access.case(north, a_full_study(attributes=replace(SAID, patient_id="P-2")))
    await access.query("delete from cases where case_id = $1", gone)

    await events.drop_left_records(
        Describing(access.database, access.index), Lease(access.database, "drop-left-records", uuid4())
    )

    assert await rows(access, "patient_record_id", kept) == [
        tuple(row) for row in await access.query("select patient_record_id from patients")
    ]


# The locale


@pytest.mark.parametrize(
    ("locale", "sees"),
    [
        ("locale_provider builtin builtin_locale 'C.UTF-8'", True),
        ("locale_provider libc locale 'C'", False),
    ],
)
async def test_a_database_whose_locale_hides_letters_from_the_index_of_texts_is_told_of(
    servers: EmbeddedServers, fresh_database: Callable[[str], str], locale: str, sees: bool
) -> None:
    name = f"locale_{uuid4().hex}"
    await asyncio.to_thread(
        servers.postgres.execute,
        f"create database {name} template template0 encoding 'UTF8' {locale} owner readroom_access",
    )
    url = f"{fresh_database('access').rpartition('/')[0]}/{name}"
    await migrate(url, [ROOT / folder for folder in COMPONENTS["access"].migrations])
    async for access in start(url):
        await events.look_at_locale(Describing(access.database, access.index))

    assert (not sees) == REGISTRY.get_sample_value("readroom_access_text_index_blind")
    await asyncio.to_thread(servers.postgres.execute, f"drop database {name}")


async def test_the_index_of_texts_is_used_and_finds_other_letters(access: Access) -> None:
    facility = await access.facility()
    case_id = await access.case(facility, a_full_study(attributes=replace(SAID, patient_name="Жуков^Илья")))

    async with access.database.transaction() as transaction:
        connection: asyncpg.Connection[Any] = transaction.connection
        await connection.execute("set local enable_seqscan = off")
        query = "select case_id from cases where plain_text like '%жуков%'"
        plan = [row[0] for row in await connection.fetch(f"explain {query}")]
        assert [case_id] == [row[0] for row in await connection.fetch(query)]
    assert "cases_by_text" in "\n".join(plan)
