"""Every profile, rendered by real Helm: what Kubernetes must never be sent."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from plumbing import config
from readroom.status import PROBES, addresses
from tests.chart.rendering import (
    CHART,
    EXAMPLES,
    LEAST,
    PROFILES,
    WEB,
    Helm,
    Object,
    Refused,
    objects,
    of_kind,
    overlaid,
    pods,
    rendered,
)
from tests.chart.test_table import TABLE, settings_of

pytestmark = pytest.mark.drill

EVERY = pytest.mark.parametrize("profile", [*PROFILES, *EXAMPLES])


@pytest.mark.usefixtures("helm")
@pytest.mark.proves("OPS-14")
@EVERY
def test_two_renders_are_equal(profile: str, every_helm: list[Helm]) -> None:
    """Nothing random and nothing looked up; and each version of Helm says the same objects."""
    values = PROFILES[profile] if profile in PROFILES else _example(profile)
    first = rendered(profile)

    assert every_helm[0].render(values) == first
    for other in every_helm[1:]:
        assert list(_sorted(other.render(values))) == list(_sorted(first))
    templates = "\n".join(path.read_text() for path in (CHART / "templates").rglob("*.*"))
    assert not re.findall(
        r"\b(rand\w+|lookup|now|uuidv4|gen\w+Cert|genCA|genPrivateKey)\b *[\"(.]", templates
    )


def _sorted(text: str) -> list[Object]:
    found = [each for each in yaml.safe_load_all(text) if each]
    return sorted(found, key=lambda each: (each["kind"], each["metadata"]["name"]))


def _example(name: str) -> Any:
    return yaml.safe_load((CHART / f"examples/{name}.yaml").read_text())


@pytest.mark.proves("OPS-1", part="Helm 3.17 and 4 lint")
@EVERY
def test_each_version_of_helm_finds_nothing_wrong(profile: str, every_helm: list[Helm]) -> None:
    for each in every_helm:
        each.lint(PROFILES[profile] if profile in PROFILES else _example(profile))


@pytest.mark.usefixtures("helm")
@pytest.mark.proves("OPS-3")
@EVERY
def test_every_pod_is_restricted(profile: str) -> None:
    """Pod Security Standards, level `restricted`, and more: read-only root, no token, hooks and tests too."""
    found = pods(objects(profile))
    assert {"CronJob/readroom-bus", "Job/readroom-migrate", "Pod/readroom-test"} <= found.keys()
    for name, pod in found.items():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] == 10001, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}, name
        assert all("hostPath" not in volume for volume in spec.get("volumes", ())), name
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name


@pytest.mark.usefixtures("helm")
@EVERY
def test_objects_fit_together(profile: str) -> None:
    """What a schema cannot see: selectors match, ports exist and say their protocol, names fit."""
    found = objects(profile)
    running = [each["metadata"]["labels"] | {"": name} for name, each in pods(found).items()]
    names = [(each["kind"], each["metadata"]["name"]) for each in found]
    assert len(names) == len(set(names))
    assert all(len(name) <= 63 for _, name in names)
    for each in found:
        assert each["metadata"].get("namespace") == "radiology" or each["metadata"]["name"] == "readroom-more"
        match each["kind"]:
            case "PodDisruptionBudget" | "Deployment" | "StatefulSet":
                _matches_one(each["spec"]["selector"]["matchLabels"], running)
                assert each["kind"] != "PodDisruptionBudget" or each["spec"]["maxUnavailable"] == 1
            case "Service":
                _matches_one(each["spec"]["selector"], running)
                ports = _ports_behind(each, found)
                for port in each["spec"]["ports"]:
                    assert port["protocol"] == "TCP"
                    assert port["targetPort"] in ports
    for name, pod in pods(found).items():
        for container in pod["spec"]["containers"]:
            assert all(port["protocol"] == "TCP" for port in container.get("ports", ())), name
            assert all(len(port["name"]) <= 15 for port in container.get("ports", ())), name
            volumes = {volume["name"] for volume in pod["spec"].get("volumes", ())}
            claims = {"packs"} if name.startswith("StatefulSet") else set()
            mounts = [mount["name"] for mount in container.get("volumeMounts", ())]
            assert set(mounts) <= volumes | claims, name


def _matches_one(selector: dict[str, str], running: list[dict[str, str]]) -> None:
    matching = {labels[""] for labels in running if selector.items() <= labels.items()}
    assert len(matching) == 1, f"{selector} selects {matching}"


def _ports_behind(service: Object, found: list[Object]) -> set[str]:
    selector = service["spec"]["selector"]
    (pod,) = [each for each in pods(found).values() if selector.items() <= each["metadata"]["labels"].items()]
    return {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}


@pytest.mark.usefixtures("helm")
@EVERY
def test_no_secret_and_no_digest_stands_where_it_can_be_read(profile: str) -> None:
    """Secrets exist before: the chart makes none. A digest is no value of a label (it would be too long)."""
    found = objects(profile)
    assert not of_kind("Secret", found)
    for name, pod in pods(found).items():
        for container in pod["spec"]["containers"]:
            for variable in container.get("env", ()):
                assert "secretKeyRef" not in str(variable), name
                assert not re.search(r"://[^/@]*:[^/@]*@", str(variable.get("value"))), name
    for each in found:
        assert "sha256" not in str(each["metadata"].get("labels")), each["metadata"]["name"]
    for pod in pods(found).values():
        assert "sha256" not in str(pod["metadata"]["labels"])


@pytest.mark.usefixtures("helm")
@pytest.mark.proves("OPS-9")
@EVERY
def test_who_has_the_number_of_pods_has_it_alone(profile: str) -> None:
    found = objects(profile)
    scaled = [
        each["spec"]["scaleTargetRef"]["name"]
        for kind in ("HorizontalPodAutoscaler", "ScaledObject")
        for each in of_kind(kind, found).values()
    ]
    assert len(scaled) == len(set(scaled))
    assert bool(scaled) == (profile in {"autoscaled", "keda", "shared", "hospital-group"})
    for kind in ("Deployment", "StatefulSet"):
        for name, each in of_kind(kind, found).items():
            assert ("replicas" in each["spec"]) != (name in scaled), name


@pytest.mark.usefixtures("helm")
@pytest.mark.proves("OPS-8")
@EVERY
def test_one_pod_at_a_time_may_be_taken_down_and_never_the_only_one(profile: str) -> None:
    found = objects(profile)
    budgets = of_kind("PodDisruptionBudget", found)
    least = {
        each["spec"]["scaleTargetRef"]["name"]: each["spec"].get("minReplicas")
        or each["spec"]["minReplicaCount"]
        for kind in ("HorizontalPodAutoscaler", "ScaledObject")
        for each in of_kind(kind, found).values()
    }
    for kind in ("Deployment", "StatefulSet"):
        for name, each in of_kind(kind, found).items():
            count = least.get(name) or each["spec"]["replicas"]
            assert (name in budgets) == (count >= 2), name
            spread = each["spec"]["template"]["spec"]["topologySpreadConstraints"]
            for constraint in spread:
                assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"
                assert constraint["labelSelector"] == each["spec"]["selector"]
            assert len(spread) == 2


@pytest.mark.usefixtures("helm")
@pytest.mark.proves("OPS-7", part="in the chart")
@EVERY
def test_probes_are_distinct(profile: str) -> None:
    for kind in ("Deployment", "StatefulSet"):
        for name, each in of_kind(kind, objects(profile)).items():
            (container, *_) = each["spec"]["template"]["spec"]["containers"]
            path = {
                probe: container[f"{probe}Probe"]["httpGet"]["path"]
                for probe in ("startup", "liveness", "readiness")
            }
            assert path == {"startup": "/startupz", "liveness": "/livez", "readiness": "/readyz"}, name
            assert all(container[f"{probe}Probe"]["httpGet"]["port"] == "http" for probe in path), (
                "gRPC asks for a certificate that kubelet lacks"
            )


@pytest.mark.usefixtures("helm")
@pytest.mark.proves("OPS-11", part="rendered")
@EVERY
def test_the_edges_that_are_open_are_those_of_the_table(profile: str) -> None:
    """Among components, for each pair; and no rule names nobody, which would mean everybody."""
    found = objects(profile)
    policies = of_kind("NetworkPolicy", found)
    if profile == "images-only":
        assert not policies
        return
    running = {
        each["metadata"]["labels"]["app.kubernetes.io/component"]
        for kind in ("Deployment", "StatefulSet")
        for each in of_kind(kind, found).values()
    }
    incoming, outgoing = set(), set()
    for name in running:
        spec = policies[f"readroom-{name}"]["spec"]
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        incoming |= {(each, name) for each in _components(spec["ingress"], "from", "grpc")}
        outgoing |= {(name, each) for each in _components(spec["egress"], "to", "grpc")}
        for way, rules in (("from", spec["ingress"]), ("to", spec["egress"])):
            for rule in rules:
                assert rule.get(way, [...]), f"{name}: {rule}"
                assert rule["ports"], f"{name}: {rule}"
                assert all(port["protocol"] in ("TCP", "UDP") for port in rule["ports"])
    expected = {
        (caller, name)
        for name in running
        for caller in TABLE["components"][name]["callers"]
        if caller in running
    }
    assert incoming == outgoing == expected
    if "web" in running:
        probed = {
            name
            for name in running
            if "web" in _components(policies[f"readroom-{name}"]["spec"]["ingress"], "from", "http")
        }
        assert probed == running, "`readroom status` runs in the web and asks all"
        (web,) = (
            each
            for each in of_kind("Deployment", found).values()
            if each["metadata"]["name"] == "readroom-web"
        )
        (container, *_) = web["spec"]["template"]["spec"]["containers"]
        (told,) = (each["value"] for each in container["env"] if each["name"] == PROBES)
        assert addresses(told).keys() == running
    assert {f"readroom-{each}" for each in ("bus", "test", "migrate")} <= policies.keys()


def _components(rules: list[Object], way: str, port: str) -> set[str]:
    return {
        peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
        for rule in rules
        if any(each["port"] == port for each in rule["ports"])
        for peer in rule.get(way, ())
        if "podSelector" in peer
    }


@pytest.mark.usefixtures("helm")
@pytest.mark.proves("OPS-2")
@EVERY
def test_each_process_takes_the_settings_that_it_is_given(
    profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment of each container, read by the process's own settings."""
    found = objects(profile)
    for kind in ("Deployment", "StatefulSet"):
        for workload in of_kind(kind, found).values():
            pod = workload["spec"]["template"]
            name = pod["metadata"]["labels"]["app.kubernetes.io/component"]
            environ = _environment(pod, tmp_path)
            settings = config.load(settings_of(name), environ)
            assert isinstance(settings, config.ProcessSettings)
            assert settings.drain_s == (240 if name == "ingest" else 1)


CONTENTS = {
    "database-url": "postgresql://readroom:secret@db.example.org/readroom",
    "nats-url": "tls://readroom:secret@nats.example.org:4222",
    "cache-url": "rediss://cache.example.org:6379",
}


def _environment(pod: Object, folder: Path) -> dict[str, str]:
    """What the container's process would see; files of Secrets stand under `folder`."""
    (files,) = [volume for volume in pod["spec"]["volumes"] if volume["name"] == "files"]
    there = {item["path"] for source in files["projected"]["sources"] for item in source["secret"]["items"]}
    for each in there:
        (folder / each).write_text(CONTENTS.get(each, "x" * 64))
    environ = {
        variable["name"]: variable["value"].replace("$(POD_NAME)", "pod-0")
        for variable in pod["spec"]["containers"][0]["env"]
        if "value" in variable
    }
    moved = {}
    for key, value in environ.items():
        if value.startswith("/run/readroom/"):
            assert value.removeprefix("/run/readroom/") in there, f"{key} names a file that no Secret gives"
        moved[key] = value.replace("/run/readroom", str(folder)).replace("/var/lib/anchors", str(folder))
        moved[key] = moved[key].replace("/var/lib/readroom", str(folder))
    return moved


@pytest.mark.usefixtures("helm")
def test_a_large_number_stays_one(helm: Helm) -> None:
    """Helm reads numbers as floating-point ones, and would write 1e+10."""
    text = helm.render({"components": {"ingest": {"settings": {"MAX_INSTANCE_BYTES": 10_000_000_000}}}})

    assert 'value: "10000000000"' in text


@pytest.mark.usefixtures("helm")
@pytest.mark.proves("OPS-12", part="existing Secrets with choosable keys")
def test_each_file_comes_from_the_secret_and_key_that_the_values_name() -> None:
    found = objects("own-secrets")
    access = of_kind("Deployment", found)["readroom-access"]["spec"]["template"]["spec"]["volumes"]
    (files,) = [volume["projected"]["sources"] for volume in access if volume["name"] == "files"]
    comes = {
        item["path"]: (source["secret"]["name"], item["key"])
        for source in files
        for item in source["secret"]["items"]
    }

    assert comes["database-url"] == ("db", "uri")
    assert comes["revision-key"] == ("access", "revision-key")
    assert comes["revision-key-also"] == ("access", "revision-key-also")
    assert comes["servers-ca.crt"] == ("authorities", "bundle.pem")
    assert comes["tls.key"] == ("readroom-access-tls", "tls.key")


@pytest.mark.usefixtures("helm")
def test_only_the_web_has_the_key_that_signs_tokens() -> None:
    for profile in ("web", "gateway-api"):
        holders = {name for name, pod in pods(objects(profile)).items() if "readroom-token-key'" in str(pod)}
        assert holders == {"Deployment/readroom-web"}


@pytest.mark.usefixtures("helm")
@pytest.mark.proves("OPS-5", part="a Service of its own")
def test_gateways_have_services_of_their_own() -> None:
    services = of_kind("Service", objects("hospital-group"))
    for edge, port in (("dicom", 2762), ("gateways", 8444)):
        spec = services[f"readroom-{edge}"]["spec"]
        assert [each["port"] for each in spec["ports"]] == [port]
        assert spec["externalTrafficPolicy"] == "Local"
        assert spec["loadBalancerSourceRanges"] == ["192.0.2.0/24", "198.51.100.0/24"]
    open_inside = {port["name"] for port in services["readroom-ingest"]["spec"]["ports"]}
    assert open_inside == {"grpc", "http", "dicomweb"}


@pytest.mark.usefixtures("helm")
def test_images_stay_when_pods_go() -> None:
    ingest = of_kind("StatefulSet", objects("volumes"))["readroom-ingest"]["spec"]

    assert ingest["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert ingest["replicas"] == 3


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown key": ({"ingres": {}}, "ingres"),
    "an unknown component": ({"components": {"ingets": {}}}, "ingets"),
    "an unknown key of a component": ({"components": {"ingest": {"replica": 2}}}, "replica"),
    "an unknown setting": ({"components": {"ingest": {"settings": {"SETTLE": 2}}}}, "SETTLE"),
    "a setting for all": ({"defaults": {"settings": {"SETTLE_AFTER_S": 2}}}, "SETTLE_AFTER_S"),
    "a setting that the chart says": ({"components": {"web": {"settings": {"ORIGIN": "x"}}}}, "ORIGIN"),
    "text for a number": ({"components": {"access": {"replicas": "two"}}}, "replicas"),
    "no pods": ({"components": {"access": {"replicas": 0}}}, "replicas"),
    "half a digest": ({"image": {"digest": "sha256:abc"}}, "digest"),
    "plain text to the Internet": ({"origin": "http://readroom.example.org"}, "origin"),
    "texts in plain": ({"texts": {"url": "http://texts.example.org"}}, "url"),
    "no port": ({"dicom": {"publicAddress": "dicom.example.org"}}, "publicAddress"),
    "no address": ({"gateways": {"publicAddress": ""}}, "gateways.publicAddress"),
    "no range": ({"dicom": {"service": {"sourceRanges": ["all"]}}}, "sourceRanges"),
    "no mail": ({"mail": {"address": ""}}, "mail.address"),
    "no origin": (overlaid(WEB, {"origin": ""}), "origin"),
    "one host for pages and viewer": (
        overlaid(WEB, {"viewerOrigin": "https://readroom.example.org:8443"}),
        "viewerOrigin",
    ),
    "nobody could sign in": (
        overlaid(WEB, {"components": {"web": {"settings": {"OIDC_ISSUER": ""}}}}),
        "settings.OIDC_ISSUER",
    ),
    "no pages": ({"ingress": {"enabled": True}}, "ingress.enabled"),
    "all off": ({"defaults": {"enabled": False}}, "components"),
    "two autoscalers": (
        {"components": {"access": {"autoscaling": {"enabled": True}, "keda": {"enabled": True}}}},
        "components.access",
    ),
    "KEDA without NATS": ({"components": {"access": {"keda": {"enabled": True}}}}, "bus.monitoringEndpoint"),
    "KEDA for the web": (
        overlaid(
            WEB,
            {
                "bus": {"monitoringEndpoint": "nats:8222"},
                "components": {"web": {"keda": {"enabled": True}}},
            },
        ),
        "components.web.keda",
    ),
    "more at least than at most": (
        {"components": {"access": {"autoscaling": {"enabled": True, "minReplicas": 9}}}},
        "minReplicas",
    ),
    "an autoscaler of volumes": (
        {"components": {"ingest": {"autoscaling": {"enabled": True}}}},
        "storage.mode",
    ),
    "fewer pods than volumes": ({"storage": {"volumes": 2}}, "components.ingest.replicas"),
    "more pods than volumes": ({"components": {"ingest": {"replicas": 2}}}, "storage.volumes"),
    "shared, and nothing to share": ({"storage": {"mode": "shared"}}, "storage.existingClaim"),
    "killed while it drains": ({"components": {"ingest": {"drainSeconds": 600}}}, "gracePeriodSeconds"),
    "a file that it does not read": (
        {"components": {"routing": {"secrets": {"revision-key": {"name": "x"}}}}},
        "revision-key",
    ),
    "a route to nowhere": ({"tlsRoute": {"enabled": True}}, "tlsRoute.parentRefs"),
    "an unknown mode": ({"storage": {"mode": "s3"}}, "mode"),
}


@pytest.mark.proves("OPS-1", part="wrong values are refused by name")
@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_refused_by_its_name(what: str, every_helm: list[Helm]) -> None:
    values, key = WRONG[what]
    for each in every_helm:
        with pytest.raises(Refused) as refusal:
            each.render(values)
        said = str(refusal.value)
        assert key in said or key.replace(".", "/") in said
        assert "nil pointer" not in said


def test_the_least_is_needed(helm: Helm) -> None:
    """Each value that everybody must say is asked for by its name."""
    for area, said in LEAST.items():
        for key in said:
            with pytest.raises(Refused, match=rf"{area}\.{key}"):
                helm.render({area: {key: ""}})
