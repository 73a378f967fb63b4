"""Which parts of its studies a case shows: what is held is neither counted nor listed nor served."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.events import CasePlaced
from kernel.reading import PrivilegeLevel
from services.access import answers
from services.access.caseindex import IndexedCase, ListedCase, Placement
from services.access.domain import ConfirmedStudy, Facility, User
from services.access.received import (
    FIRST_PART,
    ReceivedPart,
    ReceivedSeries,
    ReceivedStudy,
    StudyAttributes,
    StudyOfSeries,
)
from tests.access.builders import a_facility, a_part, a_placement, a_study, confirmed
from tests.access.conftest import Access
from tests.access.service import Service
from tests.clocks import NOON
from tests.healing import heal
from tests.wait import eventually
from wire.access.v1 import access_pb2 as pb

JANE, JOHN = StudyAttributes("Doe^Jane", "P-1"), StudyAttributes("Roe^John", "P-2", "19500101", "M")


def two_patients(**changes: Any) -> ReceivedStudy:
    """One series with images of two patients, Jane's first."""
    values: dict[str, Any] = {
        "attribute_sets": {1: JANE, 2: JOHN},
        "series_instance_uids": ("1.1",),
    }
    return a_study(
        a_part(instance_count=3),
        a_part(
            FIRST_PART + 1,
            attribute_set=2,
            modalities=("CT", "SR"),
            series=(1, 2),
            instance_count=4,
            received_at=NOON + timedelta(minutes=1),
        ),
        **values | changes,
    )


async def shown(access: Access, user: User) -> ListedCase:
    (case,) = await access.questions.list_cases(user.login, None, 10, at_least=0)
    return case


async def a_viewer(access: Access, facility: Facility) -> User:
    user = await access.user()
    await access.give(user, facility, PrivilegeLevel.VIEW)
    return user


# What a case amounts to


def test_only_parts_that_belong_are_counted_and_shown() -> None:
    study = two_patients()
    first, second = study.parts

    of_first = IndexedCase.first(a_placement(a_facility().id, confirmed(study, first)), [study]).summary()
    of_second = IndexedCase.first(a_placement(a_facility().id, confirmed(study, second)), [study]).summary()
    whole = IndexedCase.first(a_placement(a_facility().id, study), [study]).summary()

    assert (JANE, ("CT",), 1, 3) == _content(of_first)
    assert (JOHN, ("CT", "SR"), 2, 4) == _content(of_second)
    # A series of which both have images is one; the attributes that the first leaves empty are the second's.
    assert (replace(JOHN, patient_name="Doe^Jane", patient_id="P-1"), ("CT", "SR"), 2, 7) == _content(whole)


def _content(summary: Any) -> tuple[StudyAttributes, tuple[str, ...], int, int]:
    return (
        summary.attributes,
        summary.modalities_in_study,
        summary.series_count,
        summary.instance_count,
    )


def test_a_case_whose_parts_are_all_held_shows_nothing_of_them() -> None:
    study = two_patients(received_at=NOON - timedelta(hours=1))
    placement = a_placement(a_facility().id, confirmed(study), another_patient_held=2)

    case = IndexedCase.first(placement, [study])

    assert (StudyAttributes(), (), 0, 0) == _content(case.summary())
    assert 2 == case.summary().another_patient_held
    assert placement.placed_at == case.received_at


def test_a_case_is_listed_by_the_first_image_that_belongs_not_by_a_held_one() -> None:
    study = two_patients(received_at=NOON - timedelta(hours=1))
    early = replace(study.parts[0], received_at=study.received_at)
    study = replace(study, parts=(early, study.parts[1]))

    case = IndexedCase.first(a_placement(a_facility().id, confirmed(study, study.parts[1])), [study])

    assert study.parts[1].received_at == case.received_at


def test_a_part_without_attributes_of_its_own_takes_none_of_another() -> None:
    study = two_patients()
    unnamed = a_part(FIRST_PART + 2, attribute_set=0)
    study = replace(study, parts=(*study.parts, unnamed))

    case = IndexedCase.first(a_placement(a_facility().id, confirmed(study, unnamed)), [study])

    assert StudyAttributes() == case.summary().attributes


parts = st.lists(
    st.tuples(
        st.integers(0, 2),  # attribute set
        st.sets(st.integers(1, 4), min_size=1),  # series
        st.integers(1, 5),  # instances
        st.booleans(),  # held in the end
    ),
    max_size=6,
)


@given(parts, st.data())
def test_nothing_held_is_counted_in_whatever_order_the_owners_are_heard(
    received: Sequence[tuple[int, set[int], int, bool]], data: st.DataObject
) -> None:
    """Parts arrive one by one; routing holds some and confirms the others, each time in a new placement."""
    arrived = [
        a_part(
            FIRST_PART + number,
            attribute_set=attribute_set,
            series=tuple(sorted(series)),
            instance_count=count,
            received_at=NOON + timedelta(seconds=number),
        )
        for number, (attribute_set, series, count, _) in enumerate(received)
    ]
    held = {part.number for part, (*_, is_held) in zip(arrived, received, strict=True) if is_held}
    empty = a_study(attribute_sets={1: JANE, 2: JOHN}, version=0, parts=(), series_instance_uids=())
    placement = a_placement(a_facility().id, confirmed(empty), version=0)
    told: list[ReceivedStudy | Placement] = []
    for version in range(1, len(arrived) + 1):
        came = arrived[:version]
        belonging = [part for part in came if part.number not in held]
        told.append(replace(empty, version=version, parts=tuple(came)))
        told.append(
            replace(
                placement,
                version=version,
                studies=(confirmed(empty, *belonging),),
                another_patient_held=len(came) - len(belonging),
            )
        )
    ends = []
    for order in (data.draw(st.permutations(told)), data.draw(st.permutations(told))):
        case = IndexedCase.first(placement, [empty])
        counts = []
        for each in order:
            case = case.hear(*_as_heard(each))
            shown = case.summary()
            counts.append(shown.instance_count)
            assert shown.instance_count <= sum(p.instance_count for p in arrived if p.number not in held)
            if held == {part.number for part in arrived if part.attribute_set != 1}:
                assert shown.attributes in (StudyAttributes(), JANE)
        assert sorted(counts) == counts  # nothing that was shown leaves by an arrival
        ends.append(case)
    assert ends[0] == ends[1]
    assert sum(p.instance_count for p in arrived if p.number not in held) == (
        ends[0].summary().instance_count
    )


def _as_heard(told: ReceivedStudy | Placement) -> tuple[Placement | None, list[ReceivedStudy]]:
    return (told, []) if isinstance(told, Placement) else (None, [told])


# What users are answered


@pytest.mark.proves("BEY-7", part="nothing of another patient is counted, listed or named by access")
async def test_of_two_patients_in_one_study_the_second_is_neither_counted_nor_served(access: Access) -> None:
    facility = await access.facility()
    user = await a_viewer(access, facility)
    study = two_patients()
    placement = a_placement(facility.id, confirmed(study, study.parts[0]), another_patient_held=1)
    await access.hear(study, placement)

    case, decision = await shown(access, user), await access.check(user, placement.case_id)
    assert (JANE, ("CT",), 1, 3) == _content(case.summary)
    assert 1 == case.summary.another_patient_held
    assert ((confirmed(study, study.parts[0]),), 3) == (decision.studies, decision.instance_count)

    # Somebody releases it.
    released = replace(
        placement, version=2, studies=(confirmed(study, *study.parts),), another_patient_held=0
    )
    await access.hear(released)
    case, decision = await shown(access, user), await access.check(user, placement.case_id)
    assert (7, 0) == (case.summary.instance_count, case.summary.another_patient_held)
    assert ((confirmed(study, *study.parts),), 7) == (decision.studies, decision.instance_count)


async def test_an_image_of_another_patient_that_routing_has_not_seen_yet_is_not_shown(access: Access) -> None:
    facility = await access.facility()
    user = await a_viewer(access, facility)
    both = two_patients(version=2)
    study = replace(both, version=1, parts=both.parts[:1])
    placement = a_placement(facility.id, study)
    await access.hear(study, placement)

    await access.hear(both)

    assert (JANE, ("CT",), 1, 3) == _content((await shown(access, user)).summary)
    assert (confirmed(study, study.parts[0]),) == (await access.check(user, placement.case_id)).studies


async def test_many_cases_are_answered_without_their_counts(access: Access) -> None:
    facility = await access.facility()
    user = await a_viewer(access, facility)
    case_id = await access.case(facility, two_patients())

    (decision,) = await access.questions.check_many(user.login, [case_id])

    assert (True, None) == (decision.allowed, decision.instance_count)


# The version before


def of_series(*series: tuple[str, str, int], **changes: Any) -> StudyOfSeries:
    told = a_study(**changes)
    received = tuple(ReceivedSeries(*each) for each in series)
    return StudyOfSeries(told.id, NOON, settled=False, attributes=JANE, series=received, version=1)


async def as_the_version_before_wrote(access: Access, placement: Placement, study: StudyOfSeries) -> None:
    """The rows that it left."""
    counted = replace(placement, studies=(ConfirmedStudy(study.id, None),))
    await access.hear(counted, study.in_parts())
    await access.query("update cases set parts_version = null")
    await access.query(
        """
        update case_studies set parts = null, received = null, received_version = null, version = 1,
            series_instance_uids = $1, snapshot = $2
        """,
        placement.studies[0].series_instance_uids,
        msgspec.json.encode(study).decode(),
    )


@pytest.mark.parametrize(("named", "numbers"), [(None, (1, 2, 3)), (("1.1", "1.3", "1.9"), (1, 3))])
async def test_what_the_version_before_kept_by_series_is_answered_by_parts(
    access: Access, named: tuple[str, ...] | None, numbers: tuple[int, ...]
) -> None:
    facility = await access.facility()
    user = await a_viewer(access, facility)
    study = of_series(("1.1", "CT", 10), ("1.2", "PT", 20), ("1.3", "", 5))
    placement = a_placement(facility.id, ConfirmedStudy(study.id, named))
    await as_the_version_before_wrote(access, placement, study)
    expected = ConfirmedStudy(study.id, named, numbers)

    assert (expected,) == (await access.check(user, placement.case_id)).studies

    # What arrives now is a part of its own, which nobody has confirmed yet.
    later = replace(study.in_parts(), version=2, by_parts=True)
    await access.hear(replace(later, parts=(*later.parts, a_part(series=(1,), instance_count=99))))
    assert (expected,) == (await access.check(user, placement.case_id)).studies
    assert sum((0, 10, 20, 5)[n] for n in numbers) == (await shown(access, user)).summary.instance_count

    # Routing has.
    by_parts = ConfirmedStudy(study.id, named, (*numbers, FIRST_PART))
    await access.hear(replace(placement, version=2, studies=(by_parts,)))
    assert (by_parts,) == (await access.check(user, placement.case_id)).studies


async def test_after_the_version_before_has_run_again_the_owners_are_asked_anew(access: Access) -> None:
    facility = await access.facility()
    user = await a_viewer(access, facility)
    study = two_patients()
    placement = a_placement(facility.id, study)
    await access.hear(study, placement)
    # It asks ingest for every study of which it finds no snapshot.
    (row,) = await access.query("select version, snapshot from case_studies")
    assert (None, None) == tuple(row)

    # It hears of a placement and of a study, and writes them in its form.
    await access.query("update cases set placement_version = 2")
    await access.query("update case_studies set version = 9, snapshot = '{}', series_instance_uids = null")
    grown = replace(study, version=9, parts=(*study.parts, a_part(FIRST_PART + 2)))
    access.owners.add(grown, replace(placement, version=2, studies=(confirmed(grown, *grown.parts),)))
    assert (confirmed(study, *study.parts),) == (await access.check(user, placement.case_id)).studies

    assert 1 == await heal(access.database, access.index.kinds())

    assert (confirmed(grown, *grown.parts),) == (await access.check(user, placement.case_id)).studies
    assert 8 == (await shown(access, user)).summary.instance_count
    assert 0 == await heal(access.database, access.index.kinds())


def test_a_snapshot_by_parts_stands_for_one_by_series_of_the_same_version() -> None:
    before = of_series(("1.1", "CT", 10))
    by_parts = replace(before.in_parts(), by_parts=True, parts=(a_part(),))
    placement = a_placement(a_facility().id, confirmed(by_parts, a_part()))

    for order in permutations([before.in_parts(), by_parts]):
        case = IndexedCase.first(placement, [])
        for each in order:
            case = case.hear(None, [each])
        assert 1 == case.summary().instance_count


# Over the wire


async def test_a_study_of_many_parts_is_heard_page_by_page(service: Service) -> None:
    facility_id = await service.facility()
    await service.give(await service.user(), facility_id, pb.LEVEL_VIEW)
    study_id = service.a_study(*((f"1.{n}", "CT", 2) for n in range(1001)))
    case_id = service.a_placement(
        facility_id, study_id, another_patient_held=3, written_differently=["PatientName"]
    )
    await service.say(CasePlaced(case_id, 1))

    (case,) = await eventually(service.listed)

    assert (1001, 2002, 3) == (case.series_count, case.instance_count, case.another_patient_held)
    assert ["PatientName"] == list(case.written_differently)
    # Whoever hears the fact asks, and so does healing, if it is late to begin.
    assert [0, FIRST_PART + 499, FIRST_PART + 999] == list(dict.fromkeys(service.ingest.pages_asked))
    answer = await service.acting("jane").Check(pb.CheckRequest(case_id=str(case_id), images=True))
    assert 1001 == len(answer.decision.studies[0].parts)
    assert 2002 == answer.decision.instance_count


async def test_what_an_ingest_of_the_version_before_tells_is_heard_too(service: Service) -> None:
    facility_id = await service.facility()
    await service.give(await service.user(), facility_id, pb.LEVEL_VIEW)
    study_id = service.a_study_of_the_version_before(("1.1", "CT", 2), ("1.2", "SR", 1))
    await service.say(CasePlaced(service.a_placement(facility_id, study_id), 1))

    (case,) = await eventually(service.listed)

    assert ("Doe^Jane", ["CT", "SR"], 2, 3) == (
        case.patient_name,
        list(case.modalities_in_study),
        case.series_count,
        case.instance_count,
    )


async def test_an_ingest_whose_next_page_goes_no_further_is_not_believed(service: Service) -> None:
    facility_id = await service.facility()
    await service.give(await service.user(), facility_id, pb.LEVEL_VIEW)
    cut_off = service.a_study(*((f"1.{n}", "CT", 1) for n in range(501)))
    service.ingest.studies[cut_off].parts[499].number = 2**31 - 1  # and yet more are to follow
    placed = service.a_placement(facility_id, service.a_study(("2.1", "CT", 1)))
    await service.say(CasePlaced(service.a_placement(facility_id, cut_off), 1), CasePlaced(placed, 1))

    await eventually(service.listed)

    assert [str(placed)] == [case.case_id for case in await service.listed()]


# Size


async def test_a_huge_study_stays_bounded_in_its_row_and_in_what_check_answers(access: Access) -> None:
    """5,000 series in 4,096 parts, under the most attribute sets; the longest values besides."""
    facility = await access.facility()
    user = await a_viewer(access, facility)
    text = StudyAttributes(**dict.fromkeys(StudyAttributes.__slots__, "😀" * 400))
    study = a_study(
        *map(a_huge_part, range(4096)),
        attribute_sets=dict.fromkeys(range(1, 65), text),
        series_instance_uids=(),
    )
    placement = a_placement(facility.id, study)
    await access.hear(study, placement)

    decision = await access.check(user, placement.case_id)
    assert 4096 == len(decision.studies[0].parts or ())
    assert answers.a_decision(decision).ByteSize() < 24 << 10
    (row,) = await access.query(
        "select pg_column_size(received) as stored, octet_length(received::text) as text from case_studies"
    )
    assert row["text"] < 2 << 20
    assert row["stored"] < 1 << 19
    assert (5000, 4096) == (
        (await shown(access, user)).summary.series_count,
        (await shown(access, user)).summary.instance_count,
    )


def a_huge_part(n: int) -> ReceivedPart:
    """Every part has its series, and one or several of those that are left."""
    return a_part(
        FIRST_PART + n,
        attribute_set=n % 64 + 1,
        modalities=(f"{n:016}",),
        series=tuple(range(n + 1, 5001, 4096)),
    )
