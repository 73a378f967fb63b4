"""DICOMweb to read: the paths below `/cases/{case}`, who may ask them, and what they answer (PS3.18 10).

Only the web calls, with a user's token. Each request asks access anew what of the case this user may see, and
an answer that is on its way is cut when their sight ends (A69). What is foreign and what is absent answer
alike (A4).
"""

import asyncio
import hashlib
import hmac
import re
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote
from uuid import UUID

from kernel.errors import Denied, Invalid, NotFound, ReadroomError
from kernel.ids import CaseId
from plumbing import callers, log
from plumbing.callers import Caller
from plumbing.edge import Piece, Request, Response
from plumbing.tokens import Verifier
from services.ingest import matching, media
from services.ingest.allowance import Budget, Turns
from services.ingest.domain import Named, Seen, StoredInstance
from services.ingest.images import Images, Viewer
from services.ingest.media import MULTIPART, Media
from services.ingest.packs import Packs
from services.ingest.served import Reading
from services.ingest.sources import Verified

CALLERS = frozenset({"bff"})
OPEN_S = 10.0
"""For access and the index to say what may be served."""
MAX_FRAMES = 1000
"""In one request."""
MAX_FRAME_DIGITS = 12
"""Of the number of a frame, as of the value that says how many there are (IS, PS3.5 6.2)."""

_log = log.get()
T = TypeVar("T")


class Loop(Protocol):
    """The way from a connection's thread to the event loop."""

    def wait(self, coroutine: Coroutine[Any, Any, T], seconds: float) -> T: ...
    def call(self, function: Callable[..., None], *arguments: object) -> None: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A path, parted.

    Attributes:
        what: a key of `_ANSWERS`.
        uids: of study, series and instance, as far as the path names them.
        rest: what follows, as the numbers of frames.
    """

    case_id: CaseId
    what: str
    uids: tuple[str, ...] = ()
    rest: str = ""

    @property
    def named(self) -> Named:
        return Named(*self.uids)

    @property
    def by_series(self) -> bool:
        """Whether it is answered from one instance of each series."""
        return self.what in ("search studies", "search series")


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
_CASE = re.compile(r"/cases/([0-9a-f-]{36})(/.*)")


def parse(path: str) -> Asked:
    """What a path asks for; raises NotFound for every path that is none."""
    case = _CASE.fullmatch(unquote(path))
    if case:
        for pattern, what in _PATHS:
            if found := pattern.fullmatch(case[2]):
                groups = found.groups()
                count = 3 if what in ("frames", "bulk data") else len(groups)
                try:
                    case_id = CaseId(UUID(case[1]))
                except ValueError:
                    break
                return Asked(case_id, what, groups[:count], "".join(groups[count:]))
    raise NotFound("there is no such resource")


class DicomWeb:
    """Answers requests, each in the thread of its connection."""

    def __init__(self, images: Images, packs: Packs, verifier: Verifier, loop: Loop, key: bytes) -> None:
        """`key`: secret; entity tags and boundaries are made with it, the same at each process."""
        self._images = images
        self._packs = packs
        self._verifier = verifier
        self._loop = loop
        self._key = key
        self._verified = Verified()
        self._budget, self._turns = Budget(), Turns()

    @contextmanager
    def handle(self, request: Request) -> Iterator[Response]:
        """The answer to one request; see `edge.Handler`."""
        caller = self._caller(request)
        asked = parse(request.path)
        query = matching.parameters(request.query)
        accept = ",".join(query.pop("accept", [])) or request.headers.get("accept", "")
        with (
            self._turns.one(caller.login or ""),
            self._seen(caller, asked, request) as seen,
            Reading(self._packs, self._verified, self._budget) as reading,
        ):
            yield _answer(_Answering(request, asked, media.ranges(accept), query, seen, reading, self._key))

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
                self._request.abort()  # sight has ended
            else:
                opened.set_exception(error)
        except Exception as error:
            if not opened.done():
                opened.set_exception(error)
                return
            _log.exception("whether somebody may still see images is not known")
            self._request.abort()

    def end(self) -> None:
        """On the event loop: the answer has gone."""
        self._over.set()


@dataclass(frozen=True, slots=True)
class _Answering:
    """One request, and what its user sees of what they ask for.

    Attributes:
        accepted: by the query parameter `accept`, which goes before the header (PS3.18 8.3.3.1).
        query: the other parameters.
    """

    request: Request
    asked: Asked
    accepted: Sequence[media.Range]
    query: Mapping[str, Sequence[str]]
    seen: Sequence[Seen]
    reading: Reading
    key: bytes

    @property
    def instances(self) -> Sequence[StoredInstance]:
        return [each.stored for each in self.seen]

    def chosen(self, offers: Sequence[Media]) -> Media:
        """What is sent; raises _NotAcceptable."""
        choice = media.choose(self.accepted, offers)
        if choice is None:
            kinds = ", ".join(sorted({each.content_type for each in offers}))
            raise _NotAcceptable(f"what you accept is not there: it is available as {kinds}")
        return choice

    def tag(self, *more: str) -> str:
        """The same as long as these instances and what is asked of them are."""
        digest = hmac.new(self.key, digestmod=hashlib.sha256)
        for each in self.seen:
            uid = each.stored.instance.sop_instance_uid
            digest.update(each.stored.sha256 + f"{uid}\0{each.members}\0".encode())
        digest.update("\0".join((self.request.path, self.request.query, *more)).encode())
        return digest.hexdigest()[:32]

    def multipart(self, media_type: str, parts: Sequence[tuple[str, str, Sequence[Piece]]]) -> Response:
        """Parts of a content type and a location each (RFC 2046 5.1)."""
        tag = self.tag(media_type)
        boundary = hmac.new(self.key, f"boundary {tag}".encode(), hashlib.sha256).hexdigest()[:40]
        body: list[Piece] = []
        for content_type, location, pieces in parts:
            head = f"Content-Type: {content_type}\r\nContent-Location: {location}"
            body.append(f"--{boundary}\r\n{head}\r\n\r\n".encode())
            body += pieces
            body.append(b"\r\n")
        body.append(f"--{boundary}--\r\n".encode())
        return Response(200, f'{MULTIPART}; type="{media_type}"; boundary="{boundary}"', body, tag=tag)

    def text(self, objects: Sequence[str]) -> Response:
        """DICOM JSON."""
        choice = self.chosen(media.TEXTS)
        body = ("[" + ",".join(objects) + "]").encode()
        self.reading.keep(len(body))
        return Response(200, choice.type, [body], tag=self.tag(choice.type), compressible=True)

    def location(self, stored: StoredInstance, depth: int = 3) -> str:
        """Relative to the server: of its study, its series, or itself."""
        instance = stored.instance
        uids = (instance.study_instance_uid, instance.series_instance_uid, instance.sop_instance_uid)
        nouns = ("studies", "series", "instances")
        path = "".join(f"/{noun}/{uid}" for noun, uid in zip(nouns[:depth], uids, strict=False))
        return f"/cases/{self.asked.case_id}{path}"

    def project(self, stored: StoredInstance) -> str:
        """JSON with bulk data relative to the series."""
        return self.reading.project(stored, f"instances/{stored.instance.sop_instance_uid}/bulkdata/")


class _NotAcceptable(Exception):
    pass


def _answer(answering: _Answering) -> Response:
    try:
        return _ANSWERS[answering.asked.what](answering)
    except _NotAcceptable as error:
        return Response(406, "text/plain; charset=utf-8", [f"{error}\n".encode()])


def _objects(answering: _Answering) -> Response:
    alone = len(answering.asked.uids) == 3
    syntaxes = {stored.instance.transfer_syntax_uid for stored in answering.instances}
    choices = {each: answering.chosen(media.of_objects(each, alone=alone)) for each in syntaxes}
    parts = []
    for stored in answering.instances:
        choice = choices[stored.instance.transfer_syntax_uid]
        whole = answering.reading.object(stored)
        if choice.single:
            return Response(200, choice.content_type, [whole], tag=answering.tag(choice.content_type))
        parts.append((choice.content_type, answering.location(stored), [whole]))
    return answering.multipart(media.DICOM, parts)


def _metadata(answering: _Answering) -> Response:
    answering.chosen(media.TEXTS)  # before anything is read
    told = []
    for each in answering.instances:
        told.append(answering.project(each))
        answering.reading.keep(len(told[-1]))
    return answering.text(told)


def _frames(answering: _Answering) -> Response:
    asked = [each for each in answering.asked.rest.split(",") if each]
    numbers = [int(each) for each in asked if len(each) <= MAX_FRAME_DIGITS]
    if not numbers or not all(numbers) or len(asked) > MAX_FRAMES or len(numbers) < len(asked):
        raise Invalid(f"frames are numbers from 1 on, at most {MAX_FRAMES} in a request")
    return _these_frames(answering, numbers)


def _these_frames(answering: _Answering, numbers: Sequence[int]) -> Response:
    stored = answering.instances[0]
    offers = media.of_frames(stored.instance.transfer_syntax_uid, alone=len(numbers) == 1)
    choice = answering.chosen(offers)
    frames = answering.reading.frames(stored, numbers)
    if choice.single:
        return Response(200, choice.content_type, frames[0], tag=answering.tag(choice.content_type))
    location = answering.location(stored)
    return answering.multipart(
        choice.type,
        [
            (choice.content_type, f"{location}/frames/{number}", frame)
            for number, frame in zip(numbers, frames, strict=True)
        ],
    )


def _bulk_data(answering: _Answering) -> Response:
    stored, path = answering.instances[0], answering.asked.rest
    if path == "7FE00010":
        count = answering.reading.frame_count(stored)
        if count > MAX_FRAMES:  # whatever it says: nothing is made for each of them before
            raise Invalid(f"ask for the frames, at most {MAX_FRAMES} in a request: there are {count}")
        return _these_frames(answering, range(1, count + 1))
    offers = [Media(media.BYTES), Media(media.BYTES, single=True)]
    choice = answering.chosen(offers)
    value = answering.reading.bulk_data(stored, path)
    if value is None:
        raise NotFound("the instance has no such bulk data")
    if choice.single:
        return Response(200, choice.type, [value], tag=answering.tag(choice.type))
    return answering.multipart(
        choice.type, [(choice.type, f"{answering.location(stored)}/bulkdata/{path}", [value])]
    )


def _search(level: matching.Level) -> Callable[[_Answering], Response]:
    def answer(answering: _Answering) -> Response:
        answering.chosen(media.TEXTS)
        query = matching.parse(answering.query)
        groups: dict[tuple[str, ...], list[Seen]] = {}
        for each in answering.seen:
            instance = each.stored.instance
            own = (instance.study_instance_uid, instance.series_instance_uid, instance.sop_instance_uid)
            groups.setdefault(own[: level.depth], []).append(each)
        rows = matching.rows(
            level,
            query,
            [(each, answering.location(each[0].stored, level.depth)) for each in groups.values()],
            answering.project,
        )
        if not rows:
            return Response(204, headers=query.warnings)
        found = answering.text(rows)
        return replace(found, headers=[*found.headers, *query.warnings])

    return answer


_ANSWERS: dict[str, Callable[[_Answering], Response]] = {
    "objects": _objects,
    "metadata": _metadata,
    "frames": _frames,
    "bulk data": _bulk_data,
    "search studies": _search(matching.STUDIES),
    "search series": _search(matching.SERIES),
    "search instances": _search(matching.INSTANCES),
}
