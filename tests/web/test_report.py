"""The page on which a report is written: without a script, on an access and a reporting that run."""

import re
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from local.embedded import EmbeddedServers
from local.pki import Pki
from tests.databases import Databases
from tests.reporting.system import give
from tests.web.browser import SAME_ORIGIN
from tests.web.reading import Reading, reading, version_of
from web.flow import Flow
from wire.access.v1 import access_pb2

FINAL = str(access_pb2.READ_TYPE_FINAL)
PRELIMINARY = str(access_pb2.READ_TYPE_PRELIMINARY)


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hospital(
    servers: EmbeddedServers,
    clones: Databases,
    pki: Pki,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Reading]:
    async with reading(servers, clones.make, pki, tmp_path_factory.mktemp("web")) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def ward(hospital: Reading) -> Reading:
    """The same, with a case that nobody has read."""
    hospital.browsers.clear()
    await hospital.another_case()
    return hospital


def textarea(text: str) -> str:
    """What stands in the field for the text."""
    found = re.search(r'<textarea id="text"[^>]*>\n(.*?)</textarea>', text, re.DOTALL)
    return found[1] if found else ""


@pytest.mark.proves("REP-18", part="the page")
@pytest.mark.proves("A37", part="the page")
async def test_a_case_is_locked_drafted_and_completed_without_a_script(ward: Reading) -> None:
    vos, lind, okafor = await ward.at("vos"), await ward.at("lind"), await ward.at("okafor")
    opened = await vos.get(ward.path)
    assert (opened.status, "Lock and write" in opened.words) == (200, True)
    begins = f'action="{ward.path}/lock"'
    case = await vos.get(f"/cases/{ward.case_id}")
    assert (begins in case.text, "Write a report" in case.words) == (True, True)

    begun = await vos.post(f"{ward.path}/lock", SAME_ORIGIN)
    assert (begun.status, begun.headers["Location"]) == (303, ward.path)
    assert begins not in (await vos.get(f"/cases/{ward.case_id}")).text
    assert begins not in (await lind.get(f"/cases/{ward.case_id}")).text
    locked = await vos.get(ward.path)
    assert "You hold the lock since" in locked.words
    assert "Dr Vos holds the lock since" in (await lind.get(ward.path)).words
    assert "Lock and write" not in (await lind.get(ward.path)).words

    saved = await ward.act("vos", "draft", text="6 mm <nodule> & more\r\n\r\nsecond line")
    assert (saved.status, saved.headers["Location"]) == (303, f"{ward.path}?said=saved")
    again = await vos.get(f"{ward.path}?said=saved")
    assert textarea(again.text) == "6 mm &lt;nodule&gt; &amp; more\n\nsecond line"
    assert "Your draft is saved." in again.words
    assert "6 mm <nodule>" in (await lind.get(ward.path)).words, "a colleague sees the draft (A5)"
    assert "6 mm" not in (await okafor.get(f"/cases/{ward.case_id}")).words

    signed = await ward.act("vos", "complete", text="6 mm nodule.", read_type=FINAL)
    assert signed.headers["Location"] == f"{ward.path}?said=completed"
    shown = await vos.get(f"{ward.path}?said=completed")
    assert ("The report is signed." in shown.words, "6 mm nodule." in shown.words) == (True, True)
    assert "Reopen the case" in shown.words
    assert "6 mm nodule." in (await okafor.get(f"/cases/{ward.case_id}")).words


async def test_a_report_is_added_to_and_the_case_reopened(ward: Reading) -> None:
    await ward.act("vos", "lock")
    await ward.act("vos", "complete", text="6 mm nodule.", read_type=FINAL)
    [report] = (await ward.reports("vos")).reports

    refused = await ward.act("vos", "addendum", text=" ", report_id=report.report_id)
    added = await ward.act("vos", "addendum", text="Left lung.", report_id=report.report_id)
    reopened = await ward.act("vos", "reopen")

    assert (refused.status, added.status, reopened.status) == (422, 303, 303)
    page = await (await ward.at("vos")).get(ward.path)
    assert ("Left lung." in page.words, "Reopen the case" in page.words) == (True, False)
    assert "Lock and write" in page.words


@pytest.mark.proves("A37", part="taken over, seen from both sides")
async def test_who_writes_in_two_sessions_is_told_and_takes_over(ward: Reading) -> None:
    await ward.act("vos", "lock")
    await ward.act("vos", "draft", text="first desk")
    there = await ward.at("vos", "another")

    told = await there.get(ward.path)
    assert "You hold the lock in another session of yours" in told.words
    assert "Take over and write here" in told.words
    refused = await ward.act("vos", "draft", "another", text="second desk")
    assert (refused.status, textarea(refused.text)) == (409, "second desk")

    assert (await ward.act("vos", "take-over", "another")).status == 303
    assert "You hold the lock since" in (await there.get(ward.path)).words
    first = await ward.act("vos", "draft", text="first desk, more")
    assert first.status == 409
    assert "in another session of yours: take it over to go on here" in first.words
    assert textarea(first.text) == "first desk, more"
    assert ["first desk"] == [each.text for each in (await ward.reports("lind")).drafts]


async def test_two_windows_never_overwrite_each_other_and_the_second_is_shown_both(ward: Reading) -> None:
    await ward.act("vos", "lock")
    await ward.act("vos", "draft", text="one", made_from="0")

    second = await ward.act("vos", "draft", text="two", made_from="0")
    assert (second.status, textarea(second.text)) == (409, "two")
    assert "saved by another page or session since" in second.words
    assert " one " in second.words
    assert ["one"] == [each.text for each in (await ward.reports("lind")).drafts]

    decided = await ward.act("vos", "draft", text="two", made_from=version_of(second))
    assert decided.status == 303
    assert ["two"] == [each.text for each in (await ward.reports("lind")).drafts]


async def test_a_refused_completion_says_why_and_keeps_what_was_written(ward: Reading) -> None:
    await ward.act("vos", "lock")

    missing = await ward.act("vos", "complete", text="nodule")
    inactive = await ward.act("vos", "complete", text="nodule", read_type=PRELIMINARY)
    foreign = await ward.act("vos", "complete", text="nodule", read_type="99")

    assert [each.status for each in (missing, inactive, foreign)] == [422, 403, 422]
    assert [textarea(each.text) for each in (missing, inactive, foreign)] == ["nodule"] * 3
    assert "your text was kept as a draft; you still hold the lock" in inactive.words
    assert "Choose what kind of report it is" in missing.words


@pytest.mark.proves("BEY-15", part="the page")
async def test_what_is_written_when_a_privilege_lapses_comes_back_and_renewal_restores_it(
    ward: Reading,
) -> None:
    access, vos = ward.system.access, ward.users["vos"]
    await ward.act("vos", "lock")
    await ward.act("vos", "draft", text="nodule")
    await give(access, vos, ward.facility_id, access_pb2.LEVEL_VIEW)

    lapsed = await ward.act("vos", "draft", text="nodule, 4 mm")
    assert (lapsed.status, textarea(lapsed.text)) == (409, "nodule, 4 mm")
    assert "your text was kept, for you alone to see; your lock has ended" in lapsed.words
    page = await (await ward.at("vos")).get(ward.path)
    assert ("Lock and write" in page.words, "You may read here and not write." in page.words) == (False, True)
    assert "nodule, 4 mm" in page.words

    await give(access, vos, ward.facility_id, access_pb2.LEVEL_REPORT, [access_pb2.READ_TYPE_FINAL])
    restored = await (await ward.at("vos")).get(ward.path)
    assert ("Lock and write" in restored.words, "nodule, 4 mm" in restored.words) == (True, True)
    await ward.act("vos", "lock")
    kept = next(each for each in (await ward.reports("vos")).drafts if each.author_only)
    chosen = await (await ward.at("vos")).get(f"{ward.path}?use={kept.version}")
    assert textarea(chosen.text) == "nodule, 4 mm"
    assert (await ward.act("vos", "complete", text="nodule, 4 mm", read_type=FINAL)).status == 303


async def test_who_can_never_complete_is_told_before_they_write(ward: Reading) -> None:
    moore = await ward.at("moore")
    assert "Your role writes drafts and completes no report" in (await moore.get(ward.path)).words
    await ward.act("moore", "lock")
    page = await moore.get(ward.path)
    assert ("Save draft" in page.words, "Complete" in page.words) == (True, False)
    okafor = await (await ward.at("okafor")).get(ward.path)
    assert ("You may read here and not write." in okafor.words, "<textarea" in okafor.text) == (True, False)


async def test_a_broken_lock_is_told_and_the_text_stays(ward: Reading) -> None:
    await ward.act("vos", "lock")
    assert "Break the lock" not in (await (await ward.at("lind")).get(ward.path)).words
    assert "Break the lock, and tell them" in (await (await ward.at("chief")).get(ward.path)).words

    assert (await ward.act("chief", "break")).headers["Location"].endswith("?said=broken")
    told = await ward.act("vos", "draft", text="nodule")

    assert (told.status, textarea(told.text)) == (409, "nodule")
    assert "your lock was broken by `Dr Chief`" in told.words
    relocked = await ward.act("vos", "lock", text="nodule")
    assert (relocked.status, textarea(relocked.text)) == (200, "nodule")


async def test_a_script_saves_and_renews_and_is_told_in_words(ward: Reading) -> None:
    await ward.act("vos", "lock")

    kept = await ward.act("vos", "keep", text="nodule", typed="yes", made_from="0")
    renewed = await ward.act("vos", "keep", renew="yes")
    stale = await ward.act("vos", "keep", text="other", typed="yes", made_from="0")
    foreign = await ward.act("lind", "keep", text="other", typed="yes", made_from="0")

    assert [each.status for each in (kept, renewed, stale, foreign)] == [200, 200, 409, 409]
    assert {"made_from", "saved"} == kept.json.keys()
    assert {"until"} == renewed.json.keys()
    assert "saved by another page or session since" in stale.json["problem"]
    assert ["nodule"] == [each.text for each in (await ward.reports("lind")).drafts if not each.author_only]


async def test_a_text_that_comes_after_its_session_was_locked_is_saved_and_nothing_is_shown(
    ward: Reading,
) -> None:
    await ward.act("vos", "lock")
    vos = await ward.at("vos")
    page = await vos.get(ward.path)
    await vos.post("/lock")

    late = await vos.post(f"{ward.path}/draft", text="nodule", made_from=version_of(page))

    assert (late.status, "nodule" in late.text) == (401, False)
    assert "What you had written was saved as your draft" in late.words
    assert ["nodule"] == [each.text for each in (await ward.reports("lind")).drafts]
    forged = await vos.post(f"{ward.path}/draft", text="forged", made_from="0", token="0" * 64)
    assert forged.status == 401
    assert ["nodule"] == [each.text for each in (await ward.reports("vos")).drafts]


async def test_a_text_that_comes_after_its_session_ended_is_given_back(ward: Reading) -> None:
    await ward.act("vos", "lock")
    vos = await ward.at("vos")
    await vos.post("/sign-out")

    late = await vos.post(f"{ward.path}/draft", text='nodule</textarea><script>alert("1")</script>')

    assert (late.status, "nodule" in late.words) == (401, True)
    assert "<script>alert" not in late.text
    ward.browsers.clear()
    again = await ward.at("vos")
    stale = await again.post(f"{ward.path}/draft", text="nodule", made_from="0", token="0" * 64)
    assert (stale.status, "Send it again" in stale.words) == (403, True)
    await ward.act("vos", "take-over")
    assert (await again.post(f"{ward.path}/draft", text="nodule", made_from="0")).status == 303


async def test_a_long_report_is_taken_and_a_longer_one_refused(ward: Reading) -> None:
    await ward.act("vos", "lock")
    assert (await ward.act("vos", "draft", text="é" * 200_000)).status == 303
    longer = await ward.act("vos", "draft", text="é" * 200_001)
    assert (longer.status, len(textarea(longer.text))) == (422, 200_001)
    assert (await ward.act("vos", "draft", text="x" * (4 << 20))).status == 413


async def test_a_version_that_is_none_is_that_of_no_draft(ward: Reading) -> None:
    await ward.act("vos", "lock")
    await ward.act("vos", "draft", text="nodule")
    for made_from in ("", "-1", "x", "9" * 40, "1e9", "٣"):
        assert (await ward.act("vos", "draft", text="other", made_from=made_from)).status == 409


# From case to case


async def test_a_case_leads_to_the_next_of_the_list_that_somebody_came_from(ward: Reading) -> None:
    vos = await ward.at("vos")
    alone = await vos.get(ward.path)
    assert "Next case" not in alone.words

    listed = await vos.get("/")
    cases = list(dict.fromkeys(re.findall(r'/cases/([0-9a-f-]{36})"', listed.text)))
    opened = await vos.get(f"/cases/{cases[0]}/report")
    assert f"1 of {len(cases)} in the list that you came from" in opened.words
    case = await vos.get(f"/cases/{cases[0]}")
    assert (case.status, f"1 of {len(cases)} in the list" in case.words) == (200, True)
    assert (await vos.get(f"/cases/{cases[0]}/next")).headers["Location"] == f"/cases/{cases[1]}/report"
    assert (await vos.get(f"/cases/{cases[-1]}/next")).headers["Location"] == "/"

    other = await (await ward.at("vos", "another")).get(f"/cases/{cases[0]}/report")
    assert "Next case" not in other.words, "another session came from no list"


async def test_images_are_offered_to_whoever_may_see_them(ward: Reading) -> None:
    for login, offered in (("vos", True), ("okafor", False)):
        page = await ward.at(login)
        for path in (ward.path, f"/cases/{ward.case_id}"):
            assert (f'href="/cases/{ward.case_id}/images"' in (await page.get(path)).text) is offered


async def test_a_case_that_is_not_seen_any_more_is_passed_over(ward: Reading) -> None:
    vos = await ward.at("vos")
    gone, sessions = uuid4(), ward.sessions
    session = await sessions.find(vos.secret)
    assert session
    await Flow(sessions._database, uuid4).came_by(session, [UUID(ward.case_id), gone])
    assert (await vos.get(f"/cases/{ward.case_id}/next")).headers["Location"] == "/"


@pytest.mark.proves("A31", part="who has a case open")
async def test_who_else_has_a_case_open_is_told_to_the_group_and_never_to_the_facility(ward: Reading) -> None:
    vos, lind, okafor = await ward.at("vos"), await ward.at("lind"), await ward.at("okafor")
    before = await okafor.get(f"/cases/{ward.case_id}")
    await vos.get(ward.path)
    await okafor.get(f"/cases/{ward.case_id}")

    assert "Also open for Dr Vos" in (await lind.get(ward.path)).words
    seen = await vos.get(f"/cases/{ward.case_id}")
    assert ("Also open for Dr Lind" in seen.words, "Okafor" in seen.words) == (True, False)
    assert (await ward.act("vos", "keep", here="yes")).json == {"here": "Dr Lind"}
    after = await okafor.get(f"/cases/{ward.case_id}")
    assert before.words == after.words
    assert (await ward.act("okafor", "keep", here="yes")).json == {"here": ""}

    await ward.act("lind", "keep", leave="yes")
    assert "Also open for" not in (await vos.get(ward.path)).words
    await vos.post("/lock")
    assert "Also open for" not in (await lind.get(ward.path)).words


async def test_a_script_learns_nothing_of_a_case_that_its_person_does_not_see(ward: Reading) -> None:
    vos = await ward.at("vos")
    await vos.get(ward.path)
    for case_id in (uuid4(), "x"):
        told = await vos.post(f"/cases/{case_id}/report/keep", here="yes")
        assert told.status == 404


async def test_who_may_assign_takes_a_case_gives_it_back_and_says_how_soon(ward: Reading) -> None:
    vos, lind, path = await ward.at("vos"), await ward.at("lind"), f"/cases/{ward.case_id}"
    assert "Assign to me" not in (await vos.get(path)).words
    user = access_pb2.User()
    user.CopyFrom(ward.users["vos"])
    user.permissions.add(permission="case.assign", facility_id=ward.facility_id)
    await ward.system.access.save_user(user, set_permissions=True)
    assert "Assign to nobody" not in (await vos.get(path)).words

    for act, soon in (("assign", ""), ("priority", "stat")):
        done = await vos.post(f"{path}/{act}", SAME_ORIGIN, priority=soon)
        assert (done.status, done.headers["Location"]) == (303, path)
    assigned = await vos.get(path)
    assert "<dt>Assigned to</dt><dd><bdi>vos</bdi></dd>" in assigned.text
    assert "<option selected>stat</option>" in assigned.text
    assert "Assign to nobody" in assigned.words

    assert (await vos.post(f"{path}/priority", SAME_ORIGIN, priority="<soon>")).status == 422
    for act, soon in (("assign", ""), ("unassign", ""), ("priority", "urgent")):
        assert (await lind.post(f"{path}/{act}", SAME_ORIGIN, priority=soon)).status == 403
    assert (await vos.post(f"{path}/unassign", SAME_ORIGIN)).status == 303
    assert "Assigned to" not in (await vos.get(path)).words
