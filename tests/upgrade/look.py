"""Starts this checkout's version on a data directory, and looks whether everything is there.

`python -m tests.upgrade.look DATA`: `archive.unpack` has filled DATA, and another version may have run on it.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

import msgspec

from local.system import LocalSystem
from tests.upgrade.archive import Story
from tests.upgrade.story import look_again


def main(data: Path) -> None:
    story = msgspec.json.decode((data / "story.json").read_bytes(), type=Story)
    system = LocalSystem(data, durable=False)
    system.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(look_again(system, story, Path(folder)))
    finally:
        system.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
