"""What users fetch, for as long as they may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from kernel.database import Database
from kernel.dicom import parse_uid
from kernel.errors import Exhausted, NotFound, ReadroomError, Unavailable
from kernel.ids import CaseId
from services.ingest.domain import (
    EVERYTHING,
    ConfirmedStudy,
    Filed,
    Named,
    Seen,
    StoredInstance,
    still_served,
)

if TYPE_CHECKING:
    from services.ingest.store import IngestTransaction

CHECK_AGAIN_S = 2.0
"""An open stream asks access again this long after it asked last."""
RETRY_S = 0.5
"""And this long after access did not answer."""
ANSWER_S = 1.5
"""For access to answer."""
CUT_AFTER_S = 4.0
"""A stream of which access has said nothing for so long is cut; with RETRY_S that is within 5 s (A69)."""


class Access(Protocol):
    """The service access."""

    async def images(self, case_id: CaseId) -> Sequence[ConfirmedStudy] | None:
        """The studies of the case whose images the acting user may fetch; None if they may not, or see no
        such case."""
        ...

    async def related_with(self, case_id: CaseId, study_instance_uid: str) -> Sequence[CaseId]:
        """The other cases of its patient that have this study and that the acting user sees; none if they do
        not see the case."""
        ...

    async def still_images(
        self, login: str, session: str, case_id: CaseId, seconds: float
    ) -> Sequence[ConfirmedStudy]:
        """The same for a user whose stream is open, asked by ingest itself: their token is too old by now."""
        ...


class Bytes(Protocol):
    """The bytes of instances, wherever they are."""

    def read(self, stored: StoredInstance) -> AsyncGenerator[bytes, None]: ...


@dataclass(frozen=True, slots=True)
class Viewer:
    """The acting user, and the login session that their token named."""

    login: str
    session: str


def _unchecked() -> Unavailable:
    return Unavailable("we cannot check just now whether you may still see this case: try again later")


def no_images() -> NotFound:
    """No case, no sight and no images answer alike (A4)."""
    return NotFound(
        "there are no such images, or you may not see them: you need to see the case, and the permission "
        "`study.view_images` at its facility"
    )


class Images:
    """What users fetch: only what access's Decision names, and each fetch leaves an audit row.

    Args:
        told: hears of each stream that is cut, and why.
    """

    def __init__(
        self,
        database: Database[IngestTransaction],
        access: Access,
        reading: Bytes,
        told: Callable[[CaseId, ReadroomError], None],
    ) -> None:
        self._told = told
        self._database = database
        self._access = access
        self._bytes = reading

    @asynccontextmanager
    async def stream_instance(
        self, viewer: Viewer, case_id: CaseId, sop_instance_uid: str
    ) -> AsyncIterator[StoredInstance]:
        """One of the case's instances, for as long as the viewer may fetch it; see `stream_study`."""
        uid = parse_uid(sop_instance_uid, "sop_instance_uid")
        async with self._stream(viewer, case_id, Named(sop_instance_uid=uid)) as (seen,):
            yield seen.stored

    def view_case(
        self, viewer: Viewer, case_id: CaseId, named: Named, *, by_series: bool = False
    ) -> AbstractAsyncContextManager[Sequence[Seen]]:
        """What a viewer asks for of the case, or one instance of each series of it; see `stream_study`.

        A study that is named may be of another case of the patient: then that one is checked and shown.

        A viewer asks hundreds of times: the audit has one row for user, login session, case and hour.
        """
        return self._stream(viewer, case_id, named, each_hour=True, by_series=by_series)

    @asynccontextmanager
    async def stream_study(self, viewer: Viewer, case_id: CaseId) -> AsyncIterator[Sequence[StoredInstance]]:
        """The case's instances, for as long as the viewer may fetch them (A69).

        While the body runs access is asked again and again, by a timer of its own: a reader who is slow, or
        reads nothing, changes nothing about it. When access says no, or says nothing for too long, the body
        is cancelled wherever it waits, and NotFound or Unavailable is raised in its place.
        """
        async with self._stream(viewer, case_id, EVERYTHING) as seen:
            yield [each.stored for each in seen]

    @asynccontextmanager
    async def _stream(
        self,
        viewer: Viewer,
        case_id: CaseId,
        named: Named,
        *,
        each_hour: bool = False,
        by_series: bool = False,
    ) -> AsyncIterator[Sequence[Seen]]:
        asked_at, found = await self._found(viewer, case_id, named, each_hour=each_hour, by_series=by_series)
        if not found and named.study_instance_uid:
            for related in await self._access.related_with(case_id, named.study_instance_uid):
                asked_at, found = await self._found(
                    viewer, related, named, each_hour=each_hour, by_series=by_series
                )
                if found:
                    case_id = related
                    break
        if not found:
            await self._database.refuse(viewer.login, "case.images_fetched", f"case:{case_id}", instances=0)
            raise no_images()
        serving = asyncio.current_task()
        assert serving is not None
        cut: list[ReadroomError] = []

        async def watch() -> None:
            try:
                why = await self._end_of_sight(viewer, case_id, {each.filed for each in found}, asked_at)
            except Exception as error:  # a fault of ours: whoever does not know serves nothing
                why = _unchecked()
                why.__cause__ = error
            cut.append(why)
            serving.cancel()

        watching = asyncio.create_task(watch())
        try:
            yield found
        except (asyncio.CancelledError, GeneratorExit):
            if not cut:
                raise
            serving.uncancel()
            self._told(case_id, cut[0])
            raise cut[0] from cut[0].__cause__
        finally:
            watching.cancel()

    async def _found(
        self,
        viewer: Viewer,
        case_id: CaseId,
        named: Named,
        *,
        each_hour: bool,
        by_series: bool,
    ) -> tuple[float, Sequence[Seen]]:
        """What of the case may be shown, and since when that is known."""
        asked_at = asyncio.get_running_loop().time()
        studies = await self._access.images(case_id)
        if not studies:
            return asked_at, ()
        actor = viewer.login
        async with self._database.transaction() as transaction:
            ask = transaction.series if by_series else transaction.instances
            found = await ask(studies, named)
            if found and not (each_hour and await transaction.viewed(actor, viewer.session, case_id)):
                await transaction.record(
                    actor,
                    "case.images_viewed" if each_hour else "case.images_fetched",
                    f"case:{case_id}",
                    "done",
                    instances=sum(each.members for each in found),
                )
        return asked_at, found

    async def _end_of_sight(
        self,
        viewer: Viewer,
        case_id: CaseId,
        served: Collection[Filed],
        asked_at: float,
    ) -> ReadroomError:
        """Wait until what is served may be served no longer, and answer why."""
        loop = asyncio.get_running_loop()
        allowed_at, pause_s = asked_at, CHECK_AGAIN_S
        while True:
            await asyncio.sleep(max(0.0, asked_at + pause_s - loop.time()))
            asked_at = loop.time()
            if asked_at >= allowed_at + CUT_AFTER_S:
                return _unchecked()
            try:
                now = await self._access.still_images(viewer.login, viewer.session, case_id, ANSWER_S)
            except (Unavailable, Exhausted):
                asked_at, pause_s = loop.time(), RETRY_S
                continue
            except ReadroomError:
                return no_images()
            if not still_served(served, now):
                return no_images()
            allowed_at, pause_s = asked_at, CHECK_AGAIN_S

    async def read(self, stored: StoredInstance) -> AsyncIterator[bytes]:
        """The Part 10 file in chunks.

        Raises NotFound if the study was purged meanwhile, Unavailable if bytes are missing or wrong.
        """
        try:
            async with aclosing(self._bytes.read(stored)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except NotFound:
            raise no_images() from None
