"""SIGKILL of any process in the middle of an upload: nothing is lost, nothing is doubled (R3).

The modality keeps a ledger of what the gateway acknowledged and sends the rest again, as a modality does.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from demo import comparing
from demo.cast import VOS
from demo.dicom_files import SyntheticCT
from demo.world import World
from kernel.errors import Unavailable
from readroom.fetch import fetch_case
from tests.e2e.kills import Ledger, alone, dice, kill, order, query
from tests.e2e.silent import Silent
from tests.wait import eventually
from wire.access.v1.access_pb2 import Case

VICTIMS = ("ingest", "worker", "routing", "access", "gateway", "nats", "postgres")
TIMES = int(os.environ.get("READROOM_KILLS", "10"))
"""How often each is killed while a drill's instances flow; more of them flow while more is killed."""
WITHIN_S = 60.0


@pytest.fixture
async def fragile(tmp_path: Path) -> AsyncIterator[World]:
    async with alone(tmp_path) as world:
        yield world


async def complete(world: World, study: SyntheticCT) -> Case:
    """The case on the radiologist's worklist with every slice."""

    async def all_slices() -> Case | None:
        try:
            case = await world.case(VOS.login, study.study_instance_uid)
        except Unavailable:  # access has just come back
            return None
        return case if case and case.instance_count == study.slices else None

    case = await eventually(all_slices, within=WITHIN_S)
    assert case
    return case


async def rows(world: World, service: str, statement: str) -> int:
    """The number that a statement answers on a service's database."""
    ((number,),) = await query(world, service, statement)
    return int(number)


async def verify(world: World, study: SyntheticCT, sent: list[Path], folder: Path) -> None:
    """Every slice is served once and as it was sent; one study, one case, one `study.received`."""
    case = await complete(world, study)
    fetched = await fetch_case(await world.acting_as(VOS.login), case.case_id, folder, Silent())
    originals, copies = comparing.by_uid(sent), comparing.by_uid(fetched)
    assert (study.slices, originals.keys()) == (len(fetched), copies.keys())
    assert all(comparing.same_bytes(originals[uid], copies[uid]) for uid in originals)
    mine = [c for c in await world.worklist(VOS.login) if c.study_instance_uid == study.study_instance_uid]
    assert [case.case_id] == [c.case_id for c in mine]


async def verify_counts(world: World, studies: int, instances: int) -> None:
    """The ledger of the whole run: as many of everything as were sent."""
    received = "select count(*) from outbox where subject = 'study.received.v1'"
    assert studies == await rows(world, "ingest", "select count(*) from studies")
    assert studies == await rows(world, "ingest", received)
    assert instances == await rows(world, "ingest", "select count(*) from instances")
    assert studies == await rows(world, "routing", "select count(*) from placements")
    assert studies == await rows(world, "access", "select count(*) from cases")


def slices(name: str, number: int) -> SyntheticCT:
    return SyntheticCT(slices=number, size=128, name=name, institution_name="MS44")


@pytest.mark.drill
@pytest.mark.proves("R3", part="one SIGKILL of each process in the middle of an upload")
@pytest.mark.proves("GWY-22")
async def test_a_kill_in_the_middle_of_an_upload_loses_and_doubles_nothing(
    fragile: World, tmp_path: Path
) -> None:
    world = fragile
    for number, victim in enumerate(VICTIMS, start=1):
        study = slices(f"kill-{victim}", 60)
        sent = await asyncio.to_thread(study.write, tmp_path / victim)
        ledger = Ledger(sent)
        sending = asyncio.create_task(asyncio.to_thread(ledger.send, world))
        await eventually(lambda ledger=ledger: ledger.acknowledged >= 15, within=WITHIN_S)  # type: ignore[misc]
        await asyncio.to_thread(kill, world, victim)
        await asyncio.wait_for(sending, WITHIN_S)

        await verify(world, study, sent, tmp_path / f"{victim}-fetched")
        await verify_counts(world, number, 60 * number)


@pytest.mark.drill
@pytest.mark.proves("R3", part=f"{7 * TIMES} SIGKILLs in random order while {200 * TIMES:,} instances flow")
async def test_kills_in_random_order_lose_and_double_nothing(fragile: World, tmp_path: Path) -> None:
    world = fragile
    studies = [slices(f"drill-{number}", 200) for number in range(TIMES)]
    sent = {study.name: await asyncio.to_thread(study.write, tmp_path / study.name) for study in studies}

    async def send_all() -> None:
        for study in studies:
            await asyncio.to_thread(Ledger(sent[study.name], 60 * TIMES).send, world)

    sending = asyncio.create_task(send_all())
    for victim in order(VICTIMS, TIMES, dice()):
        await asyncio.to_thread(kill, world, victim)
    await asyncio.wait_for(sending, 60 * TIMES)

    for study in studies:
        await verify(world, study, sent[study.name], tmp_path / f"{study.name}-fetched")
    await verify_counts(world, len(studies), 200 * len(studies))
