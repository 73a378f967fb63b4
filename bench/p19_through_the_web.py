"""P19: images through the web, as a browser gets them, beside the same requests to ingest directly.

The web asks ingest over TLS and answers without; the client that asks ingest directly speaks TLS itself.
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from pydicom import dcmread

from bench import studies
from bench.p4_dicomweb import JSON, OBJECTS, PIXELS, Server, complete, ours, study_of, timed
from bench.results import Result, median, spread
from bench.sender import store
from bench.site import AE_TITLE, LOGIN, Site, running

INSTANCES = int(os.environ.get("BENCH_P19_INSTANCES", "300"))
RUNS = int(os.environ.get("BENCH_RUNS", "5"))
CONNECTIONS = 6
"""As many as a browser opens to one host."""


async def measure() -> Sequence[Result]:
    async with running() as site:
        paths = studies.write_study(site.folder / "study", INSTANCES, studies.SIDE_526_KB)
        await asyncio.to_thread(store, site.endpoints.dicom, site.gateway, AE_TITLE, paths)
        cases = await complete(site, {study_of(paths): len(paths)})
        web = await asyncio.to_thread(_web, site, cases)
        return await asyncio.to_thread(_measure, (web, ours(site, cases)), paths)


def _measure(servers: Sequence[Server], paths: Sequence[Path]) -> Sequence[Result]:
    study = study_of(paths)
    frames = []
    for path in paths:
        one = dcmread(path, stop_before_pixels=True)
        frames.append(f"/series/{one.SeriesInstanceUID}/instances/{one.SOPInstanceUID}/frames/1")

    def scrolled(server: Server) -> int:
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            return sum(pool.map(lambda frame: server.get(study, frame, PIXELS), frames))

    asked: Mapping[str, Callable[[Server], int]] = {
        "the whole study": lambda server: server.get(study, "", OBJECTS),
        "metadata, gzip": lambda server: server.get(study, "/metadata", JSON, "gzip"),
        "one frame": lambda server: server.get(study, frames[0], PIXELS),
        f"{INSTANCES} frames, {CONNECTIONS} at once": scrolled,
    }
    results = []
    for what, ask in asked.items():
        seconds = timed(
            "P19", what, ask, servers
        )  # the first reads each instance whole, to compare its digest
        (_, web), (_, direct) = seconds.items()
        own, other = web[1:], direct[1:]
        results.append(
            Result(
                id="P19",
                what=f"{what}, through the web",
                ours=median(own),
                unit="s",
                runs=len(own),
                spread=spread(own, other),
                peer=median(other),
                peer_name="ingest directly",
                ratio=median(other) / median(own),
            )
        )
    return results


def _web(site: Site, cases: Mapping[str, str]) -> Server:
    """The viewer's host, in the browser of somebody who has opened a case."""
    pages = site.endpoints.pages
    host = urlsplit(pages).netloc.replace("localhost", "viewer.localhost")
    form = {
        "code": site.system.invite(LOGIN),
        "password": "correct horse battery",
        "again": "correct horse battery",
    }
    kept = _cookie(_ask(pages, "/welcome", {"Sec-Fetch-Site": "same-origin"}, urlencode(form)))
    case_id = next(iter(cases.values()))
    asks = _ask(pages, f"/open/{case_id}", {"Host": host})
    back = _ask(pages, _path(asks), {"Cookie": kept})
    viewer = _cookie(_ask(pages, _path(back), {"Host": host, "Cookie": _cookie(asks)}))
    return Server(
        "the web",
        urlsplit(pages).netloc,
        None,
        lambda study: f"/dicomweb/cases/{cases[study]}",
        lambda: {"Host": host, "Cookie": viewer},
    )


def _ask(pages: str, path: str, headers: Mapping[str, str], form: str | None = None) -> HTTPResponse:
    connection = HTTPConnection(urlsplit(pages).netloc, timeout=60)
    kind = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
    connection.request("POST" if form else "GET", path, form, {**kind, **headers})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.status != 303:
        raise RuntimeError(f"the web answered {answer.status} to {path.partition('?')[0]}")
    return answer


def _cookie(answer: HTTPResponse) -> str:
    return answer.headers["Set-Cookie"].partition(";")[0]


def _path(answer: HTTPResponse) -> str:
    to = urlsplit(answer.headers["Location"])
    return f"{to.path}?{to.query}"
