"""Alerts and dashboards name metrics that the code exports, and labels that these have."""

import importlib
import json
import re

import pytest
import yaml
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

from plumbing.components import COMPONENTS, WEB
from plumbing.renewed import RenewedCollector
from tests.chart.rendering import CHART, ROOT

ALERTS = yaml.safe_load((CHART / "files/alerts.yaml").read_text())["alerts"]
DASHBOARD = json.loads((CHART / "files/dashboard.json").read_text())
EXPRESSIONS = [
    *(alert["expr"] for alert in ALERTS),
    *(target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]),
]
GIVEN = {"namespace", "job", "pod", "service", "le"}
"""Labels that Prometheus adds, or that every histogram has."""

OTHERS = {"up", "kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes"}
"""Of Prometheus and kubelet."""

ENDINGS = {"Counter": {"_total"}, "Gauge": {""}, "Histogram": {"_bucket", "_sum", "_count"}}


def _exported() -> dict[str, set[str]]:
    """Each series that processes export, with its labels: what the registry has once their code is loaded."""
    for name in COMPONENTS:
        importlib.import_module("web.main" if name == WEB.name else f"services.{name}.main")
    found: dict[str, set[str]] = {}
    for collector in set(REGISTRY._names_to_collectors.values()):
        if isinstance(collector, RenewedCollector):
            found |= {family.name: set(family._labelnames) for family in collector.describe()}
        if not isinstance(collector, MetricWrapperBase):
            continue
        for ending in ENDINGS[type(collector).__name__]:
            found[f"{collector._name}{ending}"] = set(collector._labelnames)
    return found


def series(expression: str) -> set[str]:
    """The names of the series that an expression asks for."""
    return set(re.findall(r"\b(?:readroom|kubelet)_\w+|\bup\b", expression))


@pytest.mark.proves("OPS-16", part="alerts and dashboards name what is exported")
def test_each_expression_asks_for_series_and_labels_that_there_are() -> None:
    exported = _exported()
    for expression in EXPRESSIONS:
        asked = series(expression)
        assert asked, expression
        assert asked <= exported.keys() | OTHERS, expression
        labels = {
            label.strip()
            for group in re.findall(r"by \(([\w, ]+)\)", expression)
            for label in group.split(",")
        }
        labels |= set(re.findall(r"(\w+)=", re.sub(r"[=!]~", "=", expression)))
        known = set().union(*(exported.get(each, set()) for each in asked))
        if asked <= exported.keys():
            assert labels <= known | GIVEN, expression
        assert expression.count("(") == expression.count(")")


@pytest.mark.proves("OPS-16", part="each alert has its page")
def test_what_the_handbook_alerts_on_has_an_alert() -> None:
    """docs/operating.md says what to do for each; gateways are watched at their sites."""
    page = (ROOT / "docs/operating.md").read_text()
    table = page.partition("### Alert")[2].partition("### Watch")[0]
    named = set(re.findall(r"^\| `(readroom_\w+)` \|", table, re.MULTILINE))
    named |= set(re.findall(r"^\| `(readroom_\w+)` \| \*\*alert\*\*", page, re.MULTILINE))
    asked = {
        re.sub(r"_(total|count|bucket)$", "", each)
        for alert in ALERTS
        for each in re.findall(r"readroom_\w+", alert["expr"])
    }
    here = {each for each in named if not each.startswith("readroom_gateway_")}

    assert here <= asked | {"readroom_facts_heard", "readroom_access_text_index_blind"}
    assert len({alert["alert"] for alert in ALERTS}) == len(ALERTS)
