"""Two gateways of one identity, side by side: what either acknowledged is stored, and nothing twice."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.gateway.system import Gateway, digest
from tests.gateway.test_kills import send_what_it_takes
from tests.gateway.test_with_ingest import a_gateway
from tests.ingest.builders import a_uid
from tests.ingest.objects import a_ct
from tests.ingest.system import HARBOUR, RIVERSIDE, DicomObject, Ingest
from tests.wait import eventually


@pytest.mark.proves(
    "GWY-22", part="two gateways of one identity get the same studies, and one is killed twice"
)
async def test_two_gateways_of_one_identity_lose_and_double_nothing(ingest: Ingest, tmp_path: Path) -> None:
    enrolled = await ingest.enrol("RIVERSIDE", RIVERSIDE, HARBOUR)
    studies = [a_uid() for _ in range(6)]
    # Each study comes to both, a part of it to one alone.
    both = [a_ct(study=study, pixels=os.urandom(20_000)) for study in studies for _ in range(4)]
    alone = {name: [a_ct(study=study) for study in studies] for name in ("one", "other")}
    acknowledged: set[str] = set()

    async def sent(gateway: Gateway, left: list[DicomObject]) -> None:
        await asyncio.to_thread(send_what_it_takes, gateway, left, acknowledged)

    async with (
        a_gateway(ingest, enrolled, tmp_path / "one") as one,
        a_gateway(ingest, enrolled, tmp_path / "other") as other,
    ):
        for killed in (True, True, False):
            sending = [
                asyncio.create_task(sent(one, [*both, *alone["one"]])),
                asyncio.create_task(sent(other, [*reversed(both), *alone["other"]])),
            ]
            if killed:
                before = len(acknowledged)
                await eventually(lambda: len(acknowledged) > before + 3 or sending[0].done(), within=30)  # noqa: B023
                one.kill()
                await asyncio.gather(*sending, return_exceptions=True)
                await asyncio.to_thread(one.start)
            else:
                await asyncio.gather(*sending)
        every = {each.sop_instance_uid: digest(each) for each in (*both, *alone["one"], *alone["other"])}
        assert acknowledged == set(every.values())

        async def all_stored() -> bool:
            return await ingest.stored() == every

        await eventually(all_stored, within=60)
        for gateway in (one, other):
            await eventually(lambda: set(gateway.states()) == {"done"}, within=60)  # noqa: B023
    assert await ingest.one("select count(*) from studies") == len(studies)
    assert await ingest.one("select count(*) from instances") == len(every)
    received = "select count(*) from outbox where subject = 'study.received.v1'"
    assert await ingest.one(received) == len(studies)
    assert await ingest.one("select count(*) from quarantined") == 0
