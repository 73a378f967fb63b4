"""A study is deleted in the browser: by typing what is meant, and counting only what the person may see."""

import re
from pathlib import Path

import pytest

from demo.cast import MOOR, OKAFOR, OUTSIDE, VOS
from demo.reading import PRE_READ, completes, locks
from demo.sharing import wanted
from demo.world import World
from tests.e2e.test_journey import small
from tests.e2e.test_reading import arrived
from tests.e2e.test_web import signed_in
from tests.wait import eventually
from wire.reporting.v1.reporting_pb2 import UnlockRequest


@pytest.mark.proves("ING-6", part="the dialog")
@pytest.mark.proves("GWY-16", part="shown in the browser")
async def test_a_study_is_deleted_by_who_types_what_they_mean(
    world: World, readers: None, outside: None, tmp_path: Path
) -> None:
    case = await arrived(world, small("deleted-in-the-web", "MS44"), tmp_path)
    path = f"/cases/{case.case_id}/delete"
    readroom = await world.acting_as(VOS.login)
    await readroom.sharing.Share(wanted(case))
    async with signed_in(world, MOOR.login) as page, signed_in(world, OKAFOR.login) as other:
        assert "Delete this study" not in (await other.get(f"/cases/{case.case_id}")).words
        assert (await other.get(path)).status == 403
        assert (await other.post(path, typed=case.patient_id)).status == 403

        assert "Delete this study" in (await page.get(f"/cases/{case.case_id}")).words
        asked = await page.get(path)
        assert f"{case.instance_count} image" in asked.words
        assert "And whatever else belongs to the case, also what you may not see." in asked.words
        assert f"its AE title is {case.calling_ae_title}" in asked.words
        for person in OUTSIDE:
            assert f"The share of {VOS.login} with {person.login}, active" in asked.words.replace(" ,", ",")
        for typed in ("", "delete", f"{case.patient_id}x"):
            wrong = await page.post(path, typed=typed)
            assert (wrong.status, "nothing is deleted" in wrong.words) == (422, True)

        await locks(VOS)(world, case.case_id)

        async def known() -> bool:
            seen = await world.case(MOOR.login, case.study_instance_uid)
            return bool(seen and seen.lock_holder_name)

        await eventually(known)
        locked = await page.post(path, typed=case.patient_id)
        assert (locked.status, "locked" in locked.words) == (409, True)
        await readroom.reporting.Unlock(UnlockRequest(case_id=case.case_id))

        async def unlocked() -> bool:
            return not await known()

        await eventually(unlocked)
        done = await page.post(path, typed=f" {case.patient_id} ")
        assert (done.status, "The study is deleted" in done.words) == (200, True)
        assert case.calling_ae_title in done.words
        assert (await page.get(path)).status == 404
        listed = await page.get("/deletions")
        assert (case.case_id in listed.text, "deleted: nobody sees it" in listed.words) == (True, True)
        assert case.case_id not in (await other.get("/deletions")).text


@pytest.mark.proves("BEY-11", part="the dialog of a deletion")
async def test_the_dialog_of_the_facility_side_does_not_depend_on_a_pre_read(
    world: World, readers: None, outside: None, tmp_path: Path
) -> None:
    case = await arrived(world, small("dialog-pre-read", "MS44"), tmp_path)
    path = f"/cases/{case.case_id}/delete"
    async with signed_in(world, MOOR.login) as page:

        async def shown() -> str:
            return re.sub(r'name="token" value="\w+"', "", (await page.get(path)).text)

        before = await shown()
        await locks(VOS)(world, case.case_id)
        await completes(VOS, PRE_READ, "nodule")(world, case.case_id)

        async def as_before() -> bool:
            return before == await shown()

        await eventually(as_before)
