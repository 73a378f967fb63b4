"""docs/operating.md names every setting and every metric, and no other."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from plumbing.components import SERVICES, WEB
from plumbing.config import ServiceSettings

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs/operating.md").read_text()
COMMON = "READROOM_<SERVICE>_"
# Of `migrate` and `bus`, which have no settings type at module level.
BUS_KEYS = {"READROOM_BUS_SETUP_URL", "READROOM_BUS_SERVERS_CA"}


def _keys(service: str) -> set[str]:
    package = WEB.name if service == WEB.name else f"services.{service}"
    settings = importlib.import_module(f"{package}.main").Settings
    own = settings.model_fields.keys() - ServiceSettings.model_fields.keys()
    return {f"{settings.prefix}{name}".upper() for name in own}


def _metrics() -> set[str]:
    """Each string in the code that is the name of a metric."""
    return {
        node.value
        for package in ("plumbing", "services", "gateway", "web")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"readroom_[a-z_]+", node.value)
    }


def _rows(pattern: str) -> list[str]:
    return re.findall(rf"^\| `({pattern})` \|", TEXT, re.MULTILINE)


def test_each_setting_has_a_row() -> None:
    common = {f"{COMMON}{name.upper()}" for name in ServiceSettings.model_fields}
    own = {key for service in (*SERVICES, WEB.name) for key in _keys(service)}

    assert sorted(common | own) == sorted(_rows(r"READROOM_[A-Z_<>]+"))
    assert {key for key in BUS_KEYS if f"`{key}`" in TEXT} == BUS_KEYS


def test_each_metric_has_a_row() -> None:
    assert sorted(_metrics()) == sorted(_rows(r"readroom_[a-z_]+"))


@pytest.mark.parametrize("package", ["plumbing", "services", "gateway", "web"])
def test_each_metric_is_named_by_a_whole_word(package: str) -> None:
    """A name that is put together, or that begins otherwise, would be missed above."""
    kinds = {"Counter", "Gauge", "Histogram", "Summary", "GaugeMetricFamily", "CounterMetricFamily"}
    put_together = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / package).rglob("*.py")
        if "prometheus_client" in (text := path.read_text())
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in kinds
        and node.args
        and not isinstance(node.args[0], ast.Name)
        and not (isinstance(node.args[0], ast.Constant) and str(node.args[0].value).startswith("readroom_"))
    ]

    assert [] == put_together
