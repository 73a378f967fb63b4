"""Every profile against the schemas of Kubernetes, of the custom resources, and by promtool."""

import importlib
import json
import os
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.system import LocalSystem
from tests.chart.rendering import EXAMPLES, PROFILES, ROOT, objects, of_kind
from tests.chart.test_monitoring import EXPRESSIONS, OTHERS, series

pytestmark = [pytest.mark.drill, pytest.mark.usefixtures("helm")]

EVERY = pytest.mark.parametrize("profile", [*PROFILES, *EXAMPLES])
VERSIONS = ("1.27", "1.29", "1.31", "1.33", "1.35", "1.37")

CUSTOM = {
    "cert-manager.io/v1": "cloudcoil.models.cert_manager.v1",
    "keda.sh/v1alpha1": "cloudcoil.models.keda.v1alpha1",
    "monitoring.coreos.com/v1": "cloudcoil.models.prometheus_operator.v1",
}
MODELS = ROOT / ".venv/helm/models"
UNKNOWN = {"gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1alpha2"}
"""Of these no registry that we use has a schema for Python: test_rendering.py looks at what they name."""


@pytest.mark.proves("OPS-19", part="renders of ten profiles over six Kubernetes versions")
@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_as_kubernetes_wants_it(version: str) -> None:
    """Strictly: no field that the version lacks. What profiles have in common is looked at once."""
    validate = pytest.importorskip("kubernetes_validate", reason="`make chart` installs it").validate
    every = {json.dumps(each): each for profile in (*PROFILES, *EXAMPLES) for each in objects(profile)}
    ours = [each for each in every.values() if each["apiVersion"] not in {*CUSTOM, *UNKNOWN}]
    assert len(ours) > 100
    for each in ours:
        validate(each, version, strict=True)


@pytest.mark.proves("OPS-19", part="custom resources")
@EVERY
def test_every_custom_resource_is_as_its_owner_wants_it(
    profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not MODELS.exists():
        pytest.skip("the models are not there: `make chart` fetches them")
    monkeypatch.syspath_prepend(MODELS)  # not installed, because they would bring a plugin into pytest
    for each in objects(profile):
        if module := CUSTOM.get(each["apiVersion"]):
            model = getattr(importlib.import_module(module), each["kind"])
            known = model.model_validate(each).model_dump(mode="json", by_alias=True, exclude_unset=True)
            assert _lost(each, known) == [], each["metadata"]["name"]


def _lost(said: Any, known: Any, at: str = "") -> list[str]:
    """Fields that the model does not have."""
    match said, known:
        case dict(), dict():
            return [
                lost
                for key, value in said.items()
                for lost in ([f"{at}.{key}"] if key not in known else _lost(value, known[key], f"{at}.{key}"))
            ]
        case list(), list():
            return [
                lost for one, other in zip(said, known, strict=True) for lost in _lost(one, other, f"{at}[]")
            ]
    return []


@pytest.mark.proves("OPS-17", part="routes")
def test_routes_lead_to_services_that_there_are() -> None:
    found = objects("gateway-api")
    services = of_kind("Service", found)
    routes = [*of_kind("HTTPRoute", found).values(), *of_kind("TLSRoute", found).values()]
    assert len(routes) == 3
    for route in routes:
        (rule,) = route["spec"]["rules"]
        (backend,) = rule["backendRefs"]
        assert backend["port"] in [port["port"] for port in services[backend["name"]]["spec"]["ports"]]
        if route["kind"] == "TLSRoute":
            edge = route["metadata"]["name"].removeprefix("readroom-")
            assert route["spec"]["parentRefs"] == [{"name": "public", "sectionName": edge}]
            assert backend["name"] == f"readroom-{edge}"
    (ingress,) = of_kind("Ingress", objects("web")).values()
    hosts = ["readroom.example.org", "viewer.readroom.example.org"]
    assert [rule["host"] for rule in ingress["spec"]["rules"]] == ingress["spec"]["tls"][0]["hosts"] == hosts
    for rule in ingress["spec"]["rules"]:
        (path,) = rule["http"]["paths"]
        assert path["backend"]["service"] == {"name": "readroom-pages", "port": {"name": "pages"}}
    (route,) = of_kind("HTTPRoute", found).values()
    assert route["spec"]["hostnames"] == hosts


@pytest.mark.proves("OPS-16", part="expressions by promtool")
def test_promtool_takes_the_rules(tmp_path: Path) -> None:
    promtool = os.environ.get("READROOM_PROMTOOL") or shutil.which("promtool") or ROOT / ".venv/helm/promtool"
    if not Path(promtool).exists():
        pytest.skip("promtool is not installed: `make chart` fetches it on Debian")
    (rule,) = of_kind("PrometheusRule", objects("watched")).values()
    dashboard = json.loads(
        of_kind("ConfigMap", objects("watched"))["readroom-dashboard"]["data"]["readroom.json"]
    )
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    groups = [
        *rule["spec"]["groups"],
        {
            "name": "dashboard",
            "rules": [
                {"record": f"panel:{number}", "expr": each.replace("$namespace", "radiology")}
                for number, each in enumerate(expressions)
            ],
        },
    ]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    done = subprocess.run(
        [promtool, "check", "rules", tmp_path / "rules.yaml"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(groups[0]['rules']) + len(expressions)} rules found" in done.stdout


@pytest.mark.proves("OPS-16", part="series of a running system")
def test_a_running_system_exports_what_the_expressions_ask_for(tmp_path: Path) -> None:
    system = LocalSystem(tmp_path / "data", durable=False)
    system.start()
    try:
        exported = set()
        for address in system.endpoints().http.values():
            text = urllib.request.urlopen(f"http://{address}/metrics", timeout=10).read().decode()
            for line in text.splitlines():
                if line.startswith("# TYPE "):
                    _, _, name, kind = line.split()
                    endings = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
                    exported |= {f"{name}{ending}" for ending in endings}
    finally:
        system.stop()

    assert {each for expression in EXPRESSIONS for each in series(expression)} - OTHERS <= exported
