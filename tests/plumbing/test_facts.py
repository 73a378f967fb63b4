"""The form of the facts on the wire, and what may become of it."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kernel.events import FACTS
from tests.facts import FOLDER, breaches, differing, generate, schema


def test_the_committed_schemas_are_those_of_the_facts() -> None:
    assert differing() == []
    assert {path.stem for path in FOLDER.glob("*.json")} == set(FACTS)


BESIDES = {"case.purged.v1": {"by", "study_ids"}}
"""What a fact carries besides: the name of a service, and ids (A60)."""


@pytest.mark.proves("SEC-12", part="facts carry an id and a version")
@pytest.mark.parametrize("subject", FACTS)
def test_a_fact_carries_ids_and_a_version_and_nothing_else(subject: str) -> None:
    assert set(schema(FACTS[subject])["properties"]) == {"id", "version"} | BESIDES.get(subject, set())


def form(**fields: Any) -> dict[str, Any]:
    """The schema of a fact with `id` and these fields besides."""
    kind = msgspec.defstruct("Kind", [("id", int), *((name, *field) for name, field in fields.items())])
    _, components = msgspec.json.schema_components([kind])
    return dict(components["Kind"])


def test_a_form_may_gain_optional_fields() -> None:
    assert breaches(form(), form(more=(int, 0))) == []


@pytest.mark.parametrize(
    ("old", "new", "breach"),
    [
        (form(a=(int, 0)), form(), "`a` was removed"),
        (form(a=(int,)), form(a=(str,)), "`a` has another type"),
        (form(), form(a=(int,)), "`a` is new and not optional"),
        (form(a=(int, 0)), form(a=(int,)), "`a` was optional"),
    ],
)
def test_a_form_may_not_change_otherwise(old: dict[str, Any], new: dict[str, Any], breach: str) -> None:
    assert breach in breaches(old, new)


def test_a_field_that_was_always_there_stays_so() -> None:
    old = {"properties": {"a": {"type": "integer"}}, "required": ["a"]}
    assert breaches(old, {**old, "required": []}) == ["`a` is no longer always there"]


def test_a_form_that_others_would_not_understand_is_not_written(tmp_path: Path) -> None:
    generate(tmp_path)
    path = tmp_path / "study.received.v1.json"
    old = json.loads(path.read_text())
    old["properties"]["more"] = {"type": "integer"}
    path.write_text(json.dumps(old))
    with pytest.raises(SystemExit, match="`more` was removed"):
        generate(tmp_path)


def test_a_fact_is_not_forgotten_silently(tmp_path: Path) -> None:
    generate(tmp_path)
    (tmp_path / "study.lost.v1.json").write_text("{}")
    with pytest.raises(SystemExit, match=r"study\.lost\.v1"):
        generate(tmp_path)
