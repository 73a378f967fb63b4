"""What the index derives of a case, and what it keeps for filters: on values, and in its rows."""

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.ids import CaseId
from services.access.caseindex import Entry, IndexedCase
from services.access.casequery import seen_by
from services.access.derived import DERIVED, NO_STUDY_DATE, Derived, derive
from services.access.filter.forms import Forms, forms, plain
from services.access.listings import among
from services.access.received import MAX_MODALITIES, Distinct, ReceivedStudy, StudyAttributes
from services.access.search import NEWEST_FIRST
from tests.access.builders import a_facility, a_part, a_placement, a_study
from tests.access.conftest import Access
from tests.clocks import NOON

BERLIN = ZoneInfo("Europe/Berlin")
LETTERS = "aA ıİiI ßẞſ ΣσςΐΑᾳ Åå Å éÉ がガｶﾞ ﬀ Ⅷ ﷺ 각 ^=\\"


def an_entry(*studies: ReceivedStudy, **attributes: str) -> Entry:
    told = studies or (a_study(attributes=StudyAttributes(**attributes)),)
    return IndexedCase.first(a_placement(a_facility().id, *told), told).entry()


def derived(zone: ZoneInfo | None = BERLIN, **attributes: str) -> Derived:
    return derive(an_entry(**attributes).columns(), zone)


def test_days_times_and_ages_are_derived_and_what_is_malformed_is_not_known() -> None:
    found = derived(
        study_date="20261101", study_time="1015", patient_birth_date="20081102", patient_age="099Y"
    )

    assert (date(2026, 11, 1), time(10, 15), date(2008, 11, 2)) == (
        found.study_day,
        found.study_time_of_day,
        found.birth_day,
    )
    assert datetime(2026, 11, 1, 9, 15, tzinfo=UTC) == found.study_at
    assert (17, 215, 939, 6573) == (found.age_years, found.age_months, found.age_weeks, found.age_days)
    assert datetime(2026, 11, 1, 10, 15) == found.study_order  # noqa: DTZ001

    wrong = derived(study_date="2026-11", study_time="99", patient_birth_date="1.1.70", patient_age="8Y")
    assert {None} == {
        wrong.study_day,
        wrong.study_time_of_day,
        wrong.study_at,
        wrong.birth_day,
        wrong.age_years,
    }
    assert NO_STUDY_DATE == wrong.study_order


def test_without_a_birth_date_the_element_says_the_age() -> None:
    found = derived(study_date="20261101", patient_age="018M")

    assert (1, 18, None, None) == (found.age_years, found.age_months, found.age_weeks, found.age_days)


def test_the_offset_of_the_study_counts_before_the_zone_of_the_facility() -> None:
    def at(zone: ZoneInfo | None, offset: str = "") -> datetime | None:
        named = {"study_date": "20261101", "study_time": "1000", "timezone_offset_from_utc": offset}
        return derived(zone, **named).study_at

    assert datetime(2026, 11, 1, 5, tzinfo=UTC) == at(BERLIN, "+0500") == at(None, "+0500")
    assert datetime(2026, 11, 1, 9, tzinfo=UTC) == at(BERLIN) == at(BERLIN, "half past five")
    assert at(None) is None


def test_only_texts_that_are_not_of_ascii_have_forms() -> None:
    assert derived(patient_name="DOE^JANE").text_forms is None

    found = derived(patient_name="Müller^Ute=山田^花子", study_description="Schädel ", patient_id="P-1")
    assert {"Müller^Ute=山田^花子", "Müller^Ute", "山田^花子", "Schädel"} == set(found.text_forms or ())
    assert Forms("SCHÄDEL", "schädel", "schädel", "schadel") == (found.text_forms or {})["Schädel"]


def test_names_are_ordered_by_their_plain_form() -> None:
    assert "muller^ute" == derived(patient_name="Müller^Ute^^").patient_name_order
    assert "" == derived(patient_name="^^").patient_name_order


def test_every_text_and_name_that_a_filter_reads_is_in_the_plain_text() -> None:
    part = a_part(institution_names=Distinct(("St. Elsewhere",)), body_parts=Distinct(("THORAX", "ABDOMEN")))
    attributes = {name: f"{name} é"[-14:] for name in StudyAttributes.__slots__}
    study = a_study(part, attributes=StudyAttributes(**attributes), calling_ae_title="GATE_1")
    told = an_entry(study).columns()

    lines = derive(told, None).plain_text.splitlines()

    texts = StudyAttributes(**attributes)
    unread = {"patient_birth_date", "study_date", "study_time", "patient_age", "timezone_offset_from_utc"}
    unread |= {"issuer_of_patient_id"}
    for name in set(StudyAttributes.__slots__) - unread:
        assert plain(getattr(texts, name)) in lines
    assert {"st. elsewhere", "thorax", "abdomen", "ct", "gate_1", told["study_instance_uid"]} <= set(lines)


@given(
    st.text(st.sampled_from(LETTERS) | st.characters(codec="utf-8", exclude_characters="\0\n"), max_size=12),
    st.data(),
)
def test_what_is_contained_in_any_form_of_a_text_is_contained_plain(text: str, data: st.DataObject) -> None:
    """So one index over the plain text loses nothing that a filter or the search box may find."""
    found = derived(study_description=text).plain_text
    kept = StudyAttributes(study_description=text).study_description.rstrip(" ")
    for form in (kept, *forms(kept)):
        start = data.draw(st.integers(0, len(form)))
        end = data.draw(st.integers(start, len(form)))
        assert plain(form[start:end]) in found


def test_what_a_hostile_sender_writes_stays_bounded() -> None:
    longest = "\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}" * 2000  # plain, 18 characters each
    many = Distinct(tuple(f"{number}{longest[:60]}" for number in range(MAX_MODALITIES)))
    study = a_study(
        *(
            a_part(number, institution_names=many, body_parts=many, modalities=(longest[:16],))
            for number in range(1, 9)
        ),
        attributes=StudyAttributes(**dict.fromkeys(StudyAttributes.__slots__, longest)),
        calling_ae_title=longest[:16],
    )
    found = derive(an_entry(study).columns(), BERLIN)

    said = sum(len(form.encode()) for each in (found.text_forms or {}).values() for form in each)
    assert len(found.plain_text.encode()) < 256 << 10
    assert said < 512 << 10


# In the rows


async def row(access: Access, case_id: CaseId) -> asyncpg.Record:
    (found,) = await access.query("select * from cases where case_id = $1", case_id)
    return found


async def test_the_index_keeps_what_filters_ask_for(access: Access) -> None:
    facility = await access.facility("MS44", "Europe/Berlin")
    gateway, later = uuid4(), NOON + timedelta(minutes=5)
    parts = [
        a_part(
            1, institution_names=Distinct(("East",)), last_received_at=NOON, body_parts=Distinct(("KNEE",))
        ),
        a_part(2, institution_names=Distinct(("West", "East")), last_received_at=later),
    ]
    study = a_study(
        *parts,
        attributes=StudyAttributes(
            patient_name="Müller^Ute",
            patient_birth_date="20000229",
            study_date="20180228",
            study_time="2359",
            dicom_study_id="S-1",
            issuer_of_patient_id="REGION",
            patient_age="017Y",
            patient_institution_residence="Ward 3",
            requesting_physician="Roe^R",
            physicians_of_record="Doe^A\\ Poe^B\\",
        ),
        calling_ae_title="GATE_1",
        gateway_id=gateway,
        in_full=True,
    )
    found = await row(access, await access.case(facility, study))

    assert {
        "dicom_study_id": "S-1",
        "issuer_of_patient_id": "REGION",
        "patient_age": "017Y",
        "patient_institution_residence": "Ward 3",
        "requesting_physician": "Roe^R",
        "timezone_offset_from_utc": "",
        "physicians_of_record": ["Doe^A", "Poe^B"],
        "institution_names": ["East", "West"],
        "body_parts": ["KNEE"],
        "calling_ae_title": "GATE_1",
        "gateway_id": gateway,
        "last_received_at": later,
        "derived": DERIVED,
        "derived_in": found["version"],
        "study_day": date(2018, 2, 28),
        "study_time_of_day": time(23, 59),
        "study_at": datetime(2018, 2, 28, 22, 59, tzinfo=UTC),
        "birth_day": date(2000, 2, 29),
        "age_years": 17,
        "patient_name_order": "muller^ute",
    }.items() <= dict(found).items()


async def test_what_belongs_to_no_case_yet_counts_for_no_filter(access: Access) -> None:
    facility = await access.facility()
    mine, held = (
        a_part(1, institution_names=Distinct(("Mine",))),
        a_part(2, institution_names=Distinct(("Held",))),
    )
    study = a_study(mine, held)
    placement = a_placement(facility.id, study)
    await access.hear(study, replace(placement, studies=(replace(placement.studies[0], parts=(1,)),)))

    assert ["Mine"] == (await row(access, placement.case_id))["institution_names"]


@pytest.mark.parametrize(
    "told",
    [
        [Distinct(("A",), left_out=1)],
        [Distinct(tuple(map(str, range(20)))), Distinct(tuple(map(str, range(10, 43))))],
    ],
)
def test_of_a_set_that_is_not_known_whole_nothing_is_said(told: list[Distinct]) -> None:
    """So `not InstitutionName = 'X'` shows nothing that may be of X."""
    study = a_study(*(a_part(number, institution_names=each) for number, each in enumerate(told, start=1)))

    assert () == an_entry(study).summary.institution_names


async def test_a_move_to_another_time_zone_moves_the_instant_of_the_study(access: Access) -> None:
    north, south = await access.facility(time_zone="UTC"), await access.facility(time_zone="Asia/Tokyo")
    study = a_study(attributes=StudyAttributes(study_date="20261101", study_time="1000"))
    placement = a_placement(north.id, study)
    await access.hear(study, placement)
    assert datetime(2026, 11, 1, 10, tzinfo=UTC) == (await row(access, placement.case_id))["study_at"]

    await access.hear(replace(placement, facility_id=south.id, version=2))

    assert datetime(2026, 11, 1, 1, tzinfo=UTC) == (await row(access, placement.case_id))["study_at"]


@pytest.mark.parametrize(
    ("writes", "outdated"),
    [
        ("patient_birth_date = '19500101'", True),
        ("facility_id = gen_random_uuid()", True),
        ("modalities_in_study = '{MR}'", True),
        ("instance_count = 7", True),
        ("version = version + 1", False),
        ("undistributed = true", False),
        ("instance_count = instance_count", False),
    ],
)
async def test_what_the_version_before_writes_again_is_not_known_until_it_is_derived_again(
    access: Access, writes: str, outdated: bool
) -> None:
    facility = await access.facility()
    attributes = StudyAttributes("Müller^Ute", "P-1", "20000101", study_date="20260101", study_time="10")
    case_id = await access.case(facility, a_study(attributes=attributes, in_full=True))
    before: dict[str, Any] = dict(await row(access, case_id))

    await access.query(f"update cases set {writes} where case_id = $1", case_id)

    after = await row(access, case_id)
    stands = {name: after[name] == before[name] for name in (*Derived.__slots__, "person_id", "derived")}
    assert {not outdated} == set(stands.values()), stands
    if outdated:
        assert 0 == after["derived"]
        assert {None} == {
            after[name] for name in ("study_day", "age_days", "text_forms", "plain_text", "person_id")
        }


async def test_a_worklist_reads_nothing_that_is_derived_for_filters_alone(access: Access) -> None:
    """A sender decides how long that becomes: a page of such cases would take longer than a page may."""
    user = await access.user()
    async with access.database.statements() as statements:
        compiled = await statements.compiled_user(user.login)
        assert compiled is not None
        cases = seen_by(compiled, NOON)
        statement = await statements.connection.prepare(among(cases, NEWEST_FIRST, []))
        read = {attribute.name for attribute in statement.get_attributes()}

    assert {"text_forms", "plain_text"}.isdisjoint(read)
    assert {"patient_name", "modalities_in_study"} <= read
