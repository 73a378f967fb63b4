"""`python -m demo [--data DIR] [--keep]`: plays the story and ends with 0 only if every step was verified."""

import asyncio
import sys
import tempfile
import time
import warnings
from contextlib import AsyncExitStack
from pathlib import Path

import click
from rich.console import Console

from demo.cast import ADMIN
from demo.deletion import delete
from demo.filters import filter_cases
from demo.held import hold_and_release
from demo.modality import Refused
from demo.queue import empty_the_queue
from demo.reading import a_privilege_ends, read
from demo.sending import send_everything
from demo.setting import set_the_scene
from demo.sharing import share
from demo.sight import UNKNOWN_UID, see
from demo.stage import Stage, Unproven
from demo.world import World
from kernel.errors import ReadroomError
from local.system import LocalSystem
from plumbing.components import SERVICES


async def play(stage: Stage, system: LocalSystem) -> None:
    """The steps."""
    async with AsyncExitStack() as resources:
        world = World(stage, system, resources)
        stage.step(1, "A hub, an endpoint, a standard facility; gateways; people")
        await set_the_scene(world)
        stage.step(2, "A modality sends; strangers are refused")
        sent, arrival = await send_everything(world)
        stage.step(3, "Who sees what, and what they fetch")
        await see(world, sent, arrival)
        stage.step(4, "Two patients come as one study")
        await hold_and_release(world)
        stage.step(5, "What waits for a person, and how the queue is emptied")
        await empty_the_queue(world)
        stage.step(6, "Who writes, and what each side obtains of it; a privilege ends")
        await read(world, arrival.case.study_instance_uid)
        await a_privilege_ends(world, UNKNOWN_UID)
        stage.step(7, "The study is shared with two physicians outside")
        await share(world, arrival.case)
        stage.step(8, "Filters: who sees which case, and why")
        await filter_cases(world)
        stage.step(9, "The study is deleted, and brought back")
        await delete(world, arrival.case)


@click.command()
@click.option("--keep", is_flag=True, help="Keep the data directory also when everything went well.")
def main(keep: bool) -> None:
    """Plays the journey of a study on real servers and real DICOM objects, verifying each step."""
    warnings.filterwarnings("ignore", module="pydicom")  # several objects of the wheel are odd on purpose
    stage = Stage(Console(highlight=False))
    data = Path(tempfile.mkdtemp(prefix="readroom-demo-"))
    system = LocalSystem(data, first_admin=ADMIN)
    failure = _played(stage, system)
    if failure is not None:
        stage.console.print(f"\n[red]✗ {stage.where}:[/red] ", end="")
        stage.console.print(failure, markup=False)
        stage.console.print(f"  the data directory with its logs stays: {data}", markup=False)
        sys.exit(1)
    if keep:
        stage.tell(f"the data directory stays: {data}")
    else:
        system.servers.remove()
    stage.console.print(
        f"\n[bold green]Every step is verified:[/bold green] {stage.checks} checks in {stage.seconds:.1f} s"
    )


def _played(stage: Stage, system: LocalSystem) -> str | None:
    """Plays the story and answers why it failed, if it did; the system has stopped then."""
    try:
        began = time.perf_counter()
        stage.tell(f"starting PostgreSQL, NATS, Valkey, {', '.join(SERVICES[:-1])} and {SERVICES[-1]} …")
        system.start()
        stage.tell(f"the system is ready after {time.perf_counter() - began:.1f} s on {system.data_dir}")
        asyncio.run(play(stage, system))
    except (Unproven, Refused, ReadroomError) as error:
        return str(error)
    except KeyboardInterrupt:
        return "interrupted"
    except Exception as error:
        stage.console.print_exception()
        return str(error) or type(error).__name__  # a TimeoutError says nothing, and failed all the same
    finally:
        system.stop()
    return None


if __name__ == "__main__":
    main()
