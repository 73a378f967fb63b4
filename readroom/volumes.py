"""Commands on volumes: the disks that hold the images."""

import click

from readroom.acting import acting, listing
from readroom.client import Readroom
from readroom.show import Column, Output, instant
from wire.ingest.v1.ingest_pb2 import ForgetVolumeRequest, ListVolumesRequest, Volume

VOLUME = (
    Column[Volume]("volume_id", lambda v: v.volume_id),
    Column[Volume]("made_at", lambda v: instant(v.made_at)),
    Column[Volume]("holder", lambda v: v.holder_address or None),
    Column[Volume]("writers", lambda v: v.writers),
    Column[Volume]("files_to_remove", lambda v: v.files_to_remove),
    Column[Volume]("forgotten_at", lambda v: instant(v.forgotten_at) if v.HasField("forgotten_at") else None),
)


@click.group()
def volume() -> None:
    """The disks that hold the images. Needs `operator`."""


@volume.command("list")
@listing
async def list_volumes(readroom: Readroom, out: Output) -> None:
    """List volumes, the oldest first.

    Nothing on a volume without HOLDER can be read or removed now: start a process of ingest on it.
    """
    out.items(VOLUME, (await readroom.ingest.ListVolumes(ListVolumesRequest())).volumes)


@volume.command()
@click.argument("volume_id")
@acting
async def forget(readroom: Readroom, out: Output, volume_id: str) -> None:
    """Give up a volume that is lost for good.

    Deletions wait for it no longer. The cases of its images stay; an image comes back when a gateway sends
    the same one again. A process that finds the volume later does not start on it.
    """
    answer = await readroom.ingest.ForgetVolume(ForgetVolumeRequest(volume_id=volume_id))
    out.item(VOLUME, answer.volume)


COMMANDS = (volume,)
