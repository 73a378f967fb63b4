"""Templates: values become pages, and nothing in a value becomes markup."""

import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from web import shown
from web.trees import Tree, tree_of

ROOT = Path(__file__).parents[1]
_STATIC = ROOT / "ui/static"
_DIGEST_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class Asset:
    """A file that pages refer to, under a name that changes with its content."""

    content: bytes
    content_type: str


class Rendering:
    """The templates of the web and of `ui/`, and their assets.

    Attributes:
        assets: by the name they are served under.
    """

    def __init__(self) -> None:
        self.assets: dict[str, Asset] = {}
        self._names: dict[str, str] = {}
        for path in sorted(_STATIC.iterdir()):
            self._add(path)
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader([ROOT / "web/templates", ROOT / "ui/templates"]),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters.update(shown.FILTERS)
        self._environment.globals["asset"] = self.path_of

    def page(self, template: str, values: Mapping[str, Any]) -> str:
        return self._environment.get_template(template).render(values)

    def part(self, template: str, values: Mapping[str, Any]) -> Tree:
        """A piece of a page, for a script that builds it."""
        return tree_of(self.page(template, values))

    def path_of(self, name: str) -> str:
        """Where an asset is served."""
        return f"/static/{self._names[name]}"

    def _add(self, path: Path) -> None:
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()[:_DIGEST_CHARACTERS]
        name = self._names[path.name] = f"{path.stem}.{digest}{path.suffix}"
        kind = mimetypes.types_map.get(path.suffix, "application/octet-stream")
        self.assets[name] = Asset(content, kind)
