"""What access is told of drafts, of who signed what, and of how a reading stood when its lock began."""

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

import pytest

from kernel.ids import CaseId
from kernel.reading import DraftState, PrivilegeLevel, ReadType
from services.reporting.domain import Reading, draft_state
from services.reporting.projections import AtLock, State
from tests.clocks import NOON
from tests.reporting.builders import LEASE, a_sight
from tests.reporting.conftest import Actor, Reporting

PRELIMINARY, FINAL, PRE_READ = ReadType.PRELIMINARY, ReadType.FINAL, ReadType.PRE_READ
NONE, DICTATED, TRANSCRIBED = DraftState


def a_radiologist(reporting: Reporting, login: str = "vos") -> Actor:
    return reporting.user(login, a_sight())


def a_transcriptionist(reporting: Reporting) -> Actor:
    return reporting.user("moore", a_sight(PrivilegeLevel.DRAFT, transcribes=True))


async def drafts(reporting: Reporting, *authors: Actor) -> None:
    """Each locks, drafts and gives the lock back, a second after the one before."""
    for author in authors:
        reporting.clock.pass_by(timedelta(seconds=1))
        await author.lock()
        await author.save_draft("nodule")
        await author.unlock()


async def draft_told(reporting: Reporting) -> DraftState:
    described = await reporting.described()
    assert NONE is described.facility.draft
    return described.group.draft


@pytest.mark.parametrize(
    ("are_transcribed", "state"),
    [([], NONE), ([False], DICTATED), ([True], TRANSCRIBED), ([False, True, False], TRANSCRIBED)],
)
def test_a_transcriptionists_draft_counts_before_any_other(
    are_transcribed: list[bool], state: DraftState
) -> None:
    assert state is draft_state(are_transcribed)


@pytest.mark.proves("A64", part="whose draft waits")
async def test_a_draft_is_told_with_whether_a_transcriptionist_wrote_it(reporting: Reporting) -> None:
    vos, moore = a_radiologist(reporting), a_transcriptionist(reporting)
    await vos.lock()
    assert NONE is await draft_told(reporting)
    await vos.unlock()
    await drafts(reporting, vos)
    assert DICTATED is await draft_told(reporting)
    await drafts(reporting, moore)
    assert TRANSCRIBED is await draft_told(reporting)
    await drafts(reporting, vos)  # what was transcribed still waits
    assert TRANSCRIBED is await draft_told(reporting)


@pytest.mark.proves("A64", part="a draft that is older than a public report")
async def test_a_draft_that_is_older_than_the_last_public_report_waits_no_more(reporting: Reporting) -> None:
    vos, lind = a_radiologist(reporting), a_radiologist(reporting, "lind")
    await drafts(reporting, vos)
    reporting.clock.pass_by(timedelta(seconds=1))
    await lind.lock()
    await lind.complete(PRELIMINARY, "no fracture")

    described = await reporting.described()
    assert (NONE, True) == (described.group.draft, described.drafted)
    await drafts(reporting, vos)
    assert DICTATED is await draft_told(reporting)


async def test_a_pre_read_leaves_the_drafts_of_others_waiting(reporting: Reporting) -> None:
    vos, lind = a_radiologist(reporting), a_radiologist(reporting, "lind")
    await drafts(reporting, vos)
    reporting.clock.pass_by(timedelta(seconds=1))
    await lind.lock()
    await lind.complete(PRE_READ, "nodule?")

    assert DICTATED is await draft_told(reporting)


async def test_a_text_for_its_author_alone_is_no_draft_that_waits(reporting: Reporting) -> None:
    vos = a_radiologist(reporting)
    await vos.lock()
    reporting.user("vos", a_sight(PrivilegeLevel.VIEW))
    with pytest.raises(Exception, match="for you alone"):
        await vos.complete(FINAL, "nodule")

    described = await reporting.described()
    assert (NONE, True) == (described.group.draft, described.drafted)


async def test_an_autosave_that_changes_nothing_of_what_is_told_says_nothing(reporting: Reporting) -> None:
    vos = a_radiologist(reporting)
    await vos.lock()
    await vos.save_draft("n")
    told, said = await reporting.described(), await reporting.facts()

    for text in ("no", "nod", "nodule"):
        reporting.clock.pass_by(timedelta(seconds=1))
        await vos.save_draft(text)

    assert (told, said) == (await reporting.described(), await reporting.facts())
    await vos.complete(FINAL, "nodule")
    assert told.version + 1 == (await reporting.described()).version == (await reporting.facts())[-1][2]


async def test_a_report_is_told_with_who_signed_it_when(reporting: Reporting) -> None:
    vos, lind = a_radiologist(reporting), a_radiologist(reporting, "lind")
    lind_id = (await reporting.query("select gen_random_uuid() as id"))[0]["id"]
    reporting.user("lind", a_sight(user_id=lind_id))
    signed = []
    for author, read_type in ((vos, PRE_READ), (lind, FINAL)):
        reporting.clock.pass_by(timedelta(seconds=1))
        await author.lock()
        report = await author.complete(read_type, "nodule")
        signed.append((read_type, author.login, report.completed_at))

    described = await reporting.described()
    told = described.group.reports
    assert signed == [(each.read_type, each.author_login, each.completed_at) for each in told]
    assert [None, lind_id] == [each.author_id for each in told]
    assert told[1:] == described.facility.reports


@pytest.mark.proves("A64", part="how it stood when the lock began")
async def test_the_lock_tells_the_group_how_the_reading_stood_when_it_began(reporting: Reporting) -> None:
    vos, lind = a_radiologist(reporting), a_radiologist(reporting, "lind")
    await drafts(reporting, vos)
    reporting.clock.pass_by(timedelta(seconds=1))
    await lind.lock()
    await lind.complete(PRELIMINARY, "no fracture")
    before = AtLock(State.PRELIMINARY, NONE, (PRELIMINARY,))
    await vos.lock()
    reporting.clock.pass_by(timedelta(seconds=1))

    for _ in range(2):
        described = await reporting.described()
        assert (before, None) == (described.group.at_lock, described.facility.at_lock)
        await vos.save_draft("nodule")
        await vos.renew_lock()
        await vos.lock()  # their own again: the same lock, prolonged

    assert DICTATED is (await reporting.described()).group.draft
    reporting.clock.pass_by(LEASE)
    await lind.lock()
    told = (await reporting.described()).group
    assert AtLock(State.PRELIMINARY, DICTATED, (PRELIMINARY,)) == told.at_lock
    await lind.unlock()
    assert (await reporting.described()).group.at_lock is None


async def test_what_the_version_before_writes_is_told_as_far_as_it_is_known(reporting: Reporting) -> None:
    """It knows none of the new columns: what it leaves in them is told no more."""
    vos, moore = a_radiologist(reporting), a_transcriptionist(reporting)
    await drafts(reporting, moore)
    await vos.lock()
    before = (await reporting.described()).group
    assert before.at_lock is not None
    assert before.lock
    assert before.lock.since == reporting.clock.now()
    async with reporting.database.transaction() as transaction:
        await transaction.connection.execute(
            "update drafts set transcribed = default; "
            "insert into drafts (case_id, author_login, author_only, author_name, text, saved_at) "
            "select case_id, 'vos', false, 'vos', 'nodule', saved_at from drafts; "
            "update readings set version = version + 1, drafted = true"
        )

    told = (await reporting.described()).group
    assert (DICTATED, None) == (told.draft, told.at_lock)
    assert told.lock
    assert ("vos", None) == (told.lock.holder.login, told.lock.since)
    await vos.unlock()
    await drafts(reporting, moore)
    assert TRANSCRIBED is await draft_told(reporting)


async def test_a_case_that_was_read_is_told_with_since_when_it_waits_again(reporting: Reporting) -> None:
    vos = a_radiologist(reporting)

    async def waits_since() -> datetime | None:
        described = await reporting.described()
        assert described.group.waits_since == described.facility.waits_since
        return described.group.waits_since

    async def completes(read_type: ReadType) -> datetime:
        reporting.clock.pass_by(timedelta(minutes=1))
        await vos.lock()
        await vos.complete(read_type, "nodule")
        return reporting.clock.now()

    await completes(PRE_READ)
    assert await waits_since() is None
    read_at = await completes(PRELIMINARY)
    await completes(PRE_READ)
    assert read_at == await waits_since()
    await completes(FINAL)
    assert await waits_since() is None
    reporting.clock.pass_by(timedelta(minutes=1))
    await vos.reopen()
    reopened_at = reporting.clock.now()
    await completes(PRELIMINARY)
    assert reopened_at == await waits_since()


def test_a_reopening_of_before_the_last_final_report_says_nothing() -> None:
    """The version before has issued that report, and reopened the case again: it keeps no time."""
    before = Reading(CaseId(uuid4())).issue(FINAL, NOON).reopen(NOON)
    by_the_version_before = replace(before.issue(FINAL, NOON + timedelta(hours=1)), reopened=True)

    assert NOON == before.waits_since
    assert by_the_version_before.waits_since is None
