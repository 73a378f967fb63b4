"""The files of the viewer: OHIF as it is published, with a configuration of ours (`viewer/app-config.js`).

`make viewer` fetches it; it is too large to be part of the repository.
"""

import base64
import gzip
import hashlib
import json
import mimetypes
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

_OURS = Path(__file__).parent / "viewer"
_HASHED = re.compile(r"(?:[\w-]+\.)*[0-9a-f]{16}\.(?:js|wasm|woff2)", re.ASCII)
"""Names that change with what the file holds."""

_PAGE = "index.html"
PAGE_PATH = "/viewer"
ABSENT = "The viewer is not installed here. Run `make viewer`, then start Readroom again."

_TYPES = {".js": "text/javascript", ".wasm": "application/wasm", ".woff2": "font/woff2"}
_FOR_GOOD = "public, max-age=31536000, immutable"
_EACH_TIME = "no-cache"

_POLICY = {
    "default-src": "'none'",
    # Codecs are compiled here, and some of OHIF's parts make functions of text.
    "script-src": "'self' 'unsafe-eval' 'wasm-unsafe-eval' blob:",
    "worker-src": "'self' blob:",
    "style-src": "'self' 'unsafe-inline'",
    "font-src": "'self' data:",
    "img-src": "'self' data: blob:",
    "media-src": "'self' blob:",
    "object-src": "'self' blob:",
    "frame-src": "'self' blob:",
    "connect-src": "'self' blob: data:",
    "manifest-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}


@dataclass(frozen=True, slots=True)
class _Kept:
    """A file whose name does not change with what it holds."""

    content: bytes
    packed: bytes
    tag: str


class Ohif:
    """Answers the files of the viewer.

    Args:
        folder: as `.ci/viewer` makes it.
        pages: the address of the pages, where a person signs in again.
    """

    def __init__(self, folder: Path, pages: str) -> None:
        self._folder = folder
        self._hashed: set[str] = set()
        self._kept: dict[str, _Kept] = {}
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.suffix == ".gz" or not path.is_file():
                continue
            if _HASHED.fullmatch(name):
                self._hashed.add(name)
            else:
                beside = path.with_name(f"{path.name}.gz")
                packed = beside.read_bytes() if beside.is_file() else b""
                self._kept[name] = _kept(path.read_bytes(), packed)
        config = (_OURS / "app-config.js").read_text().replace('"PAGES"', json.dumps(pages))
        self._kept["app-config.js"] = _kept(config.encode(), gzip.compress(config.encode(), mtime=0))
        self._kept["init-service-worker.js"] = _kept(b"// no service worker\n", b"")
        page = self._kept.get(_PAGE)
        self.is_here = page is not None
        inline = re.findall(rb"<script>(.*?)</script>", page.content if page else b"", re.DOTALL)
        policy = _POLICY | {"script-src": " ".join((_POLICY["script-src"], *map(_hash, inline)))}
        told = "; ".join(f"{name} {value}" for name, value in policy.items())
        self._headers = {"Content-Security-Policy": told}

    def answer(self, path: str, asked: Mapping[str, str]) -> web.StreamResponse | None:
        """The file at a path, for a request with these headers; None: there is none."""
        if path == PAGE_PATH and not self.is_here:
            return web.Response(status=503, text=f"{ABSENT}\n")
        name = _PAGE if path == PAGE_PATH else path.removeprefix("/")
        if name in self._hashed:
            headers = {**self._headers, "Cache-Control": _FOR_GOOD, "Content-Type": _type(name)}
            return web.FileResponse(self._folder / name, headers=headers)
        kept = self._kept.get(name)
        if kept is None or (name == _PAGE and path != PAGE_PATH):
            return None
        headers = {**self._headers, "Cache-Control": _EACH_TIME, "ETag": kept.tag, "Vary": "Accept-Encoding"}
        if kept.tag in asked.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        headers["Content-Type"] = _type(name)
        if kept.packed and "gzip" in asked.get("Accept-Encoding", ""):
            return web.Response(body=kept.packed, headers={**headers, "Content-Encoding": "gzip"})
        return web.Response(body=kept.content, headers=headers)


def _hash(script: bytes) -> str:
    """By which a policy allows a script within a page."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"


def _kept(content: bytes, packed: bytes) -> _Kept:
    return _Kept(content, packed, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _type(name: str) -> str:
    suffix = Path(name).suffix
    kind = _TYPES.get(suffix) or mimetypes.types_map.get(suffix, "application/octet-stream")
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
