"""The use cases on a real PostgreSQL: who comes first, what lapses at the last moment, what is told."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from kernel.errors import Conflict, Denied, Exhausted, Expired, NotFound, ReadroomError, Unauthenticated
from kernel.events import ReadingChanged
from kernel.reading import PUBLIC_READ_TYPES, DraftState, PrivilegeLevel, ReadType, Side
from services.reporting.domain import MAX_CASE_BYTES, Reading, Written
from services.reporting.projections import project
from services.reporting.sight import NO_SIGHT, Sight
from services.reporting.usecases import VERSIONS_PAGE
from tests.clocks import NOON
from tests.reporting.builders import ACTING, LEASE, NORTH, a_facility_sight, a_sight
from tests.reporting.conftest import Reporting, a_case

FINAL, PRELIMINARY, PRE_READ = ReadType.FINAL, ReadType.PRELIMINARY, ReadType.PRE_READ


async def tried(act: Any) -> ReadroomError | None:
    try:
        await act
    except ReadroomError as error:
        return error
    return None


def said(written: Written) -> tuple[list[str], list[tuple[str, bool]]]:
    """Texts of the reports, and of the drafts with whether only their author sees them."""
    return [each.text for each in written.reports], [(each.text, each.author_only) for each in written.drafts]


# Who comes first


async def test_of_twenty_who_lock_at_once_one_has_the_lock(reporting: Reporting) -> None:
    users = [reporting.user(f"user{number}", a_sight()) for number in range(20)]

    answers = await asyncio.gather(*(tried(user.lock()) for user in users))

    (winner,) = [user for user, error in zip(users, answers, strict=True) if error is None]
    assert 19 == sum(
        isinstance(error, Conflict) and f"locked by `{winner.login}`" in error.sentence for error in answers
    )
    assert winner.login == (await winner.sees()).lock.holder.login  # type: ignore[union-attr]
    assert [(ReadingChanged.subject, str(reporting.case_id), 1)] == await reporting.facts()


async def test_a_completion_and_the_breaking_of_its_lock_never_both_happen(reporting: Reporting) -> None:
    vos, ada = reporting.user("vos", a_sight()), reporting.user("ada", a_sight())
    reporting.access.permit("ada", "lock.break")
    won = set()
    for number in range(30):
        vos.case_id = ada.case_id = a_case()
        await vos.lock()
        acts: list[Any] = [vos.complete(FINAL, "nodule"), ada.break_lock()]
        if number % 2:
            acts.reverse()

        errors = await asyncio.gather(*map(tried, acts))

        (lost,) = [error for error in errors if error]
        assert isinstance(lost, Conflict)
        if "broken by `ada`" in lost.sentence:
            won.add("ada")
            assert ([], [("nodule", False)]) == said(await vos.sees())
        else:
            won.add("vos")
            assert "nobody holds the lock" in lost.sentence
            assert (["nodule"], []) == said(await vos.sees())
    assert won <= {"ada", "vos"}


async def test_a_report_sent_twice_at_once_is_signed_once(reporting: Reporting) -> None:
    vos = reporting.user("vos", a_sight())
    await vos.lock()

    errors = await asyncio.gather(*(tried(vos.complete(ReadType.OTHER, "nodule")) for _ in range(5)))

    assert 4 == sum(isinstance(error, Conflict) for error in errors)
    assert ["nodule"] == said(await vos.sees())[0]


async def test_of_a_break_and_a_signature_at_once_one_wins_and_the_text_stays(reporting: Reporting) -> None:
    vos, ada = reporting.user("vos", a_sight()), reporting.user("ada", a_sight())
    reporting.access.permit("ada", "lock.break")
    await vos.lock()
    breaking: list[asyncio.Task[Any]] = []

    def start_to_break() -> Sight:
        breaking.append(asyncio.get_running_loop().create_task(tried(ada.break_lock())))
        return a_sight()

    reporting.access.answers = [a_sight, start_to_break]
    signing = await tried(vos.complete(FINAL, "nodule"))

    outcomes = [isinstance(outcome, Conflict) for outcome in (signing, await breaking[0])]
    assert sum(outcomes) == 1
    reports, drafts = said(await vos.sees())
    assert (reports, [text for text, *_ in drafts]) == ((["nodule"], []) if outcomes[1] else ([], ["nodule"]))


# What lapses at the last moment


@pytest.mark.proves("ACC-10", part="at the last moment")
@pytest.mark.proves("REP-18", part="at the last moment")
@pytest.mark.parametrize(
    ("now", "word", "kept", "lock_stays"),
    [
        (a_sight(PrivilegeLevel.DRAFT), Expired, [("nodule", False)], False),
        (a_sight(PrivilegeLevel.VIEW), Expired, [("nodule", True)], False),
        (NO_SIGHT, Expired, [("nodule", True)], False),
        (a_sight(instance_count=0), Conflict, [("nodule", False)], True),
        (a_sight(read_types=frozenset({PRELIMINARY})), Expired, [("nodule", False)], True),
        (a_sight(being_deleted=True), NotFound, [], True),
        (Sight(being_deleted=True), NotFound, [], True),
    ],
)
async def test_what_lapses_between_the_first_check_and_the_commit_leaves_the_text(
    reporting: Reporting, now: Sight, word: type[ReadroomError], kept: list[Any], lock_stays: bool
) -> None:
    vos, lind = reporting.user("vos", a_sight()), reporting.user("lind", a_sight())
    await vos.lock()
    reporting.access.answers = [a_sight, lambda: now]

    error = await tried(vos.complete(FINAL, "nodule"))

    assert type(error) is word
    assert ([], kept) == said(await vos.sees())
    assert ([], [each for each in kept if not each[1]]) == said(await lind.sees())
    assert lock_stays == ((await lind.sees()).lock is not None)
    assert bool(kept) == ("kept" in error.sentence)


async def test_a_user_deactivated_while_he_read_finds_his_text_when_he_is_back(reporting: Reporting) -> None:
    vos = reporting.user("vos", a_sight())
    await vos.lock()

    def deactivated() -> Sight:
        raise Unauthenticated("there is no active user with this login")

    reporting.access.answers = [deactivated, deactivated]
    assert "for you alone" in (await tried(vos.complete(FINAL, "nodule"))).sentence  # type: ignore[union-attr]
    assert [("nodule", True)] == said(await vos.sees())[1]

    await vos.lock()
    await vos.complete(FINAL, "nodule")
    assert (["nodule"], []) == said(await vos.sees())


async def test_the_report_keeps_the_revision_it_was_decided_on(reporting: Reporting) -> None:
    vos = reporting.user("vos", a_sight(revision="first"))
    await vos.lock()
    reporting.access.answers = [a_sight, lambda: a_sight(revision="second")]

    report = await vos.complete(FINAL, "nodule")
    await vos.add_addendum(report.id, "4 mm")

    assert ["second"] == [row["revision"] for row in await reporting.query("select revision from reports")]
    assert ["first"] == [row["revision"] for row in await reporting.query("select revision from addenda")]


# What may be seen


async def test_without_the_permission_to_read_reports_a_user_obtains_none(reporting: Reporting) -> None:
    vos = reporting.user("vos", a_sight())
    await vos.lock()
    report = await vos.complete(FINAL, "nodule")
    await vos.lock()
    blind = reporting.user("blind", a_sight(reports=False))

    assert ([], []) == said(await blind.sees())
    assert (await blind.sees()).lock is not None
    with pytest.raises(NotFound):
        await blind.add_addendum(report.id, "x")


async def test_a_case_that_is_being_deleted_is_absent(reporting: Reporting) -> None:
    vos = reporting.user("vos", a_sight())
    await vos.lock()
    reporting.access.sights["vos"] = a_sight(being_deleted=True)
    for act in (vos.lock(), vos.renew_lock(), vos.unlock(), vos.save_draft("x"), vos.reopen()):
        with pytest.raises(NotFound):
            await act


async def test_an_author_of_the_facility_side_keeps_sight_of_his_own_draft_only(reporting: Reporting) -> None:
    """They were a radiologist when they wrote it."""
    vos, lind = reporting.user("vos", a_sight()), reporting.user("lind", a_sight())
    await vos.lock()
    await vos.save_draft("mine")
    await vos.unlock()
    await lind.lock()
    await lind.save_draft("not mine")
    reporting.access.sights["vos"] = a_facility_sight()

    assert ([], [("mine", False)]) == said(await vos.sees())


# What is told and kept


async def test_a_fact_is_said_when_what_is_described_changes(reporting: Reporting) -> None:
    vos = reporting.user("vos", a_sight())

    async def version_after(act: Any) -> int:
        reporting.clock.pass_by(timedelta(seconds=1))
        await act
        return (await reporting.described()).version

    assert [1, 2, 3, 4, 5, 6] == [
        await version_after(act)
        for act in (
            vos.lock(),
            vos.renew_lock(),
            vos.save_draft("x"),
            vos.complete(FINAL, "x"),
            vos.reopen(),
            vos.lock(),
        )
    ]
    subject, case_id = ReadingChanged.subject, str(reporting.case_id)
    assert [(subject, case_id, version) for version in range(1, 7)] == await reporting.facts()


async def test_a_reading_tells_the_end_of_its_lock_and_needs_no_fact_when_it_comes(
    reporting: Reporting,
) -> None:
    vos = reporting.user("vos", a_sight(name="Dr Vos"))
    await vos.lock()
    before = await reporting.described()
    reporting.clock.pass_by(LEASE)

    assert before == await reporting.described()
    assert before.group.lock == before.facility.lock
    assert ("vos", "Dr Vos", NOON + LEASE) == (
        before.facility.lock.holder.login,  # type: ignore[union-attr]
        before.facility.lock.holder.name,  # type: ignore[union-attr]
        before.facility.lock.ends_at,  # type: ignore[union-attr]
    )
    assert (await vos.sees()).lock is None
    assert 1 == len(await reporting.facts())


async def test_a_case_of_which_nothing_can_be_told_is_not_found_and_has_no_version(
    reporting: Reporting,
) -> None:
    await tried(reporting.user("ito", a_sight(PrivilegeLevel.DRAFT)).unlock())

    with pytest.raises(NotFound):
        await reporting.described()
    assert [] == await reporting.readings.list_versions(UUID(int=0))


async def test_a_draft_is_told_to_the_group_and_shown_to_no_facility(reporting: Reporting) -> None:
    ito = reporting.user("ito", a_sight(PrivilegeLevel.DRAFT))
    await tried(ito.complete(FINAL, "x"))  # leaves a draft without a lock

    assert ([], [("x", False)]) == said(await ito.sees())
    described = await reporting.described()
    assert (1, True, project(Reading(reporting.case_id), PUBLIC_READ_TYPES)) == (
        described.version,
        described.drafted,
        described.facility,
    )
    assert replace(described.facility, draft=DraftState.DICTATED) == described.group


async def test_versions_come_in_pages(reporting: Reporting) -> None:
    count = VERSIONS_PAGE + 3
    await reporting.query(
        "insert into readings (case_id, version) select gen_random_uuid(), 7 from generate_series(1, $1)",
        count,
    )
    first = await reporting.readings.list_versions(UUID(int=0))
    second = await reporting.readings.list_versions(first[-1][0])

    assert (VERSIONS_PAGE, 3, count) == (len(first), len(second), len(dict([*first, *second])))


async def test_every_act_is_audited_and_names_no_text(reporting: Reporting) -> None:
    vos = reporting.user("vos", a_sight(name="Dr Eva Vos"))
    nobody = reporting.user("nobody")
    await vos.lock()
    await vos.renew_lock()
    await vos.save_draft("secret draft")
    await tried(vos.complete(FINAL, "secret one"))
    report = (await vos.sees()).reports[0]
    await vos.add_addendum(report.id, "secret two")
    await vos.reopen()
    await tried(vos.complete(FINAL, "secret three"))
    for attempt in (
        nobody.lock(),
        nobody.renew_lock(),
        nobody.unlock(),
        nobody.break_lock(),
        nobody.save_draft("secret"),
        nobody.complete(FINAL, "secret"),
        nobody.add_addendum(report.id, "secret"),
        nobody.reopen(),
        nobody.sees(),
    ):
        assert isinstance(await tried(attempt), NotFound)

    assert [
        *(("vos", action, "done") for action in ("case.locked", "lock.renewed", "draft.saved")),
        *(("vos", action, "done") for action in ("report.completed", "reports.listed", "addendum.added")),
        *(("vos", action, "done") for action in ("case.reopened", "draft.kept")),
        ("vos", "report.completed", "refused"),
        *(
            ("nobody", action, "refused")
            for action in (
                *("case.locked", "lock.renewed", "case.unlocked", "lock.broken", "draft.saved"),
                *("report.completed", "addendum.added", "case.reopened", "reports.listed"),
            )
        ),
    ] == await reporting.audited()
    kept = str(await reporting.query("select * from audit_rows")) + str(
        await reporting.query("select * from outbox")
    )
    assert "secret" not in kept
    assert "Eva" not in kept


async def test_a_refused_act_leaves_no_trace_of_the_case(reporting: Reporting) -> None:
    nobody, okafor = reporting.user("nobody"), reporting.user("okafor", a_facility_sight())
    for user in (nobody, okafor):
        for act in (user.lock(), user.save_draft("x"), user.complete(FINAL, "x"), user.unlock()):
            assert await tried(act) is not None
    assert [] == await reporting.query("select * from readings")


async def test_a_case_is_full_at_some_point(reporting: Reporting) -> None:
    vos = reporting.user("vos", a_sight())
    big = "é" * 200_000
    for _ in range(MAX_CASE_BYTES // 400_000):
        await vos.lock()
        await vos.complete(ReadType.OTHER, big)
    await vos.lock()
    with pytest.raises(Exhausted):
        await vos.save_draft(big)
    with pytest.raises(Exhausted):
        await vos.complete(ReadType.OTHER, big)
    await vos.complete(ReadType.OTHER, "short")


# Read types


@pytest.mark.proves("REP-5")
@pytest.mark.proves("REP-6")
@pytest.mark.proves("REP-7", part="where it is active")
@pytest.mark.proves("A36")
async def test_pre_read_is_activated_in_three_steps_and_dormant_while_the_group_has_it_off(
    untouched: Reporting,
) -> None:
    reporting, types = untouched, untouched.read_types
    reporting.access.permit("ada", "facility.admin")
    reporting.access.permit("olaf", "operator", Side.NONE)
    vos = reporting.user("vos", a_sight())

    async def completes() -> bool:
        await vos.lock()
        return await tried(vos.complete(PRE_READ, "nodule?")) is None

    assert [FINAL] == await act("ada", types.list_read_types, NORTH)
    assert not await completes()
    with pytest.raises(Conflict, match="not switched on for the group"):
        await act("ada", types.activate_read_type, NORTH, PRE_READ, True)
    with pytest.raises(Denied):
        await act("ada", types.activate_read_type, None, PRE_READ, True)
    assert [PRE_READ] == await act("olaf", types.activate_read_type, None, PRE_READ, True)
    assert not await completes()
    assert [FINAL, PRE_READ] == await act("ada", types.activate_read_type, NORTH, PRE_READ, True)
    assert await completes()
    reporting.access.sights["vos"] = a_sight(read_types=frozenset({FINAL}))  # it was not given to them
    assert not await completes()
    reporting.access.sights["vos"] = a_sight()

    assert [] == await act("olaf", types.activate_read_type, None, PRE_READ, False)
    assert [FINAL] == await act("ada", types.list_read_types, NORTH)
    assert not await completes()
    await act("olaf", types.activate_read_type, None, PRE_READ, True)
    assert [FINAL, PRE_READ] == await act("ada", types.list_read_types, NORTH)
    assert await completes()
    for active in (False, True):
        await act("ada", types.activate_read_type, NORTH, PRE_READ, active)
        assert active is await completes()


async def test_the_facility_side_administers_the_types_that_it_may_know_of(reporting: Reporting) -> None:
    types = reporting.read_types
    reporting.access.permit("boss", "facility.admin", Side.FACILITY)
    reporting.access.permit("ada", "facility.admin")

    assert list(ReadType)[:3] == await act("boss", types.list_read_types, NORTH)
    assert list(ReadType) == await act("ada", types.list_read_types, NORTH)
    assert [FINAL, ReadType.OTHER] == await act("boss", types.activate_read_type, NORTH, PRELIMINARY, False)
    for active in (True, False):
        with pytest.raises(Denied):
            await act("boss", types.activate_read_type, NORTH, PRE_READ, active)
    with pytest.raises(Denied):
        await act("nobody", types.list_read_types, NORTH)


async def test_of_two_who_switch_off_the_last_types_at_once_one_is_refused(reporting: Reporting) -> None:
    types = reporting.read_types
    reporting.access.permit("ada", "facility.admin")
    await act("ada", types.activate_read_type, NORTH, ReadType.OTHER, False)

    errors = await asyncio.gather(
        *(tried(act("ada", types.activate_read_type, NORTH, each, False)) for each in (FINAL, PRELIMINARY))
    )

    assert [Conflict] == [type(error) for error in errors if error]


async def act(login: str, verb: Any, *arguments: Any) -> Any:
    """Calls a verb as a user, whom access recognizes."""
    ACTING.set(login)
    return await verb(login, *arguments)
