"""What one request by DICOMweb is answered, once it is known what of a case its user sees (PS3.18 10)."""

import hashlib
import hmac
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kernel.errors import Invalid, NotFound
from kernel.ids import CaseId
from plumbing.responses import Piece, Request, Response
from services.ingest import matching, media
from services.ingest.domain import Named, Seen, StoredInstance
from services.ingest.media import MULTIPART, Media
from services.ingest.served import Reading

MAX_FRAMES = 1000
"""In one request."""
MAX_FRAME_DIGITS = 12
"""Of the number of a frame, as of the value that says how many there are (IS, PS3.5 6.2)."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A path, parted.

    Attributes:
        case_id: none: the user may see it in any case.
        what: a key of `ANSWERS`.
        uids: of study, series and instance, as far as the path names them.
        rest: what follows, as the numbers of frames.
    """

    case_id: CaseId | None
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


@dataclass(frozen=True, slots=True)
class Answering:
    """One request, and what its user sees of what they ask for.

    Attributes:
        accepted: by the query parameter `accept`, which goes before the header (PS3.18 8.3.3.1).
        query: the other parameters.
        related: the studies of related cases.
    """

    request: Request
    asked: Asked
    accepted: Sequence[media.Range]
    query: Mapping[str, Sequence[str]]
    seen: Sequence[Seen]
    related: Callable[[], Iterator[matching.Row]]
    reading: Reading
    key: bytes

    @property
    def instances(self) -> Sequence[StoredInstance]:
        return [each.stored for each in self.seen]

    def chosen(self, offers: Sequence[Media]) -> Media:
        """What is sent; raises NotAcceptable."""
        return chosen(self.accepted, offers)

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

    def page(self, level: matching.Level, query: matching.Query) -> Response:
        """What of the case, and of the related ones, a search finds."""
        groups: dict[tuple[str, ...], list[Seen]] = {}
        for each in self.seen:
            instance = each.stored.instance
            own = (instance.study_instance_uid, instance.series_instance_uid, instance.sop_instance_uid)
            groups.setdefault(own[: level.depth], []).append(each)
        found = [(each, self.location(each[0].stored, level.depth)) for each in groups.values()]
        rows: Iterator[matching.Row] = filter(query.matches, matching.rows(level, found, self.project))
        if level is matching.STUDIES:
            rows = itertools.chain(rows, self._related(query))
        page = matching.page(level, query, rows)
        self.reading.keep(sum(map(len, page.rows)))
        return searched(page, query, self.chosen(media.TEXTS), self.key)

    def _related(self, query: matching.Query) -> Iterator[matching.Row]:
        """Whoever asks for the patient of the case by their id means them in related cases too, where access
        knows them by another one."""
        own: matching.Row = json.loads(self.project(self.seen[0].stored))
        yield from filter(query.of_patient(own).matches, self.related())

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


class NotAcceptable(Exception):
    """Nothing that is offered is accepted."""


def chosen(accepted: Sequence[media.Range], offers: Sequence[Media]) -> Media:
    """What is sent; raises NotAcceptable."""
    choice = media.choose(accepted, offers)
    if choice is None:
        kinds = ", ".join(sorted({each.content_type for each in offers}))
        raise NotAcceptable(f"what you accept is not there: it is available as {kinds}")
    return choice


def _objects(answering: Answering) -> Response:
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


def _metadata(answering: Answering) -> Response:
    answering.chosen(media.TEXTS)  # before anything is read
    told = []
    for each in answering.instances:
        told.append(answering.project(each))
        answering.reading.keep(len(told[-1]))
    return answering.text(told)


def _frames(answering: Answering) -> Response:
    asked = [each for each in answering.asked.rest.split(",") if each]
    numbers = [int(each) for each in asked if len(each) <= MAX_FRAME_DIGITS]
    if not numbers or not all(numbers) or len(asked) > MAX_FRAMES or len({*numbers}) < len(asked):
        raise Invalid(f"frames are different numbers from 1 on, at most {MAX_FRAMES} in a request")
    return _these_frames(answering, numbers)


def _these_frames(answering: Answering, numbers: Sequence[int]) -> Response:
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


def _bulk_data(answering: Answering) -> Response:
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


def _search(level: matching.Level) -> Callable[[Answering], Response]:
    def answer(answering: Answering) -> Response:
        answering.chosen(media.TEXTS)  # before anything is read
        return answering.page(level, matching.parse(answering.query, level))

    return answer


def searched(page: matching.Page, query: matching.Query, choice: Media, key: bytes) -> Response:
    """The answer to a search."""
    warnings = [*query.warnings, *([matching.MORE] if page.is_cut else [])]
    if not page.rows:
        return Response(204, headers=warnings)
    body = ("[" + ",".join(page.rows) + "]").encode()
    tag = hmac.new(key, choice.type.encode() + body, hashlib.sha256).hexdigest()[:32]
    return Response(200, choice.type, [body], warnings, tag=tag, compressible=True)


ANSWERS: dict[str, Callable[[Answering], Response]] = {
    "objects": _objects,
    "metadata": _metadata,
    "frames": _frames,
    "bulk data": _bulk_data,
    "search studies": _search(matching.STUDIES),
    "search series": _search(matching.SERIES),
    "search instances": _search(matching.INSTANCES),
}
