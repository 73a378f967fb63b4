"""What write access by a share includes: drafting and completing, and nothing of what others wrote (A45)."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import Denied, Expired
from kernel.reading import PrivilegeLevel, ReadType
from services.reporting.domain import Report
from services.reporting.projections import State
from services.reporting.sight import Sight
from tests.reporting.builders import a_sight, a_sight_by_share
from tests.reporting.conftest import Actor, Reporting

FINAL = ReadType.FINAL


async def a_report(actor: Actor, read_type: ReadType = FINAL, text: str = "nodule") -> Report:
    await actor.lock()
    report: Report = await actor.complete(read_type, text)
    return report


@pytest.mark.proves("A45", part="the recipient's report, and nobody else's")
async def test_a_recipient_drafts_completes_and_adds_to_their_own_report(reporting: Reporting) -> None:
    ray = reporting.user("ray", a_sight_by_share())

    await ray.lock()
    await ray.save_draft("nod")
    report = await ray.complete(FINAL, "nodule")
    extended = await ray.add_addendum(report.id, "4 mm")

    assert [("ray", "4 mm")] == [(each.author.login, each.text) for each in extended.addenda]


@pytest.mark.proves("A45", part="the recipient's report, and nobody else's")
async def test_a_recipient_neither_reopens_nor_adds_to_the_report_of_somebody_else(
    reporting: Reporting,
) -> None:
    report = await a_report(reporting.user("vos", a_sight()))
    ray = reporting.user("ray", a_sight_by_share())

    for act in (ray.reopen(), ray.add_addendum(report.id, "x")):
        with pytest.raises(Denied, match="a share lets you draft"):
            await act

    (kept,) = (await ray.sees()).reports
    assert ((), State.FINAL) == (kept.addenda, (await reporting.described()).group.state)
    refused = {("ray", "case.reopened", "refused"), ("ray", "addendum.added", "refused")}
    assert refused <= set(await reporting.audited())


async def test_a_recipient_does_not_reopen_after_their_own_final_report_either(reporting: Reporting) -> None:
    """Whoever may reopen lets everybody read anew; an addendum corrects one's own report."""
    ray = reporting.user("ray", a_sight_by_share())
    await a_report(ray)

    with pytest.raises(Denied, match="a share lets you draft"):
        await ray.reopen()


async def test_the_recipients_own_privilege_keeps_both(reporting: Reporting) -> None:
    """A share takes nothing away: what was theirs by privilege stays, at the read types of the privilege."""
    vos = reporting.user("vos", a_sight())
    other = await a_report(vos, ReadType.OTHER, "fracture")
    report = await a_report(vos)
    own: dict[str, Any] = {"own_level": PrivilegeLevel.REPORT, "own_read_types": frozenset({FINAL})}
    ray = reporting.user("ray", a_sight_by_share(**own))

    await ray.add_addendum(report.id, "4 mm")
    with pytest.raises(Denied, match="a share lets you draft"):
        await ray.add_addendum(other.id, "x")
    await ray.reopen()


async def test_a_share_breaks_nobodys_lock(reporting: Reporting) -> None:
    """An administrator of the group holds `lock.break` everywhere, also where a share alone brought them."""
    await reporting.user("vos", a_sight()).lock()
    adam = reporting.user("adam", a_sight_by_share(PrivilegeLevel.VIEW))
    reporting.access.permit("adam", "lock.break")

    with pytest.raises(Denied, match="a share does not let you break a lock"):
        await adam.break_lock()
    reporting.access.sights["adam"] = a_sight(PrivilegeLevel.VIEW)
    await adam.break_lock()


async def test_a_lock_outlives_the_share_by_its_lease_only_and_signs_nothing(reporting: Reporting) -> None:
    ray = reporting.user("ray", a_sight_by_share())
    await ray.lock()
    reporting.access.sights["ray"] = Sight()

    reporting.access.answers = [a_sight_by_share]
    with pytest.raises(Expired, match="for you alone"):
        await ray.complete(FINAL, "nodule")

    await reporting.user("vos", a_sight()).lock()


levels, types = st.sampled_from(PrivilegeLevel), st.frozensets(st.sampled_from(ReadType))


@given(levels, types, levels, types, st.sampled_from(ReadType), types, st.booleans())
def test_a_share_never_counts_for_what_is_not_of_ones_own(
    level: PrivilegeLevel,
    read_types: frozenset[ReadType],
    own_level: PrivilegeLevel,
    own_read_types: frozenset[ReadType],
    read_type: ReadType,
    active: frozenset[ReadType],
    of_their_own: bool,
) -> None:
    by_both = a_sight(level, read_types=read_types, own_level=own_level, own_read_types=own_read_types)
    by_privilege = replace(by_both, level=own_level, read_types=own_read_types)
    counts = by_both if of_their_own else by_privilege

    may = counts.completes(read_type, active)
    try:
        by_both.need_completing(read_type, active, of_their_own=of_their_own)
    except Denied:
        assert not may
    else:
        assert may
