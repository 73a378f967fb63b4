"""The tables: the lock, the order of read types, what becomes of a refused text, both projections."""

from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Any
from uuid import uuid4

import pytest

from kernel.errors import Conflict, Denied, Exhausted, Expired, Invalid, NotFound
from kernel.ids import CaseId
from kernel.reading import PUBLIC_READ_TYPES, PrivilegeLevel, ReadType, Side
from services.reporting.completion import AFTER_FINAL, Keep, Own, Refusal, refusal
from services.reporting.domain import (
    LOCKING,
    MAX_CASE_BYTES,
    MAX_CASE_REPORTS,
    MAX_TEXT_CHARACTERS,
    Act,
    BrokenLock,
    Hold,
    Issued,
    Lock,
    Reading,
    Then,
    check_room,
    checked_text,
)
from services.reporting.projections import State, project
from services.reporting.readtypes import active_read_types, listed, switch
from services.reporting.sight import NO_SIGHT, SIDES, Person
from tests.clocks import NOON
from tests.reporting.builders import LEASE, a_sight

VOS, LIND = Person("vos", "Dr Eva Vos"), Person("lind", "Dr Lind")
ALL = frozenset(ReadType)
PRELIMINARY, FINAL, OTHER, PRE_READ = ReadType


def a_reading(
    *issued: ReadType, holder: Person | None = None, session: str | None = None, **changes: Any
) -> Reading:
    lock = Lock(holder, NOON + LEASE, session=session) if holder else None
    types = tuple(Issued(each, NOON + timedelta(minutes=n)) for n, each in enumerate(issued))
    return replace(Reading(CaseId(uuid4()), lock=lock, issued=types), **changes)


READINGS = {
    Hold.FREE: a_reading(),
    Hold.OWN: a_reading(holder=VOS),
    Hold.ELSEWHERE: a_reading(holder=VOS, session="another"),
    Hold.TAKEN: a_reading(holder=LIND),
}


@pytest.mark.parametrize(("hold", "act"), list(product(Hold, Act)))
def test_what_an_act_makes_of_the_lock(hold: Hold, act: Act) -> None:
    reading = READINGS[hold]
    assert hold is reading.hold("vos", "s", NOON)
    match LOCKING.get((hold, act)):
        case Then.LEASE:
            begun = (reading.stands, NOON) if hold is Hold.FREE else (None, None)
            assert (
                Lock(VOS, NOON + LEASE, begun[0], begun[1], "s")
                == reading.after(act, VOS, "s", NOON, LEASE).lock
            )
        case Then.ENDS:
            assert reading.after(act, VOS, "s", NOON, LEASE).lock is None
        case Then.STAYS:
            assert reading is reading.after(act, VOS, "s", NOON, LEASE)
        case None:
            with pytest.raises(Conflict):
                reading.after(act, VOS, "s", NOON, LEASE)


def test_the_table_of_the_lock_is_the_one_that_the_module_begins_with() -> None:
    legal = {
        *((Hold.FREE, act) for act in ("lock", "take over")),
        *((Hold.OWN, act.value) for act in Act),
        *((Hold.ELSEWHERE, act) for act in ("take over", "break")),
        (Hold.TAKEN, "break"),
    }
    assert legal == {(hold, act.value) for hold, act in LOCKING}


@pytest.mark.proves("R11", part="the end of a lock")
def test_a_lock_is_held_since_it_was_taken_however_often_it_is_renewed() -> None:
    later, much_later = NOON + LEASE / 2, NOON + 2 * LEASE
    taken = a_reading().after(Act.LOCK, VOS, "s", NOON, LEASE)
    renewed = taken.after(Act.RENEW, VOS, "s", later, LEASE)
    taken_again = renewed.after(Act.LOCK, VOS, "s", later, LEASE)
    after_its_end = renewed.after(Act.LOCK, VOS, "s", much_later, LEASE)
    others = renewed.after(Act.LOCK, LIND, "s", much_later, LEASE)

    since = [each.lock and each.lock.since for each in (taken, renewed, taken_again, after_its_end, others)]
    assert [NOON, NOON, NOON, much_later, much_later] == since


def test_a_lock_ends_at_its_instant() -> None:
    reading = a_reading(holder=VOS)
    just_before = NOON + LEASE - timedelta(microseconds=1)

    assert (Hold.OWN, Hold.FREE) == (
        reading.hold("vos", "s", just_before),
        reading.hold("vos", "s", NOON + LEASE),
    )
    assert LIND == reading.after(Act.LOCK, LIND, "s", NOON + LEASE, LEASE).lock.holder  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("reading", "act", "broken", "sentence"),
    [
        (
            a_reading(holder=LIND),
            Act.LOCK,
            None,
            "the case is locked by `Dr Lind` until 2026-11-01 12:05:00 UTC",
        ),
        (a_reading(holder=LIND), Act.RENEW, None, "you do not hold the lock of this case"),
        (
            a_reading(holder=LIND),
            Act.COMPLETE,
            BrokenLock("Ada", NOON),
            "your lock was broken by `Ada` at 2026-11-01 12:00:00 UTC",
        ),
        (a_reading(), Act.BREAK, None, "nobody holds the lock of this case"),
    ],
)
def test_a_refusal_of_the_lock_says_why(
    reading: Reading, act: Act, broken: BrokenLock | None, sentence: str
) -> None:
    with pytest.raises(Conflict) as refused:
        reading.after(act, VOS, "s", NOON, LEASE, broken)
    assert sentence == refused.value.sentence


def test_a_lapsed_lock_is_refused_to_its_former_holder_with_its_end() -> None:
    with pytest.raises(Conflict, match="your lock ended at 2026-11-01 12:05:00 UTC"):
        a_reading(holder=VOS).after(Act.RENEW, VOS, "s", NOON + LEASE, LEASE)


# Completing


def refused(reading: Reading, read_type: ReadType, **changes: Any) -> Refusal | None:
    values: dict[str, Any] = {"before": a_sight(), "sight": a_sight(), "active": ALL}
    own = changes.pop("own", Own("nodule"))
    return refusal(reading, read_type, own, changes.pop("not_locked", None), **values | changes)


@pytest.mark.proves("REP-16")
@pytest.mark.proves("REP-17")
@pytest.mark.proves("A35")
@pytest.mark.parametrize("read_type", ReadType)
def test_what_may_follow_a_final_report(read_type: ReadType) -> None:
    assert {OTHER} == {each for each, why_not in AFTER_FINAL.items() if why_not is None}
    reading = a_reading(PRELIMINARY, FINAL)

    assert refused(a_reading(PRELIMINARY), read_type) is None
    assert refused(reading.reopen(NOON), read_type) is None
    after_final = refused(reading, read_type)
    if read_type is OTHER:
        assert after_final is None
    else:
        assert after_final is not None
        assert (Conflict, Keep.DRAFT, False) == (
            type(after_final.error),
            after_final.keep,
            after_final.ends_lock,
        )
    if read_type is FINAL:
        assert after_final is not None
        assert "add an addendum" in after_final.error.sentence


NOT_LOCKED = Conflict("you do not hold the lock of this case")


@pytest.mark.proves("REP-18", part="why a completion is refused")
@pytest.mark.parametrize(
    ("sight", "not_locked", "word", "keep", "ends_lock"),
    [
        (NO_SIGHT, NOT_LOCKED, NotFound, None, False),
        (NO_SIGHT, None, Expired, Keep.FOR_AUTHOR, True),
        (a_sight(being_deleted=True), None, NotFound, None, False),
        (a_sight(PrivilegeLevel.VIEW), NOT_LOCKED, Expired, None, False),
        (a_sight(PrivilegeLevel.VIEW), None, Expired, Keep.FOR_AUTHOR, True),
        (a_sight(PrivilegeLevel.DRAFT), None, Expired, Keep.DRAFT, True),
        (a_sight(PrivilegeLevel.DRAFT), NOT_LOCKED, Expired, Keep.DRAFT, False),
        (a_sight(), NOT_LOCKED, Conflict, Keep.DRAFT, False),
        (a_sight(instance_count=0), NOT_LOCKED, Conflict, Keep.DRAFT, False),
        (a_sight(instance_count=0), None, Conflict, Keep.DRAFT, False),
        (a_sight(read_types=frozenset({PRELIMINARY})), None, Expired, Keep.DRAFT, False),
    ],
)
def test_the_first_reason_decides_what_becomes_of_the_text(
    sight: Any, not_locked: Conflict | None, word: type[Exception], keep: Keep | None, ends_lock: bool
) -> None:
    found = refused(a_reading(holder=VOS), FINAL, sight=sight, not_locked=not_locked)

    assert found is not None
    assert (word, keep, ends_lock) == (type(found.error), found.keep, found.ends_lock)
    assert keep is None or keep.value in found.error.sentence


def test_a_case_without_a_confirmed_image_is_not_completed_and_the_refusal_says_what_to_do() -> None:
    found = refused(a_reading(holder=VOS), FINAL, sight=a_sight(instance_count=0))
    assert found is not None
    assert "wait until images arrive, or look at `readroom held list`" in found.error.sentence

    # An access of the version before tells no count.
    for counted in (None, 1):
        assert refused(a_reading(holder=VOS), FINAL, sight=a_sight(instance_count=counted)) is None


def test_what_was_never_his_is_denied_and_what_he_lost_has_expired() -> None:
    never = refused(
        a_reading(), FINAL, before=a_sight(PrivilegeLevel.DRAFT), sight=a_sight(PrivilegeLevel.DRAFT)
    )
    assert never is not None
    assert Denied is type(never.error)


@pytest.mark.parametrize("side", [Side.FACILITY, Side.NONE])
def test_a_pre_read_is_completed_on_the_group_side_only(side: Side) -> None:
    sight = a_sight(side=side)
    assert PUBLIC_READ_TYPES == {each for each in ReadType if sight.completes(each, ALL)}


def test_a_final_report_closes_a_reopened_case_and_no_other_does() -> None:
    reopened = a_reading(FINAL).reopen(NOON)
    assert {FINAL} == {each for each in ReadType if reopened.issue(each, NOON).is_final}
    with pytest.raises(Conflict):
        reopened.reopen(NOON)
    with pytest.raises(Conflict):
        a_reading(PRELIMINARY, OTHER, PRE_READ).reopen(NOON)


# Texts


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("\ufeffone\r\ntwo\rthree", "one\ntwo\nthree"),
        ("page\fpage\vline\x85line\u2028line\u2029end", "page\npage\nline\nline\nline\nend"),
        ("\r\n\r\nx\n\n", "\n\nx\n\n"),
        ("x\r\n" * (MAX_TEXT_CHARACTERS // 2), "x\n" * (MAX_TEXT_CHARACTERS // 2)),
    ],
)
def test_the_ends_of_lines_and_pages_become_line_feeds_and_the_text_is_kept(sent: str, kept: str) -> None:
    assert kept == checked_text(sent)


def test_another_control_character_is_named_with_its_line() -> None:
    with pytest.raises(Invalid, match=r"U\+001B in line 3"):
        checked_text("one\r\ntwo\r\n\x1b[2J")


@pytest.mark.parametrize("text", ["a", "two\nlines\tand a tab", "é😀", "x" * MAX_TEXT_CHARACTERS])
def test_a_text_is_taken(text: str) -> None:
    assert text == checked_text(text)


@pytest.mark.parametrize(
    "text", ["", " \n", "x" * (MAX_TEXT_CHARACTERS + 1), "a\0", "\ufeff", "\r\n", "\x1b[2J", "a\x86", "\x7f"]
)
def test_a_text_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        checked_text(text)
    assert "text" == refused.value.field


def test_a_case_has_room_for_so_much_and_no_more() -> None:
    check_room("é", MAX_CASE_BYTES - 2, MAX_CASE_REPORTS - 1)
    with pytest.raises(Exhausted):
        check_room("é", MAX_CASE_BYTES - 1)
    with pytest.raises(Exhausted):
        check_room("a", 0, MAX_CASE_REPORTS)


# Projections


@pytest.mark.proves("REP-12", part="what the index is told")
@pytest.mark.parametrize(
    ("issued", "reopened", "state"),
    [
        ((), False, State.UNREAD),
        ((OTHER,), False, State.PRELIMINARY),
        ((PRELIMINARY,), False, State.PRELIMINARY),
        ((PRELIMINARY, FINAL), False, State.FINAL),
        ((FINAL, OTHER), False, State.FINAL),
        ((FINAL,), True, State.REOPENED),
        ((FINAL, PRELIMINARY), True, State.REOPENED),
    ],
)
@pytest.mark.parametrize("holder", [None, VOS])
def test_a_pre_read_leaves_nothing_in_what_the_facility_side_is_told(
    issued: tuple[ReadType, ...], reopened: bool, state: State, holder: Person | None
) -> None:
    without = a_reading(*issued, holder=holder, reopened=reopened)
    pre_read = Issued(PRE_READ, NOON + timedelta(hours=1))
    facility, group = SIDES[Side.FACILITY], SIDES[Side.GROUP]

    for place in range(len(issued) + 1):
        having = replace(
            without, version=9, issued=(*without.issued[:place], pre_read, *without.issued[place:])
        )
        assert project(without, facility) == project(having, facility)
        assert (state, state) == (project(having, facility).state, project(having, group).state)
        assert PRE_READ in project(having, group).read_types
        assert pre_read.completed_at == project(having, group).reported_at


# Read types


@pytest.mark.proves("REP-5")
@pytest.mark.proves("REP-6")
def test_pre_read_is_active_where_both_switches_are_on() -> None:
    on, off = {PRE_READ: True}, {PRE_READ: False}
    assert {FINAL} == active_read_types({}, pre_read_enabled=False)
    assert {FINAL} == active_read_types({}, pre_read_enabled=True)
    assert {FINAL} == active_read_types(on, pre_read_enabled=False)
    assert {FINAL} == active_read_types(off, pre_read_enabled=True)
    assert {FINAL, PRE_READ} == active_read_types(on, pre_read_enabled=True)
    with pytest.raises(Conflict, match="not switched on for the group"):
        switch({}, PRE_READ, True, pre_read_enabled=False)


@pytest.mark.proves("REP-2")
def test_a_facility_keeps_one_public_read_type() -> None:
    switches = switch({PRE_READ: True}, PRELIMINARY, True, pre_read_enabled=True)
    switches = switch(switches, FINAL, False, pre_read_enabled=True)
    assert {PRELIMINARY, PRE_READ} == active_read_types(switches, pre_read_enabled=True)
    with pytest.raises(Conflict, match="at least one"):
        switch(switches, PRELIMINARY, False, pre_read_enabled=True)


def test_pre_read_is_listed_to_the_group_side_only() -> None:
    assert [list(ReadType), list(ReadType)[:3], list(ReadType)[:3]] == [
        listed(ALL, side) for side in (Side.GROUP, Side.FACILITY, Side.NONE)
    ]
