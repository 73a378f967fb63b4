"""The form of each fact on the wire: docs/facts/SUBJECT.json, a JSON Schema.

Facts of an older and a newer version of a service meet on the bus, in both directions. So a form may gain
optional fields and nothing else; another form is another subject (`study.received.v2`).
"""

import json
from pathlib import Path
from typing import Any

import msgspec

from kernel.events import FACTS, Fact

FOLDER = Path(__file__).parent.parent / "docs" / "facts"

Schema = dict[str, Any]


def schema(fact: type[Fact]) -> Schema:
    """The JSON Schema of a fact."""
    _, components = msgspec.json.schema_components([fact])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **components[fact.__name__],
        "title": fact.subject,
    }


def breaches(old: Schema, new: Schema) -> list[str]:
    """What in `new` is more than an optional field added to `old`."""
    before, after = old["properties"], new["properties"]
    required_before, required_after = set(old.get("required", ())), set(new.get("required", ()))
    return [
        *(f"`{name}` was removed" for name in before if name not in after),
        *(f"`{name}` has another type" for name in before if name in after and before[name] != after[name]),
        *(f"`{name}` is new and not optional" for name in sorted(required_after - set(before))),
        *(
            f"`{name}` is no longer always there"
            for name in sorted(required_before & set(after) - required_after)
        ),
        *(f"`{name}` was optional" for name in sorted((required_after - required_before) & set(before))),
    ]


def differing(folder: Path = FOLDER) -> list[str]:
    """The files in `folder` that are not what the facts generate."""
    fresh = _texts()
    present = {path.name: path.read_text() for path in folder.glob("*.json")}
    return sorted(name for name in fresh | present if fresh.get(name) != present.get(name))


def generate(folder: Path = FOLDER) -> None:
    """Writes the schemas; refuses to overwrite a form with one that others would not understand."""
    fresh = _texts()
    for name, text in fresh.items():
        path = folder / name
        if path.exists() and (found := breaches(json.loads(path.read_text()), json.loads(text))):
            raise SystemExit(f"{name}: {'; '.join(found)}: another form is another subject")
    for path in folder.glob("*.json"):
        if path.name not in fresh:
            raise SystemExit(
                f"{path.name} is no fact any more: delete it if no version in use says or hears it"
            )
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in fresh.items():
        (folder / name).write_text(text)


def _texts() -> dict[str, str]:
    return {
        f"{subject}.json": json.dumps(schema(fact), indent=2, ensure_ascii=False) + "\n"
        for subject, fact in FACTS.items()
    }
