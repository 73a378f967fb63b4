"""The viewer's files: kept by whoever has them, under a policy of their own, and nothing else."""

import gzip
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from local.pki import Pki
from tests.web.conftest import Web, running
from tests.web.viewer import Viewer
from web.rendering import ROOT

HASHED = "app.bundle.0f6159c501addfe9.js"
SCRIPT = "window.PUBLIC_URL='/'"
PAGE = f'<!doctype html><script>{SCRIPT}</script><script src="/app-config.js"></script>'
FILES = {
    "index.html": PAGE,
    HASHED: "run()" * 1000,
    "app.css": "a{}" * 1000,
    "assets/mark.svg": "<svg/>",
    "secret.gz": "x",
}


@pytest.fixture
async def web(fresh_database: Callable[[str], str], pki: Pki, tmp_path: Path) -> AsyncIterator[Web]:
    folder = tmp_path / "viewer"
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if len(text) > 1024:
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "beside.js").write_text("not of the viewer")
    async with running(fresh_database, pki, tmp_path, viewer_folder=folder) as web:
        yield web


@pytest.fixture
async def viewer(web: Web) -> AsyncIterator[Viewer]:
    async with web.signed_in() as page:
        yield Viewer(page.http, web.origin)


async def test_files_are_kept_by_whoever_has_them_and_sent_compressed(viewer: Viewer) -> None:
    packed = {"Accept-Encoding": "gzip"}
    for name, kept in ((HASHED, "immutable"), ("app.css", "no-cache")):
        whole = await viewer.get(f"/{name}", **{"Accept-Encoding": "identity"})
        short = await viewer.get(f"/{name}", **packed)
        assert whole.body == short.body == FILES[name].encode()  # the client unpacks it
        assert short.headers["Content-Encoding"] == "gzip"
        assert int(short.headers["Content-Length"]) < len(FILES[name]) / 10
        assert kept in whole.headers["Cache-Control"]
        for tag, status in ((short.headers["ETag"], 304), ('"another"', 200)):
            assert (await viewer.get(f"/{name}", **packed, **{"If-None-Match": tag})).status == status
    page = await viewer.get("/viewer?StudyInstanceUIDs=1.2&case=x")
    assert (page.status, page.body, page.headers["Cache-Control"]) == (200, PAGE.encode(), "no-cache")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"


async def test_the_viewer_may_load_from_its_host_alone(web: Web, viewer: Viewer) -> None:
    page = await viewer.get("/viewer")
    policy = page.headers["Content-Security-Policy"]
    sources = {source for rule in policy.split("; ") for source in rule.split()[1:]}
    assert "'sha256-HduPiktadII+Ke0c0x0RDAVGFJI6aQ6PhDHdHF3LX+w='" in sources  # of SCRIPT
    assert {each for each in sources if not each.startswith("'")} == {"blob:", "data:"}
    assert page.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    config = await viewer.get("/app-config.js")
    assert f'PAGES_ORIGIN = "{web.origin}"'.encode() in config.body
    assert (await viewer.get("/init-service-worker.js")).body == b"// no service worker\n"


@pytest.mark.parametrize(
    "path",
    f"""/ /index.html /{HASHED}.gz /secret.gz /../beside.js /%2e%2e/beside.js /sw.js //app.css /assets
    /assets/ /assets/../index.html /%00 /viewer/ /app.css/ /APP.CSS""".split(),
)
async def test_nothing_else_is_there(viewer: Viewer, path: str) -> None:
    assert (await viewer.get(path)).status == 404


async def test_without_the_viewer_the_page_says_what_to_do(
    fresh_database: Callable[[str], str], pki: Pki, tmp_path: Path
) -> None:
    async with (
        running(fresh_database, pki, tmp_path, viewer_folder=tmp_path / "none") as web,
        web.signed_in() as page,
    ):
        told = await Viewer(page.http, web.origin).get("/viewer?case=x")

    assert (told.status, b"Run `make viewer`" in told.body) == (503, True)


def test_only_the_package_that_is_pinned_is_unpacked(tmp_path: Path) -> None:
    package = tmp_path / "ohif.tgz"
    package.write_bytes(b"another")
    command: list[str | Path] = [sys.executable, ROOT / ".ci/viewer", tmp_path / "viewer", package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, "this is not @ohif/app@3.13.2" in done.stderr) == (1, True)
    assert not (tmp_path / "viewer").exists()
