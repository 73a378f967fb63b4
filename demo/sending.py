"""Step 2: a modality sends objects of many kinds to the gateways; whoever may not send is refused."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from demo import strangers
from demo.cast import ADMIN, CENTRAL, CT, MODALITY, NORTHGATE, VOS, Site
from demo.dicom_files import CATALOGUE, CONFLICTING, JPEG_LS, dataset_of, written_as
from demo.modality import Modality, modality, witness
from demo.world import Arrival, World
from plumbing.tls import TLSFiles
from readroom.pages import every, first
from wire.ingest.v1.ingest_pb2 import ListRefusalsRequest, Refusal

ARRIVES_WITHIN_S = 30


@dataclass(frozen=True, slots=True)
class Batch:
    """What a modality sends to the gateway of one site."""

    title: str
    site: Site
    paths: Sequence[Path]


@dataclass(frozen=True, slots=True)
class Sent:
    """When a modality began to send, and when it had its last answer, by `time.perf_counter`."""

    began_at: float
    ended_at: float


async def send_everything(world: World) -> tuple[Sent, Arrival]:
    """The second step; answers when the CT was sent, and when it came onto its radiologist's worklist."""
    sender = modality(MODALITY)
    world.stage.tell(f"the modality is {sender.software} and speaks TLS")
    batches = await asyncio.to_thread(prepare, world.folder / "modality")
    watched = asyncio.create_task(Arrival.watch(world, VOS.login, CT.study_instance_uid, CT.slices))
    ct_sent, *_ = [await send(world, sender, batch) for batch in batches]
    world.stage.tell("; ".join(sample.kind for sample in CATALOGUE))
    async with asyncio.timeout(ARRIVES_WITHIN_S):
        arrival = await watched  # before the witness takes the machine's time
    for batch in batches:
        await asyncio.to_thread(write_down, world, sender, batch)
    await refuse_strangers(world)
    await refuse_a_conflict(world, sender)
    return ct_sent, arrival


def prepare(folder: Path) -> list[Batch]:
    """Puts the objects on the modality's disk."""
    unknown = written_as(JPEG_LS.path, folder / "unknown.dcm", PatientName="Castell^Marta")
    return [
        Batch(f"{CT.slices} slices of a CT with Institution Name `MS44`", CENTRAL, CT.write(folder / "ct")),
        Batch("an MR (JPEG-LS) with an institution that no rule knows", CENTRAL, [unknown]),
        Batch(f"{len(CATALOGUE)} real objects of as many kinds", NORTHGATE, [s.path for s in CATALOGUE]),
    ]


async def send(world: World, sender: Modality, batch: Batch) -> Sent:
    """Sends to a gateway, which answers each object as soon as it keeps it."""
    answered: list[float] = []
    began_at = time.perf_counter()
    columns = (TextColumn("   {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = world.stage.console
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"to {batch.site.name}", total=len(batch.paths))
        called = world.gateways[batch.site.name].called

        def sent() -> None:
            answered.append(time.perf_counter())
            progress.advance(task)

        await asyncio.to_thread(sender.send, batch.paths, called, sent)
    ended_at = time.perf_counter()
    megabytes = sum(path.stat().st_size for path in batch.paths) / 1e6
    world.stage.check(
        len(answered) == len(batch.paths),
        f"gateway `{batch.site.name}` keeps {batch.title} ({megabytes:.1f} MB)",
        ended_at - began_at,
    )
    world.on_disk[batch.site.name] += batch.paths
    return Sent(began_at, ended_at)


def write_down(world: World, sender: Modality, batch: Batch) -> None:
    """Has the modality send the same to a witness, so that we know what it put on the wire."""
    with witness(world.sent(batch.site.name)) as called:
        sender.send(batch.paths, called, lambda: None)


async def refuse_strangers(world: World) -> None:
    """Three who must not get in, each tried on the listener in the cloud, and what is listed of them."""
    address = world.endpoints.dicom
    central = world.gateways[CENTRAL.name].identity
    unknown = strangers.strangers_identity(world.folder / "stranger", world.endpoints.gateway_ca)

    alert = await asyncio.to_thread(strangers.tls_alert, address, unknown)
    world.stage.check(alert, f"a stranger's certificate is refused by TLS: {alert}")

    await expect_rejection(
        world, address, central, NORTHGATE.ae_title, "1,1,3", "a foreign AE title is rejected"
    )
    await expect_rejection(
        world, address, None, CENTRAL.ae_title, "connection closed", "a plain-text sender gets nowhere"
    )
    called = world.gateways[NORTHGATE.name].called
    gateway = f"{called.host}:{called.port}"
    await expect_rejection(
        world,
        gateway,
        None,
        MODALITY,
        "connection closed",
        "nor does it at a gateway, whose modalities speak TLS",
    )
    await list_refusals(world)


async def expect_rejection(
    world: World, address: str, identity: TLSFiles | None, ae_title: str, expected: str, sentence: str
) -> None:
    answer = await asyncio.to_thread(strangers.rejection, address, identity, ae_title)
    world.stage.check(answer == expected, f"{sentence} ({answer})")


async def list_refusals(world: World) -> None:
    async def all_three() -> list[Refusal] | None:
        found = await refusals(world)
        handshakes = [r for r in found if r.kind == Refusal.KIND_HANDSHAKE]
        foreign = [r for r in found if r.kind == Refusal.KIND_ASSOCIATION]
        return found if len(handshakes) >= 2 and foreign else None

    for refusal in await world.stage.until(all_three, "all three are listed for the administrator"):
        world.stage.tell(" ".join(filter(None, (refusal.calling_ae_title, refusal.reason))))


async def refuse_a_conflict(world: World, sender: Modality) -> None:
    """Another object under a UID that was received: the gateway is told, and what is served stays."""
    uid = dataset_of(CONFLICTING.path).SOPInstanceUID
    called = world.gateways[NORTHGATE.name].called
    await asyncio.to_thread(sender.send, [CONFLICTING.path], called, lambda: None)

    async def listed() -> Refusal | None:
        return next((r for r in await refusals(world) if r.sop_instance_uid == uid), None)

    refusal = await world.stage.until(listed, "other bytes under a UID that was received are refused")
    world.stage.check(refusal.status >= 0xA000, f"status {refusal.status:04X}: {refusal.reason}")


async def refusals(world: World) -> list[Refusal]:
    readroom = await world.acting_as(ADMIN)
    pages = every(readroom.ingest.ListRefusals, ListRefusalsRequest(), lambda page: page.refusals)
    return await first(pages, 50)
