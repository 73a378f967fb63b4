"""A reader opens a stream of images, and keeps it open while their sight ends (A69).

Position: a user who saw the case when the stream began; they read slowly, so that the server has to wait.
"""

import os
import time
from collections.abc import AsyncIterator, Callable

import pytest

from kernel.errors import NotFound, ReadroomError, Unavailable
from services.ingest.events import CUT
from tests.ingest.builders import a_uid
from tests.ingest.objects import a_ct
from tests.ingest.system import READER, AccessOfTheTest, Ingest
from tests.ingest.test_images import a_case
from tests.wait import eventually
from wire.access.v1 import access_pb2
from wire.ingest.v1 import ingest_pb2 as pb

CUT_WITHIN_S = 5.0
LARGE = 48 << 20
"""More than the buffers between server and reader hold."""

Ending = Callable[[AccessOfTheTest, str], None]


def revoked(access: AccessOfTheTest, case_id: str) -> None:
    """Also: deactivated, moved, expired, deleted. Access answers them alike."""
    del access.decisions[READER, case_id]


def without_the_study(access: AccessOfTheTest, case_id: str) -> None:
    del access.decisions[READER, case_id].studies[:]


def without_the_series(access: AccessOfTheTest, case_id: str) -> None:
    (study,) = access.decisions[READER, case_id].studies
    study.all_series = False
    study.series_instance_uids[:] = ["1.2.3"]


def without_the_part(access: AccessOfTheTest, case_id: str) -> None:
    (study,) = access.decisions[READER, case_id].studies
    study.by_parts = True
    study.parts[:] = [7]


def silent(access: AccessOfTheTest, case_id: str) -> None:
    access.silent_about.add(case_id)


ENDINGS: dict[str, tuple[Ending, type[ReadroomError]]] = {
    "sight ends": (revoked, NotFound),
    "the study is no longer of the case": (without_the_study, NotFound),
    "the series is no longer confirmed": (without_the_series, NotFound),
    "the part is no longer of the case": (without_the_part, NotFound),
    "access does not answer": (silent, Unavailable),
}


async def an_open_stream(ingest: Ingest, case_id: str) -> AsyncIterator[pb.StreamStudyResponse]:
    """A stream of which the reader has read its first message and nothing since."""
    stream = aiter(ingest.acting(READER).StreamStudy(pb.StreamStudyRequest(case_id=case_id)))
    assert (await anext(stream)).study.length > LARGE
    return stream


async def rest(stream: AsyncIterator[pb.StreamStudyResponse]) -> tuple[int, ReadroomError | None]:
    """How many bytes still come, and how the stream ends."""
    got = 0
    try:
        async for part in stream:
            got += len(part.chunk)
    except ReadroomError as error:
        return got, error
    return got, None


def streams_cut() -> float:
    return sum(s.value for metric in CUT.collect() for s in metric.samples if s.name.endswith("_total"))


@pytest.mark.proves("A69", part="an open stream of images is cut within 5 s")
async def test_an_open_stream_is_cut_while_its_reader_reads_nothing(ingest: Ingest) -> None:
    """Every way in which sight ends, each on a case of its own, all at the same time."""
    large = a_ct(study=a_uid(), pixels=os.urandom(LARGE))
    case_id = await a_case(ingest, large)
    decision = ingest.access.decisions[READER, case_id]
    cases = {name: f"01900000-0000-7000-8000-00000000000{n}" for n, name in enumerate(ENDINGS)}
    for each in cases.values():
        ingest.access.decisions[READER, each] = access_pb2.Decision()
        ingest.access.decisions[READER, each].CopyFrom(decision)

    streams = {name: await an_open_stream(ingest, each) for name, each in cases.items()}
    before, began = streams_cut(), time.monotonic()
    for name, (end, _) in ENDINGS.items():
        end(ingest.access, cases[name])
    await eventually(lambda: streams_cut() == before + len(ENDINGS), within=2 * CUT_WITHIN_S)
    assert time.monotonic() - began < CUT_WITHIN_S
    for name, (_, word) in ENDINGS.items():
        got, error = await rest(streams[name])
        assert (name, type(error)) == (name, word)
        assert got < LARGE


async def test_a_stream_goes_on_while_sight_lasts_and_asks_once_an_interval(ingest: Ingest) -> None:
    large = a_ct(study=a_uid(), pixels=os.urandom(LARGE))
    stream = await an_open_stream(ingest, await a_case(ingest, large))
    await eventually(lambda: ingest.access.asked_again)
    ((login, session),) = set(ingest.access.asked_again)
    assert login == READER
    assert session
    got, error = await rest(stream)
    assert error is None
    assert got > LARGE
    assert len(ingest.access.asked_again) <= 2
