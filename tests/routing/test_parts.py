"""Which parts of a study belong to its case: whatever arrives, in whatever order it is heard."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.dicom import UID
from kernel.errors import Unavailable
from kernel.patient import Identity, compare
from services.routing.domain import FIRST_PART, Part, PlacedStudy, Reason, Study
from services.routing.parts import (
    HELD_SENTENCES,
    Agreement,
    HeldKind,
    HeldReason,
    Judged,
    KnownStudy,
    Verdict,
    agree,
)
from tests.routing.builders import JANE, JOHN, TAG, Object, a_facility, a_study, of_series

HERE = a_facility().id
PATIENTS = [
    JANE,
    JOHN,
    Identity(),
    Identity(patient_id="P-1", patient_name="DOE^JANE^MARIE"),
    Identity(patient_name="Doe^Jane"),
    Identity(patient_name="Roe^John", patient_birth_date="19700131"),
    Identity(patient_id="P-1", patient_name="Doe^Jane", patient_birth_date="19700131"),
    Identity(patient_id="P-1", patient_birth_date="19800101"),
]
VALUES = [None, "MS44", "ms44 ", "MS55", "MS44\\MS55"]
OBJECTS = st.lists(
    st.tuples(st.sampled_from(["1.1", "1.2"]), st.sampled_from(VALUES), st.sampled_from(PATIENTS)),
    min_size=1,
    max_size=8,
)


def placed_at_a_hub(study: Study, value: str | None = None) -> KnownStudy:
    return KnownStudy(0, None, TAG, value, PlacedStudy(study.id))


def directly(study: Study) -> KnownStudy:
    return KnownStudy(0, None, None, None, PlacedStudy(study.id))


def held(agreement: Agreement) -> dict[int, HeldReason]:
    return {each.part.number: each.reason for each in agreement.waiting if each.part}


@pytest.mark.proves("BEY-7", part="nothing that was confirmed leaves by an arrival")
@given(
    objects=OBJECTS,
    heard=st.lists(st.integers(1, 8)),
    reason=st.sampled_from([Reason.RULE, Reason.NO_RULE, Reason.NO_VALUE, Reason.BY_HAND]),
    value=st.sampled_from([None, "ms44"]),
)
def test_nothing_that_was_confirmed_leaves_and_the_order_of_facts_does_not_matter(
    objects: list[Object], heard: list[int], reason: Reason, value: str | None
) -> None:
    last = a_study(HERE, *objects)
    history = [replace(a_study(HERE, *objects[:count]), id=last.id) for count in sorted(heard)]
    known = placed_at_a_hub(last, value)
    confirmed: set[int] = set()
    for study in [*history, last]:
        agreement = agree(study, known, reason)
        known = replace(known, mapping_value=agreement.mapping_value, placed=agreement.study)
        assert confirmed <= set(agreement.study.parts or ())
        confirmed = set(agreement.study.parts or ())
    assert agreement == agree(last, placed_at_a_hub(last, value), reason)


@pytest.mark.proves("BEY-7", part="nothing held is shown")
@given(objects=OBJECTS, direct=st.booleans())
def test_each_part_belongs_or_waits_and_what_belongs_is_one_patient(
    objects: list[Object], direct: bool
) -> None:
    study = a_study(HERE, *objects)
    agreement = agree(study, directly(study) if direct else placed_at_a_hub(study, "ms44"), Reason.RULE)
    shown = agreement.study.parts or ()
    assert sorted([*shown, *held(agreement)]) == [part.number for part in study.parts]
    patient = Identity()
    for part in study.parts:
        if part.number in shown:
            assert compare(patient, study.identities[part.identity]).may_be_one_patient
            assert direct or set(part.values) <= {"ms44"}
            patient = patient.filled_from(study.identities[part.identity])
    others = [each for each in agreement.waiting if each.kind is HeldKind.ANOTHER_PATIENT]
    assert agreement.study.another_patient_held == len(others)
    assert all(each.differs for each in others)
    # The version before is told no series of which something is held.
    whole = agreement.study.series_instance_uids
    for part in study.parts:
        names = {study.series_instance_uids[ordinal - 1] for ordinal in part.series}
        assert part.number in shown or not names & set(whole)
    assert agreement.study.all_series == (direct and len(shown) == len(study.parts))


def test_the_case_takes_from_each_part_what_it_did_not_know_of_its_patient() -> None:
    later = Identity(patient_id="P-1", patient_name="Doe^Jane", patient_birth_date="19700131")
    study = a_study(
        HERE,
        ("1.1", None, Identity(patient_name="Doe^Jane")),
        ("1.1", None, later),
        ("1.1", None, replace(later, patient_birth_date="19800101")),
        ("1.1", None, Identity(patient_name="JANE^DOE")),
    )
    agreement = agree(study, directly(study), Reason.DIRECT)
    assert held(agreement) == {FIRST_PART + 2: HeldReason.ANOTHER_PATIENT}
    (waiting,) = agreement.waiting
    assert waiting.differs == ("PatientBirthDate",)
    assert agreement.study.written_differently == ("PatientName",)


def test_of_too_many_identities_only_a_person_can_say_whose_images_they_are() -> None:
    study = a_study(HERE, ("1.1", None))
    unnamed = Part(FIRST_PART + 1, 0, (), (1,), 1)
    study = replace(study, parts=(*study.parts, unnamed))
    agreement = agree(study, directly(study), Reason.DIRECT)
    assert held(agreement) == {unnamed.number: HeldReason.MANY_IDENTITIES}
    said = {unnamed.number: Judged(Verdict.SAME_PATIENT, 0, 1)}
    another = replace(unnamed, number=unnamed.number + 1)
    study = replace(study, parts=(*study.parts, another))
    agreement = agree(study, replace(directly(study), judged=said), Reason.DIRECT)
    assert held(agreement) == {another.number: HeldReason.MANY_IDENTITIES}


def test_a_part_that_stands_for_others_is_held_at_a_hub_and_shown_where_it_came_directly() -> None:
    study = a_study(HERE, ("1.1", "MS44"))
    several = Part(FIRST_PART + 1, 1, ("…", "……"), (1,), 1)
    study = replace(study, parts=(*study.parts, several))
    agreement = agree(study, placed_at_a_hub(study, "ms44"), Reason.RULE)
    assert held(agreement) == {several.number: HeldReason.SEVERAL_VALUES}
    assert agree(study, directly(study), Reason.DIRECT).study.all_series


# What a person says


def test_who_says_that_two_identities_are_one_patient_says_it_of_what_comes_later_too() -> None:
    study = a_study(HERE, ("1.1", None), ("1.1", None, JOHN), ("1.1", "MS44", JOHN))
    second, third = (part.number for part in study.parts[1:])
    said = {second: Judged(Verdict.SAME_PATIENT, 2, 1)}
    agreement = agree(study, replace(directly(study), judged=said), Reason.DIRECT)
    assert agreement.study.parts == (FIRST_PART, second, third)


def test_whose_images_they_are_says_nothing_about_where_they_belong() -> None:
    study = a_study(HERE, ("1.1", "MS44"), ("1.1", "MS55", JOHN))
    number = study.parts[1].number
    known = placed_at_a_hub(study, "ms44")
    assert held(agree(study, known, Reason.RULE)) == {number: HeldReason.ANOTHER_PATIENT}
    known = replace(known, judged={number: Judged(Verdict.SAME_PATIENT, 2, 1)})
    assert held(agree(study, known, Reason.RULE)) == {number: HeldReason.OTHER_VALUE}
    known = replace(known, judged={number: Judged(Verdict.RELEASED, 2, 1)})
    assert agree(study, known, Reason.RULE).waiting == ()


def test_a_discarded_part_waits_again_only_when_more_images_have_come() -> None:
    study = a_study(HERE, ("1.1", None), ("1.1", None, JOHN))
    said = {study.parts[1].number: Judged(Verdict.DISCARDED, 2, 1)}
    agreement = agree(study, replace(directly(study), judged=said), Reason.DIRECT)
    assert (agreement.study.parts, agreement.waiting) == ((FIRST_PART,), ())
    assert not agreement.study.all_series
    grown = a_study(HERE, ("1.1", None), ("1.1", None, JOHN), ("1.1", None, JOHN))
    agreement = agree(grown, replace(directly(grown), judged=said), Reason.DIRECT)
    assert list(held(agreement).values()) == [HeldReason.ANOTHER_PATIENT]


# What the version before left


def test_a_snapshot_that_lacks_what_belongs_takes_nothing_away() -> None:
    study = a_study(HERE, ("1.1", None), ("1.2", "MS44"))
    known = directly(study)
    known = replace(known, placed=agree(study, known, Reason.DIRECT).study)
    for snapshot in (replace(study, parts=study.parts[:1]), of_series(study)):
        with pytest.raises(Unavailable):
            agree(snapshot, known, Reason.DIRECT)
    # What an ingest of the version before described by series, the next one describes by parts.
    known = directly(study)
    known = replace(known, placed=agree(of_series(study), known, Reason.DIRECT).study)
    assert agree(study, known, Reason.DIRECT).study.all_series


def test_what_the_version_before_showed_stays() -> None:
    old = of_series(a_study(HERE, ("1.1", "MS44"), ("1.2", "MS55"), ("1.3", None)))
    shown = PlacedStudy(old.id, series_instance_uids=(UID("1.1"), UID("1.3")))
    known = KnownStudy(0, None, TAG, "ms44", shown)
    agreement = agree(old, known, Reason.RULE)
    assert agreement.study.parts == (1, 3)
    assert held(agreement) == {2: HeldReason.OTHER_VALUE}
    # Then its series got a second value, before anybody knew parts.
    mixed = replace(old, parts=(replace(old.parts[0], mapping_values=("MS44", "MS55")), *old.parts[1:]))
    assert agree(mixed, known, Reason.RULE).study.parts == (1, 3)


def test_of_a_direct_study_what_came_before_stays_and_another_patient_is_held() -> None:
    old = of_series(a_study(HERE, ("1.1", None), ("1.2", None)))
    other = Part(FIRST_PART, 2, (), (1,), 1)
    study = replace(old, parts=(*old.parts, other), identities={1: JANE, 2: JOHN})
    known = KnownStudy(0, None, None, None, PlacedStudy(old.id, all_series=True))
    agreement = agree(study, known, Reason.DIRECT)
    assert agreement.study.parts == (1, 2)
    assert held(agreement) == {FIRST_PART: HeldReason.ANOTHER_PATIENT}
    assert agreement.study.series_instance_uids == ("1.2",)


def test_every_reason_has_a_sentence() -> None:
    assert set(HELD_SENTENCES) == set(HeldReason)
