"""What the chart says of the components is what the code says; no Helm is needed to see it."""

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import descriptor_pool

from kernel.events import HEARS
from plumbing.callers import allow_list
from plumbing.components import COMPONENTS, SERVICES
from plumbing.config import Settings
from plumbing.stream import STREAM
from tests.chart import valuestable
from tests.chart.rendering import CHART, ROOT

TABLE = yaml.safe_load((CHART / "files/components.yaml").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
NAMES = list(TABLE["components"])

NEVER = {"TOKEN_PUBLIC_KEY", "CLOCK_OFFSET_FILE", "DEVELOPMENT_ISSUER", "VIEWER_FOLDER"}
"""Of the version before, for one machine only, or as the image has it."""

TEMPLATED = {
    "DRAIN_S", "AUDIT_ANCHOR_FILE", "OTLP_ENDPOINT", "PACK_DIRECTORY", "PEER_ADDRESS",
    "DICOM_PUBLIC_ADDRESS", "GATEWAY_PUBLIC_ADDRESS", "SMTP_ADDRESS", "MAIL_FROM", "LINK_BASE", "TEXT_URL",
    "ORIGIN", "VIEWER_ORIGIN", "DICOMWEB_ADDRESS",
}  # fmt: skip
"""What the templates derive from other values."""


def settings_of(name: str) -> type[Settings]:
    """The type of a component's settings."""
    package = name if name == "web" else f"services.{name}"
    settings: type[Settings] = importlib.import_module(f"{package}.main").Settings
    return settings


def of(name: str, what: str) -> dict[str, Any]:
    """Ports or files of a component, with those of everybody."""
    return {**TABLE["everybody"][what], **TABLE["components"][name].get(what, {})}


def test_the_components_are_those_of_the_code() -> None:
    assert set(NAMES) == set(COMPONENTS) == VALUES["components"].keys()
    for name in NAMES:
        assert TABLE["components"][name]["identity"] == COMPONENTS[name].identity
        assert TABLE["components"][name]["module"] == ("services" if name in SERVICES else "web")
        told = {edge: port["setting"] for edge, port in of(name, "ports").items()}
        assert told == {edge: setting.upper() for edge, setting in COMPONENTS[name].ports.items()}


@pytest.mark.parametrize("name", NAMES)
def test_each_setting_is_told_or_may_be_told(name: str) -> None:
    """A new setting fails here until the chart knows whether a template, a file or the values say it."""
    told = {port["setting"] for port in of(name, "ports").values()}
    told |= {file["setting"].removesuffix("_FILE") for file in of(name, "files").values()}
    told |= {f"{peer.upper()}_ADDRESS" for peer in TABLE["components"][name]["peers"]}
    component = SCHEMA["properties"]["components"]["properties"][name]["allOf"][1]["properties"]
    chosen = component["settings"]["properties"].keys()
    fields = {field.upper() for field in settings_of(name).model_fields}

    assert not told & chosen
    assert chosen == fields - told - TEMPLATED - NEVER
    assert told <= fields


@pytest.mark.parametrize("name", NAMES)
def test_peers_are_those_whose_address_it_is_told(name: str) -> None:
    addresses = {field.removesuffix("_address") for field in settings_of(name).model_fields}

    assert set(TABLE["components"][name]["peers"]) == addresses & set(COMPONENTS)


@pytest.mark.proves("OPS-11", part="edges are those of the contracts")
@pytest.mark.parametrize("name", NAMES)
def test_callers_are_those_of_the_contracts(name: str) -> None:
    """A connection is open to whom a contract names, if they have its address; the web's also to the command
    line, which presents the same certificate and is run there."""
    allowed = {caller for contract in _served(name) for caller in _callers(contract)}
    identities = {component.identity: component.name for component in COMPONENTS.values()}
    may = {identities[caller] for caller in allowed}
    reach = {other for other in NAMES if name in TABLE["components"][other]["peers"]} | {"web", name}

    assert sorted(may & reach) == TABLE["components"][name]["callers"]
    assert reach - {"web", name} <= may, "it has the address of a service that would refuse it"


def _served(name: str) -> list[str]:
    """The contracts that a component serves: its own, and those of every component that name no service."""
    own = [
        f"wire.{path.parent.parent.name}.v1.{service}"
        for path in sorted((ROOT / "protos/wire").glob("*/v1/*.proto"))
        if path.parent.parent.name in (name, "audit", "letters", "facts")
        for service in re.findall(r"^service (\w+)", path.read_text(), re.MULTILINE)
    ]
    code = "\n".join(path.read_text() for path in _package(name).glob("*.py"))
    common = {"wire.audit": "verifying", "wire.letters": "replaying", "wire.facts": "toldagain"}
    return [
        contract
        for contract in own
        if (module := common.get(contract.rpartition(".v1.")[0])) is None or f"{module}.serve(" in code
    ]


def _package(name: str) -> Path:
    return ROOT / (name if name == "web" else f"services/{name}")


def _callers(contract: str) -> set[str]:
    area = contract.split(".")[1]
    for path in sorted((ROOT / f"wire/{area}/v1").glob("*_pb2.py")):
        importlib.import_module(f"wire.{area}.v1.{path.stem}")
    assert descriptor_pool.Default().FindServiceByName(contract)
    return {caller for each in allow_list(contract).values() for caller in (*each.user, *each.service)}


def test_the_stream_of_keda_is_the_one_that_services_hear() -> None:
    text = (CHART / "templates/scaling.yaml").read_text()

    assert f"stream: {STREAM}\n" in text
    assert set(HEARS) == set(SERVICES), "each component but the web has a consumer of its own name"


@pytest.mark.proves("OPS-1", part="schema, values and table agree")
def test_schema_and_values_name_the_same_keys() -> None:
    def compare(values: dict[str, Any], schema: dict[str, Any], at: str) -> None:
        schema = _resolved(schema)
        if "properties" not in schema:
            return
        assert schema.get("additionalProperties") is False, f"{at} is open"
        optional = {"global"} if not at else set()
        if at.startswith("components.") or at.endswith(
            ("resources", "servers.database")
        ):  # what differs from the defaults
            assert values.keys() <= schema["properties"].keys(), at
        else:
            assert values.keys() == schema["properties"].keys() - optional, at
        for key, value in values.items():
            if isinstance(value, dict):
                compare(value, schema["properties"][key], f"{at}.{key}".strip("."))

    compare(VALUES, SCHEMA, "")
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    first: dict[str, Any] = schema["allOf"][0] if "allOf" in schema else schema
    if "$ref" in first:
        found: dict[str, Any] = SCHEMA["definitions"][first["$ref"].rpartition("/")[2]]
        return found
    return first


@pytest.mark.proves("OPS-1", part="schema, values and table agree")
def test_the_table_of_the_readme_is_that_of_the_values() -> None:
    assert valuestable.written() in (CHART / "README.md").read_text(), "run `make proto`"
