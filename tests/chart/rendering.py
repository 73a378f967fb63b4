"""The chart, rendered by real Helm.

`READROOM_HELM` names the programs, separated by colons; without it those of `.venv/helm`, which `make chart`
fetches, or the one on the path.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/readroom"

Object = dict[str, Any]
"""An object of Kubernetes."""

LEAST: dict[str, Any] = {
    "dicom": {"publicAddress": "dicom.example.org:2762"},
    "gateways": {"publicAddress": "dicom.example.org:8444"},
    "mail": {
        "address": "mail.example.org:587",
        "from": "readroom@example.org",
        "linkBase": "https://images.example.org/shared/",
    },
    "texts": {"url": "https://texts.example.org/send"},
}
"""What everybody must say."""

WEB: dict[str, Any] = {
    "origin": "https://readroom.example.org",
    "viewerOrigin": "https://viewer.readroom.example.org",
    "components": {
        "web": {
            "enabled": True,
            "settings": {"OIDC_ISSUER": "https://login.example.org", "OIDC_CLIENT_ID": "readroom"},
            "secrets": {"oidc-client-secret": {"name": "provider"}},
        }
    },
}
"""With pages, and a provider of identities."""

PROFILES: dict[str, dict[str, Any]] = {
    "least": {},
    "web": WEB | {"ingress": {"enabled": True, "className": "nginx", "tlsSecret": "pages"}},
    "gateway-api": WEB
    | {
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]},
        "tlsRoute": {
            "enabled": True,
            "parentRefs": [{"name": "public"}],
            "hostnames": ["dicom.example.org"],
        },
    },
    "autoscaled": {"components": {"access": {"autoscaling": {"enabled": True}}}},
    "keda": {
        "bus": {"monitoringEndpoint": "nats.nats.svc:8222"},
        "components": {name: {"keda": {"enabled": True}} for name in ("access", "routing", "notify")},
    },
    "shared": {
        "storage": {"mode": "shared", "existingClaim": "packs"},
        "components": {"ingest": {"autoscaling": {"enabled": True}}},
    },
    "volumes": {"storage": {"volumes": 3}, "components": {"ingest": {"replicas": 3}}},
    "single": {"defaults": {"replicas": 1}},
    "certificates": {"certManager": {"enabled": True, "gatewayNames": ["dicom.example.org"]}} | WEB,
    "watched": {
        "serviceMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "dashboards": {"enabled": True},
        "telemetry": {"otlpEndpoint": "https://collector.example.org:4317"},
    },
    "images-only": {
        "components": {name: {"enabled": False} for name in ("reporting", "sharing", "notify")},
        "networkPolicy": {"enabled": False},
    },
    "own-secrets": {
        "image": {"registry": "registry.example.org:5000", "digest": "sha256:" + "a" * 64},
        "migrate": {"existingSecret": "owner", "firstAdmin": "admin"},
        "defaults": {"secrets": {"servers-ca.crt": {"name": "authorities", "key": "bundle.pem"}}},
        "components": {
            "access": {
                "existingSecret": "access",
                "secrets": {"database-url": {"name": "db", "key": "uri"}, "revision-key-also": {}},
            }
        },
    },
    "extended": {
        "defaults": {
            "extraEnv": [{"name": "TZ", "value": "Europe/Brussels"}],
            "extraEnvFrom": [{"configMapRef": {"name": "more"}}],
            "extraVolumes": [{"name": "more", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
            "podLabels": {"team": "radiology"},
            "podAnnotations": {"note": "yes"},
            "annotations": {"note": "yes"},
            "nodeSelector": {"disks": "fast"},
            "tolerations": [{"key": "radiology", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "priorityClassName": "high",
            "runtimeClassName": "gvisor",
            "anchorClaim": "anchors",
        },
        "labels": {"cost-centre": "x"},
        "services": {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6", "IPv4"]},
        "listenHost": "[::]",
        "extraObjects": [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-more"}},
        ],
    },
}
"""What people install, by a name for it; each is laid onto LEAST."""

EXAMPLES = ("laptop", "hospital-group")


class Refused(Exception):
    """Helm does not render, and says why."""


@dataclass(frozen=True, slots=True)
class Helm:
    """One version of Helm."""

    program: str

    def render(self, values: Mapping[str, Any]) -> str:
        """What Helm would send; raises Refused."""
        done = self._run(["template", "readroom", CHART, "--namespace", "radiology"], values)
        if done.returncode != 0:
            raise Refused(done.stderr)
        return done.stdout

    def lint(self, values: Mapping[str, Any]) -> None:
        """Raises Refused for what Helm finds wrong."""
        done = self._run(["lint", "--strict", CHART], values)
        if done.returncode != 0:
            raise Refused(done.stdout + done.stderr)

    def _run(
        self, arguments: Sequence[str | Path], values: Mapping[str, Any]
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [self.program, *arguments, "--values", "-"],
            input=yaml.safe_dump(overlaid(LEAST, values)),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def overlaid(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Maps within maps: what `over` says wins."""
    return {**base} | {
        key: overlaid(base[key], value)
        if isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
        else value
        for key, value in over.items()
    }


def helms() -> list[Helm]:
    """The versions that are installed; none if there is no Helm."""
    if named := os.environ.get("READROOM_HELM"):
        return [Helm(each) for each in named.split(":")]
    fetched = sorted((ROOT / ".venv/helm").glob("*/helm"), reverse=True)
    found = [str(each) for each in fetched] or [each for each in [shutil.which("helm")] if each]
    return [Helm(each) for each in found]


@cache
def rendered(profile: str) -> str:
    """A profile or an example, by the first Helm."""
    if profile in EXAMPLES:
        return helms()[0].render(yaml.safe_load((CHART / f"examples/{profile}.yaml").read_text()))
    return helms()[0].render(PROFILES[profile])


@cache
def objects(profile: str) -> list[Object]:
    """The objects of a profile or an example."""
    return [each for each in yaml.safe_load_all(rendered(profile)) if each]


def of_kind(kind: str, found: list[Object]) -> dict[str, Object]:
    """Those of one kind, by name."""
    return {each["metadata"]["name"]: each for each in found if each["kind"] == kind}


def pods(found: list[Object]) -> dict[str, Object]:
    """Every pod that would run, with its metadata and spec, by kind and name of what makes it."""
    return {
        f"{each['kind']}/{each['metadata']['name']}": pod for each in found if (pod := _pod(each)) is not None
    }


def _pod(each: Object) -> Object | None:
    match each["kind"]:
        case "Pod":
            return each
        case "Deployment" | "StatefulSet" | "Job":
            template: Object = each["spec"]["template"]
            return template
        case "CronJob":
            inner: Object = each["spec"]["jobTemplate"]["spec"]["template"]
            return inner
    return None
