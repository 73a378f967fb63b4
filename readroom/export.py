"""Saves a list as a file, which has its name only once it is whole."""

import os
from collections.abc import AsyncIterable
from pathlib import Path

from readroom.errors import Incomplete
from wire.access.v1.access_pb2 import ExportCasesResponse


async def save(parts: AsyncIterable[ExportCasesResponse], path: Path) -> int:
    """Writes the parts of a file; answers how many cases are in it. Nobody else may read the file.

    Raises Incomplete if the last part is missing; then nothing is left, and a file of before stays.
    """
    draft = path.with_name(f".{path.name}.part")
    draft.unlink(missing_ok=True)
    count: int | None = None
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            async for part in parts:
                file.write(part.csv)
                if part.HasField("case_count"):
                    count = part.case_count
        if count is None:
            raise Incomplete("the list ended early: nothing was saved")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return count
