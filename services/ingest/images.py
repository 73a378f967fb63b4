"""What users fetch."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from kernel.dicom import parse_uid
from kernel.errors import NotFound, Unavailable
from kernel.ids import CaseId
from services.ingest.domain import StoredInstance
from services.ingest.usecases import Access, Database, Files


class Images:
    """What users fetch: only what access's Decision names, and each fetch leaves an audit row."""

    def __init__(self, database: Database, access: Access, files: Files) -> None:
        self._database = database
        self._access = access
        self._files = files

    async def of_case(
        self, actor: str, case_id: CaseId, sop_instance_uid: str | None = None
    ) -> Sequence[StoredInstance]:
        """The case's instances, or the one named. No case, no sight and no images answer alike (A4)."""
        uid = parse_uid(sop_instance_uid, "sop_instance_uid") if sop_instance_uid is not None else None
        found: Sequence[StoredInstance] = ()
        studies = await self._access.images(case_id)
        async with self._database.transaction() as transaction:
            if studies:
                found = await transaction.instances(studies, uid)
            await transaction.record(
                actor,
                "case.images_fetched",
                f"case:{case_id}",
                "done" if found else "refused",
                instances=len(found),
            )
        if not found:
            raise NotFound("there are no such images")
        return found

    async def read(self, stored: StoredInstance) -> AsyncIterator[bytes]:
        """The Part 10 file in chunks; the next is read while the last is on its way.

        Raises NotFound if the study was purged meanwhile, Unavailable if bytes are missing or wrong.
        """
        chunks = self._files.read(stored)
        ahead = asyncio.ensure_future(asyncio.to_thread(next, chunks, None))
        try:
            while (chunk := await ahead) is not None:
                ahead = asyncio.ensure_future(asyncio.to_thread(next, chunks, None))
                yield chunk
        except NotFound:
            async with self._database.statements() as statements:
                if not await statements.pack_is_kept(stored.place.pack_id):
                    raise NotFound("there are no such images") from None
            self._files.missing(stored.place.pack_id)
            raise Unavailable("the instance cannot be read") from None
        finally:
            await asyncio.gather(ahead, return_exceptions=True)
