"""DICOMweb to read: its paths, who may ask them, and whose images they are about (PS3.18 10).

Below `/cases/{case}` is one case, and what is related to it; `/studies` is every case of the user. Only the
web calls, with a user's token. Each request asks access anew what of the case this user may see, and an
answer that is on its way is cut when their sight ends (A69). What is foreign and what is absent answer alike
(A4).
"""

import asyncio
import re
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote
from uuid import UUID

from kernel.errors import Denied, NotFound, ReadroomError
from kernel.ids import CaseId
from plumbing import callers, log
from plumbing.callers import Caller
from plumbing.responses import Request, Response
from plumbing.tokens import Verifier
from services.ingest import matching, media, studylist
from services.ingest.allowance import Budget, Turns
from services.ingest.answering import ANSWERS, Answering, Asked, NotAcceptable, chosen, searched
from services.ingest.domain import Seen
from services.ingest.images import Images, Viewer, no_images
from services.ingest.served import Bytes, Loop, Reading
from services.ingest.studylist import ListedCase

CALLERS = frozenset({"bff"})
OPEN_S = 10.0
"""For access and the index to say what may be served."""
MAX_CHOICES = 20
"""Cases that are named where a study is in several."""

_log = log.get()
T = TypeVar("T")


class Lists(Protocol):
    """The lists of access; each raises Unavailable rather than answer less than there is."""

    async def listed(self, where: str, skip: int, limit: int) -> Sequence[ListedCase]:
        """The cases that the acting user sees of what a filter shows, the newest first, behind so many."""
        ...

    async def related(self, case_id: CaseId) -> Sequence[ListedCase]:
        """The other cases of its patient that they see; raises NotFound if they do not see the case."""
        ...


_UID = r"([0-9.]{1,64})"
_STUDY = rf"/studies/{_UID}"
_SERIES = rf"{_STUDY}/series/{_UID}"
_INSTANCE = rf"{_SERIES}/instances/{_UID}"
_PATHS: Sequence[tuple[re.Pattern[str], str]] = [
    (re.compile(pattern), what)
    for pattern, what in (
        (r"/studies", "search studies"),
        (r"/series", "search series"),
        (r"/instances", "search instances"),
        (_STUDY, "objects"),
        (rf"{_STUDY}/metadata", "metadata"),
        (rf"{_STUDY}/series", "search series"),
        (rf"{_STUDY}/instances", "search instances"),
        (_SERIES, "objects"),
        (rf"{_SERIES}/metadata", "metadata"),
        (rf"{_SERIES}/instances", "search instances"),
        (_INSTANCE, "objects"),
        (rf"{_INSTANCE}/metadata", "metadata"),
        (rf"{_INSTANCE}/frames/([0-9,]+)", "frames"),
        (rf"{_INSTANCE}/bulkdata/([0-9A-F/]+)", "bulk data"),
    )
]
_ROOT = re.compile(r"(?:/cases/([0-9a-f-]{36}))?(/.*)")


def parse(path: str) -> Asked:
    """What a path asks for; raises NotFound for every path that is none."""
    root = _ROOT.fullmatch(unquote(path))
    if root:
        for pattern, what in _PATHS:
            if found := pattern.fullmatch(root[2]):
                groups = found.groups()
                count = 3 if what in ("frames", "bulk data") else len(groups)
                try:
                    case_id = CaseId(UUID(root[1])) if root[1] else None
                except ValueError:
                    break
                if case_id is None and what != "search studies" and not groups:
                    break  # nobody searches all series there are
                return Asked(case_id, what, groups[:count], "".join(groups[count:]))
    raise NotFound("there is no such resource")


class DicomWeb:
    """Answers requests, each in the thread of its connection."""

    def __init__(
        self, images: Images, lists: Lists, stored: Bytes, verifier: Verifier, loop: Loop, key: bytes
    ) -> None:
        """`key`: secret; entity tags and boundaries are made with it, the same at each process."""
        self._images = images
        self._lists = lists
        self._bytes = stored
        self._verifier = verifier
        self._loop = loop
        self._key = key
        self._budget, self._turns = Budget(), Turns()

    @contextmanager
    def handle(self, request: Request) -> Iterator[Response]:
        """The answer to one request; see `plumbing.edge.Handler`."""
        caller = self._caller(request)
        with self._turns.one(caller.login or ""), ExitStack() as resources:
            yield self._response(request, caller, resources)

    def _response(self, request: Request, caller: Caller, resources: ExitStack) -> Response:
        asked = parse(request.path)
        query = matching.parameters(request.query)
        accepted = media.ranges(",".join(query.pop("accept", [])) or request.headers.get("accept", ""))
        try:
            if asked.case_id is None and asked.what == "search studies":
                choice = chosen(accepted, media.TEXTS)
                return self._listed(caller, matching.parse(query, matching.STUDIES), choice)
            if asked.case_id is None:
                cases = self._of_study(caller, asked.uids[0])
                if len(cases) > 1:
                    return _ambiguous(cases)
                asked = replace(asked, case_id=cases[0].case_id)
            seen = resources.enter_context(self._seen(caller, asked, request))
            reading = resources.enter_context(Reading(self._bytes, self._budget))

            def related() -> Iterator[matching.Row]:
                assert asked.case_id is not None
                return map(studylist.row, self._ask(caller, self._lists.related(asked.case_id)))

            answering = Answering(request, asked, accepted, query, seen, related, reading, self._key)
            return ANSWERS[asked.what](answering)
        except NotAcceptable as error:
            return Response(406, "text/plain; charset=utf-8", [f"{error}\n".encode()])

    def _listed(self, caller: Caller, query: matching.Query, choice: media.Media) -> Response:
        """Every case of the user that matches."""
        where = studylist.where(query.keys)
        found = self._ask(caller, self._lists.listed(where, query.offset, query.limit + 1))
        rows = map(studylist.row, found[: query.limit])
        page = matching.Page(
            [matching.told(matching.STUDIES, query, row) for row in rows], len(found) > query.limit
        )
        return searched(page, query, choice, self._key)

    def _of_study(self, caller: Caller, uid: str) -> Sequence[ListedCase]:
        """The cases that a study is in."""
        found = self._ask(caller, self._lists.listed(studylist.of_study(uid), 0, MAX_CHOICES))
        if not found:
            raise no_images()
        return found

    def _ask(self, caller: Caller, question: Coroutine[Any, Any, T]) -> T:
        async def as_user() -> T:
            callers.current.set(caller)
            return await question

        return self._loop.wait(as_user(), OPEN_S)

    def _caller(self, request: Request) -> Caller:
        if request.peer.name not in CALLERS:
            raise Denied("this peer may not ask for images")
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        claims = self._verifier.verify(token.strip() if kind.lower() == "bearer" else "", ("ingest",))
        return Caller(request.peer.name, claims.login, claims.session, token.strip())

    @contextmanager
    def _seen(self, caller: Caller, asked: Asked, request: Request) -> Iterator[list[Seen]]:
        """What is asked for and the user may see; the connection ends when they may no longer."""
        viewer = Viewer(caller.login or "", caller.session or "")
        assert asked.case_id is not None
        viewed = self._images.view_case(viewer, asked.case_id, asked.named, by_series=asked.by_series)
        stay = _Stay(viewed, request)
        try:
            yield self._loop.wait(stay.begin(caller), OPEN_S)
        finally:
            self._loop.call(stay.end)


class _Stay:
    """An open `view_case`, held by a task of the event loop for as long as a thread sends."""

    def __init__(self, viewed: AbstractAsyncContextManager[Sequence[Seen]], request: Request) -> None:
        self._viewed = viewed
        self._request = request
        self._task: asyncio.Task[None] | None = None
        self._over = asyncio.Event()

    async def begin(self, caller: Caller) -> list[Seen]:
        """What may be served; raises what `view_case` raises."""
        opened: asyncio.Future[list[Seen]] = asyncio.get_running_loop().create_future()
        callers.current.set(caller)
        self._task = asyncio.create_task(self._hold(opened))
        return await opened

    async def _hold(self, opened: "asyncio.Future[list[Seen]]") -> None:
        try:
            async with self._viewed as found:
                if not opened.done():
                    opened.set_result(list(found))
                await self._over.wait()
        except ReadroomError as error:
            if opened.done():
                self._abort()  # sight has ended
            else:
                opened.set_exception(error)
        except Exception as error:
            if not opened.done():
                opened.set_exception(error)
                return
            _log.exception("whether somebody may still see images is not known")
            self._abort()

    def _abort(self) -> None:
        """Ends the connection while the answer is on its way; afterwards it may carry the next one."""
        if not self._over.is_set():
            self._request.abort()

    def end(self) -> None:
        """On the event loop: the answer has gone."""
        self._over.set()


def _ambiguous(cases: Sequence[ListedCase]) -> Response:
    places = "".join(f"{case.location}\n" for case in cases)
    text = f"the study is in more than one case: ask for it in one of them\n{places}"
    return Response(409, "text/plain; charset=utf-8", [text.encode()])
