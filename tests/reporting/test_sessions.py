"""One person in two sessions or windows overwrites nothing of their own unseen, and no text is lost."""

from dataclasses import replace
from typing import Any

import pytest

from kernel.errors import Conflict, Exhausted, Expired, ReadroomError, Unauthenticated
from kernel.reading import PUBLIC_READ_TYPES, PrivilegeLevel, ReadType, Side
from services.reporting.completion import May, may
from services.reporting.domain import MAX_CASE_BYTES, Issued, Reading
from services.reporting.sight import NO_SIGHT, Sight
from services.reporting.usecases import KEPT_BESIDE
from tests.clocks import NOON
from tests.reporting.builders import a_sight, a_sight_by_share
from tests.reporting.conftest import Actor, Reporting, a_case

FINAL, PRELIMINARY = ReadType.FINAL, ReadType.PRELIMINARY


def in_two_sessions(reporting: Reporting) -> tuple[Actor, Actor]:
    here = reporting.user("vos", a_sight())
    return here, replace(here, session="another")


async def refusal(act: Any) -> ReadroomError:
    with pytest.raises(ReadroomError) as refused:
        await act
    return refused.value


async def kept(actor: Actor) -> tuple[list[str], list[str]]:
    """The draft of who acts, and what is kept for them alone."""
    drafts = (await actor.sees()).drafts
    return (
        [each.text for each in drafts if not each.author_only],
        sorted(each.text for each in drafts if each.author_only),
    )


@pytest.mark.proves("A37", part="one session of one person")
async def test_who_holds_the_lock_in_another_session_is_told_and_may_take_it_over(
    reporting: Reporting,
) -> None:
    here, there = in_two_sessions(reporting)
    await here.lock()

    for act in (there.lock(), there.renew_lock(), there.unlock(), there.save_draft("x")):
        error = await refusal(act)
        assert Conflict is type(error)
        assert "in another session of yours: take it over to go on here" in error.sentence
    assert (False, True) == ((await here.list_reports()).written.elsewhere, (await there.sees()).elsewhere)

    await there.lock(take_over=True)
    await there.save_draft("nodule")
    assert "in another session of yours" in (await refusal(here.renew_lock())).sentence
    assert "in another session of yours" in (await refusal(here.complete(FINAL, "nodes"))).sentence
    assert (["nodule"], ["nodes", "x"]) == await kept(there)
    await there.complete(FINAL, "nodule")
    assert ([], []) == await kept(there)


async def test_nobody_takes_over_the_lock_of_somebody_else(reporting: Reporting) -> None:
    await reporting.user("lind", a_sight()).lock()
    error = await refusal(reporting.user("vos", a_sight()).lock(take_over=True))
    assert "locked by `lind`" in error.sentence


async def test_a_lock_that_the_version_before_renewed_is_held_in_every_session(reporting: Reporting) -> None:
    here, there = in_two_sessions(reporting)
    await here.lock()
    await reporting.query("update readings set version = version + 1")

    await there.renew_lock()
    assert "in another session" in (await refusal(here.renew_lock())).sentence


@pytest.mark.proves("A37", part="two windows of one session")
async def test_two_windows_of_a_session_never_overwrite_each_other(reporting: Reporting) -> None:
    vos = reporting.user("vos", a_sight())
    await vos.lock()
    first = await vos.save_draft("one", made_from=0)
    second = await vos.save_draft("one two", made_from=first.version)
    assert second.version > first.version

    for stale in (0, first.version):
        error = await refusal(vos.save_draft("one three", made_from=stale))
        assert "saved by another page or session since" in error.sentence
        assert error.sentence.endswith(
            "kept beside your draft, for you alone to see; you still hold the lock"
        )
    assert (["one two"], ["one three"]) == await kept(vos)
    error = await refusal(vos.complete(FINAL, "one three", made_from=first.version))
    assert "saved by another page or session since" in error.sentence
    assert ((), ["one two"], ["one three"]) == ((await vos.sees()).reports, *await kept(vos))

    # Having seen both, they decide.
    await vos.save_draft("one three", made_from=second.version)
    assert (["one three"], []) == await kept(vos)


async def test_after_a_report_no_version_comes_again(reporting: Reporting) -> None:
    vos = reporting.user("vos", a_sight())
    await vos.lock()
    before = await vos.save_draft("one")
    await vos.complete(PRELIMINARY, "one")
    reporting.clock.pass_by(vos.readings._lease)
    await vos.lock()
    await vos.save_draft("two")

    assert Conflict is type(await refusal(vos.save_draft("three", made_from=before.version)))


@pytest.mark.proves("A3", part="the earlier draft stays")
@pytest.mark.parametrize(
    ("now", "read_type", "word", "shared", "alone", "lock"),
    [
        (a_sight(PrivilegeLevel.DRAFT), FINAL, Expired, ["earlier"], ["later"], "your lock has ended"),
        (a_sight(PrivilegeLevel.VIEW), FINAL, Expired, ["earlier"], ["later"], "your lock has ended"),
        (NO_SIGHT, FINAL, Expired, ["earlier"], ["later"], "your lock has ended"),
        (a_sight(instance_count=0), FINAL, Conflict, ["earlier"], ["later"], "you still hold the lock"),
        (
            a_sight(read_types=frozenset({PRELIMINARY})),
            FINAL,
            Expired,
            ["earlier"],
            ["later"],
            "you still hold the lock",
        ),
    ],
)
async def test_whatever_refuses_a_report_the_earlier_draft_stays_and_the_answer_says_what_became(
    reporting: Reporting,
    now: Sight,
    read_type: ReadType,
    word: type[ReadroomError],
    shared: list[str],
    alone: list[str],
    lock: str,
) -> None:
    vos = reporting.user("vos", a_sight())
    await vos.lock()
    await vos.save_draft("earlier")
    reporting.access.answers = [a_sight, lambda: now]

    error = await refusal(vos.complete(read_type, "later"))

    assert (word, True) == (type(error), error.sentence.endswith(f"for you alone to see; {lock}"))
    assert (shared, alone) == await kept(vos)
    assert ("ended" in lock) == ((await vos.sees()).lock is None)


async def test_a_refused_text_replaces_the_draft_that_it_was_made_from(
    reporting: Reporting,
) -> None:
    vos = reporting.user("vos", a_sight(read_types=frozenset({PRELIMINARY})))
    await vos.lock()
    draft = await vos.save_draft("earlier")

    error = await refusal(vos.complete(FINAL, "later", made_from=draft.version))

    assert "your text was kept as a draft; you still hold the lock" in error.sentence
    assert (["later"], []) == await kept(vos)


async def test_a_report_for_which_a_case_has_no_room_is_kept_as_a_draft(reporting: Reporting) -> None:
    vos = reporting.user("vos", a_sight())
    await vos.lock()
    await reporting.query(
        """
        insert into reports
        values (gen_random_uuid(), $1, 'other', 'lind', 'Lind', repeat('x', $2), now(), '')
        """,
        reporting.case_id,
        MAX_CASE_BYTES,
    )

    error = await refusal(vos.complete(FINAL, "nodule"))

    assert (Exhausted, ["nodule"]) == (type(error), (await kept(vos))[0])
    assert "your text was kept as a draft; you still hold the lock" in error.sentence


@pytest.mark.proves("BEY-15", part="a draft in the making")
@pytest.mark.parametrize("now", [a_sight(PrivilegeLevel.VIEW), NO_SIGHT])
async def test_what_is_typed_when_a_privilege_lapses_is_kept_and_renewal_restores(
    reporting: Reporting, now: Sight
) -> None:
    vos, lind = reporting.user("vos", a_sight()), reporting.user("lind", a_sight())
    await vos.lock()
    await vos.save_draft("nodule")
    reporting.access.sights["vos"] = now

    error = await refusal(vos.save_draft("nodule, 4 mm"))
    assert Expired is type(error)
    assert error.sentence.endswith("your text was kept, for you alone to see; your lock has ended")
    assert ["nodule"] == [each.text for each in (await lind.sees()).drafts]
    assert ["nodule, 4 mm"] == [each.text for each in (await vos.sees()).drafts if each.author_only]

    reporting.access.sights["vos"] = a_sight()
    await vos.lock()
    assert (["nodule"], ["nodule, 4 mm"]) == await kept(vos)
    await vos.complete(FINAL, "nodule, 4 mm")


async def test_what_is_refused_again_and_again_is_kept_once_for_its_session_and_not_without_end(
    reporting: Reporting,
) -> None:
    vos, lind = reporting.user("vos", a_sight()), reporting.user("lind", a_sight())
    await lind.lock()
    for text in ("a", "ab", "abc"):
        await refusal(vos.save_draft(text))
    assert ([], ["abc"]) == await kept(vos)

    for number in range(10):
        reporting.clock.pass_by(vos.readings._lease / 100)
        await refusal(replace(vos, session=str(number)).save_draft(f"window {number}"))
    assert [f"window {number}" for number in range(10 - KEPT_BESIDE, 10)] == (await kept(vos))[1]
    assert [] == [each.text for each in (await lind.sees()).drafts], "it is for its author alone"


async def test_who_sees_no_case_keeps_nothing(reporting: Reporting) -> None:
    await refusal(reporting.user("stranger", NO_SIGHT).save_draft("x"))
    await refusal(reporting.user("marsh", a_sight(PrivilegeLevel.VIEW)).save_draft("x"))

    assert [] == await reporting.query("select from drafts") + await reporting.query("select from kept_texts")


async def test_whoever_is_deactivated_while_they_type_finds_their_text(
    reporting: Reporting,
) -> None:
    vos = reporting.user("vos", a_sight())

    def deactivated() -> Sight:
        raise Unauthenticated("there is no active user with this login")

    reporting.access.answers = [deactivated]
    assert Unauthenticated is type(await refusal(vos.save_draft("nodule")))
    await vos.lock()
    reporting.access.answers = [deactivated]
    assert "for you alone" in (await refusal(vos.save_draft("nodule"))).sentence
    assert ["nodule"] == (await kept(vos))[1]


async def test_what_the_version_before_purges_takes_the_kept_texts_along(reporting: Reporting) -> None:
    await refusal(reporting.user("vos", a_sight()).save_draft("x"))
    for table in ("reports", "drafts", "broken_locks", "readings"):
        await reporting.query(f"delete from {table} where case_id = $1", reporting.case_id)

    assert [] == await reporting.query("select from kept_texts")


# What they may do, told before they write


@pytest.mark.proves("REP-18", part="told before they write")
@pytest.mark.parametrize(
    ("sight", "drafts", "completes", "saying"),
    [
        (a_sight(), True, list(ReadType), ""),
        (a_sight(side=Side.FACILITY), True, sorted(PUBLIC_READ_TYPES, key=list(ReadType).index), ""),
        (a_sight_by_share(), True, sorted(PUBLIC_READ_TYPES, key=list(ReadType).index), ""),
        (a_sight(PrivilegeLevel.DRAFT, only_drafts=True), True, [], "your role writes drafts"),
        (a_sight(PrivilegeLevel.DRAFT), True, [], "you need the level `report`"),
        (a_sight(PrivilegeLevel.VIEW), False, [], "you may read here and not write"),
        (a_sight(read_types=frozenset()), True, [], "no read type that is active"),
    ],
)
def test_who_can_never_complete_is_told_before_they_write(
    sight: Sight, drafts: bool, completes: list[ReadType], saying: str
) -> None:
    found = may(Reading(a_case()), (), "vos", sight, frozenset(ReadType))

    assert (drafts, tuple(completes)) == (found.drafts, found.completes)
    assert saying in found.completes_nothing
    assert bool(completes) != bool(found.completes_nothing)


def test_after_a_final_report_it_is_told_what_may_follow() -> None:
    final = Reading(a_case(), issued=(Issued(FINAL, NOON),))

    found = may(final, (), "vos", a_sight(), frozenset(ReadType))
    assert ((ReadType.OTHER,), True) == (found.completes, found.reopens)
    only_final = may(final, (), "vos", a_sight(read_types=frozenset({FINAL})), frozenset(ReadType))
    assert ((), True) == (only_final.completes, only_final.reopens)
    assert "add an addendum to it, or reopen the case" in only_final.completes_nothing
    assert not may(final, (), "vos", a_sight_by_share(), frozenset(ReadType)).reopens


async def test_an_addendum_is_offered_exactly_where_it_would_be_taken(reporting: Reporting) -> None:
    vos, lind = reporting.user("vos", a_sight()), reporting.user("lind", a_sight_by_share())
    await vos.lock()
    report = await vos.complete(FINAL, "nodule")
    told: May = (await vos.list_reports()).may

    assert {report.id} == told.adds_to
    assert frozenset() == (await lind.list_reports()).may.adds_to
    await vos.add_addendum(report.id, "4 mm")
    await refusal(lind.add_addendum(report.id, "4 mm"))
