"""Makes the data of a version: `python -m tests.upgrade.make`, in its checkout; README.md says when."""

import asyncio
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from demo.cast import ADMIN
from local.system import LocalSystem
from tests.upgrade import archive, story

ARCHIVE = Path(__file__).parent / "landed.zip"


async def _play(system: LocalSystem) -> archive.Story:
    async with AsyncExitStack() as resources:
        world = story.a_world(system, resources)
        await story.play(world)
        return story.told(world)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="readroom-upgrade-") as folder:
        data = Path(folder) / "data"
        system = LocalSystem(data, first_admin=ADMIN, durable=False)
        system.start()
        try:
            told = asyncio.run(_play(system))
            archive.dump(system.servers)
        finally:
            system.stop()
        archive.pack(data, told, ARCHIVE)
    sys.stdout.write(f"{ARCHIVE}: {ARCHIVE.stat().st_size // 1024} kB, made by {told.version}\n")


if __name__ == "__main__":
    main()
