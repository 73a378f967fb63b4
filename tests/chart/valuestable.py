"""The table of values in the chart's README, from the comments of values.yaml. `make proto` writes it."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "deploy/helm/readroom"
BEGIN, END = "<!-- values: `make proto` writes this table -->", "<!-- end of values -->"

_KEY = re.compile(r"^( *)([A-Za-z]\w*):(.*)$")


def written() -> str:
    """The table between its two marks."""
    lines = [f"| `{key}` | `{default}` | {meaning} |" for key, default, meaning in rows()]
    return "\n".join([BEGIN, "", "| key | default | meaning |", "|---|---|---|", *lines, "", END])


def rows() -> list[tuple[str, str, str]]:
    """Key, default and meaning of each value that the file gives a line."""
    text = (CHART / "values.yaml").read_text()
    values = yaml.safe_load(text)
    found: list[tuple[str, str, str]] = []
    path: list[str] = []
    said = ""
    for line in text.splitlines():
        if line.strip().startswith("# -- "):
            said = line.strip().removeprefix("# -- ")
        elif match := _KEY.match(line):
            path = [*path[: len(match[1]) // 2], match[2]]
            default = _at(values, path)
            if match[3].strip() or not isinstance(default, dict | list):
                found.append((".".join(path), _shown(default), said.replace("|", "\\|")))
                said = ""
            elif said or isinstance(default, list):
                found.append(
                    (".".join(path), "below" if isinstance(default, dict) else _shown(default), said)
                )
                said = ""
    return found


def _at(values: Any, path: list[str]) -> Any:
    for key in path:
        values = values[key]
    return values


def _shown(default: Any) -> str:
    return json.dumps(default, ensure_ascii=False).replace("|", "\\|")


def write() -> None:
    """Puts the table into the README."""
    path = CHART / "README.md"
    before, _, rest = path.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    path.write_text(before + written() + after)
