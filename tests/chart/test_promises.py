"""What single objects of the chart promise: certificates, the migration, autoscalers, extension points."""

import pytest

from plumbing.callers import SERVICE_URI
from plumbing.components import COMPONENTS, SERVICES
from plumbing.stream import STREAM
from tests.chart.rendering import objects, of_kind, pods

pytestmark = [pytest.mark.drill, pytest.mark.usefixtures("helm")]


@pytest.mark.proves("OPS-6", part="certificates by cert-manager")
def test_each_component_has_a_certificate_of_its_own_from_authorities_of_this_release() -> None:
    found = objects("certificates")
    made = {name: each["spec"] for name, each in of_kind("Certificate", found).items()}
    for component in COMPONENTS.values():
        spec = made[f"readroom-{component.name}-tls"]
        assert spec["uris"] == [SERVICE_URI.format(name=component.identity)]
        assert spec["dnsNames"] == [f"{component.identity}.readroom"], (
            "what clients ask for (plumbing/rpc.py)"
        )
        assert spec["issuerRef"]["name"] == "readroom-service"
    gateways = made["readroom-gateways-tls"]
    assert gateways["dnsNames"] == ["ingest.readroom", "dicom.example.org"]
    assert gateways["issuerRef"]["name"] == "readroom-gateway"
    mounted = {
        source["secret"]["name"]
        for pod in pods(found).values()
        for volume in pod["spec"].get("volumes", ())
        for source in volume.get("projected", {}).get("sources", ())
    }
    assert {spec["secretName"] for spec in made.values()} - {"readroom-service-ca"} <= mounted
    assert "readroom-service-ca" not in mounted, "nobody needs the key of the authority of services"
    issuers = of_kind("Issuer", found)
    assert issuers["readroom-service"]["spec"]["ca"] != issuers["readroom-gateway"]["spec"]["ca"]
    assert not of_kind("ClusterIssuer", found)


@pytest.mark.proves("OPS-13", part="a hook that needs only what exists before")
@pytest.mark.parametrize("profile", ["least", "web", "own-secrets", "hospital-group"])
def test_the_migration_needs_secrets_alone_and_runs_first(profile: str) -> None:
    found = objects(profile)
    (job,) = of_kind("Job", found).values()
    hook = job["metadata"]["annotations"]
    assert hook["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert "before-hook-creation" in hook["helm.sh/hook-delete-policy"], "a Job cannot be changed"
    pod = job["spec"]["template"]["spec"]
    assert "serviceAccountName" not in pod, "the chart's own would not exist yet"
    kinds = [next(iter(volume.keys() - {"name"})) for volume in pod["volumes"]]
    assert sorted(kinds) == ["emptyDir", "projected"]
    (container,) = pod["containers"]
    migrated = {each["name"] for each in container["env"] if each["name"].endswith("DATABASE_URL_FILE")}
    running = {
        each["metadata"]["labels"]["app.kubernetes.io/component"]
        for kind in ("Deployment", "StatefulSet")
        for each in of_kind(kind, found).values()
    }
    assert migrated == {f"READROOM_{name.upper()}_DATABASE_URL_FILE" for name in running}
    policies = of_kind("NetworkPolicy", found)
    policy = policies["readroom-migrate"]["metadata"]["annotations"]
    assert int(policy["helm.sh/hook-weight"]) < int(hook["helm.sh/hook-weight"])


@pytest.mark.proves("OPS-10", part="in the chart")
def test_keda_asks_for_the_lag_of_the_consumer_of_that_service() -> None:
    scaled = of_kind("ScaledObject", objects("keda"))
    assert set(scaled) == {"readroom-access", "readroom-routing", "readroom-notify"}
    for name, each in scaled.items():
        spec = each["spec"]
        (trigger,) = spec["triggers"]
        consumer = name.removeprefix("readroom-")
        assert consumer in SERVICES
        assert trigger["metadata"]["stream"] == STREAM
        assert trigger["metadata"]["consumer"] == consumer
        assert trigger["metadata"]["account"]
        assert spec["minReplicaCount"] >= 1, "who sleeps hears nothing"
        assert spec["fallback"]["replicas"] >= spec["minReplicaCount"]
        assert spec["cooldownPeriod"] >= 60


@pytest.mark.proves("OPS-18")
def test_what_operators_add_is_there() -> None:
    found = objects("extended")
    for kind in ("Deployment", "StatefulSet"):
        for name, each in of_kind(kind, found).items():
            pod = each["spec"]["template"]
            container = pod["spec"]["containers"][0]
            assert {"name": "TZ", "value": "Europe/Brussels"} in container["env"], name
            assert container["envFrom"] == [{"configMapRef": {"name": "more"}}]
            assert {"name": "more", "mountPath": "/more"} in container["volumeMounts"]
            assert {"name": "more", "emptyDir": {}} in pod["spec"]["volumes"]
            assert pod["metadata"]["labels"]["team"] == "radiology"
            assert pod["metadata"]["annotations"] == {"note": "yes"}
            assert each["metadata"]["annotations"] == {"note": "yes"}
            assert pod["spec"]["nodeSelector"] == {"disks": "fast"}
            assert pod["spec"]["tolerations"]
            assert "affinity" in pod["spec"]
            assert pod["spec"]["priorityClassName"] == "high"
            assert pod["spec"]["runtimeClassName"] == "gvisor"
            assert each["metadata"]["labels"]["cost-centre"] == "x"
    for service in of_kind("Service", found).values():
        assert service["spec"]["ipFamilyPolicy"] == "PreferDualStack"
        assert service["spec"]["ipFamilies"] == ["IPv6", "IPv4"]
    assert "readroom-more" in of_kind("ConfigMap", found)
    assert "[::]:8443" in str(found)


@pytest.mark.proves("OPS-17", part="headless Services")
def test_names_of_services_stand_for_their_pods() -> None:
    for name, service in of_kind("Service", objects("web")).items():
        inside = name.removeprefix("readroom-") in COMPONENTS
        assert (service["spec"].get("clusterIP") == "None") == inside, name
