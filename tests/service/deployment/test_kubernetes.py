"""The manifests in deploy/: what in them must fit the service, the database's server, and each other."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.config import Settings
from app.main import app
from app.web.health import DEADLINE
from service.tools import PROJECT

USABLE_CONNECTIONS = 97  # of the 100 that a stock PostgreSQL has; what yours has for applications
MIGRATION_CONNECTIONS = 2  # one migrates, one holds the lock
POOLS = ("POOL_SIZE", "MAX_OVERFLOW", "READ_POOL_SIZE")  # of each worker

DEPLOY = PROJECT / "deploy"
FOLDERS = sorted(
    path.parent for path in DEPLOY.glob("*/**/kustomization.yaml") if path.parent.name != "proxy"
)
API, AUTOSCALER, MIGRATION = "Deployment/api", "HorizontalPodAutoscaler/api", "Job/migrate"
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
Manifest = dict[str, Any]


class Built:
    """What `kubectl kustomize` makes of a folder, as far as the tests look at it.

    Knows resources, the settings as literals, and patches that are written as parts of a manifest.
    """

    def __init__(self, folder: Path) -> None:
        self.settings: dict[str, str] = {}
        self.manifests: dict[str, Manifest] = {}
        [kustomization] = read(folder / "kustomization.yaml")
        for name in kustomization.get("resources", []):
            if (path := folder / name).is_dir():
                base = Built(path)
                self.settings |= base.settings
                self.manifests |= base.manifests
            else:
                self.manifests |= {name_of(manifest): manifest for manifest in read(path)}
        for generated in kustomization.get("configMapGenerator", []):
            if generated["name"] == "settings":
                self.settings |= dict(literal.split("=", 1) for literal in generated["literals"])
        for entry in kustomization.get("patches", []):
            patch = yaml.safe_load(entry["patch"]) if "patch" in entry else read(folder / entry["path"])[0]
            self.manifests[name_of(patch)] = merged(self.manifests[name_of(patch)], patch)

    def spec(self, name: str) -> Manifest:
        spec: Manifest = self.manifests[name]["spec"]
        return spec

    def labels(self, name: str) -> dict[str, str]:
        """Return the labels of the pods of a Deployment or a Job."""
        labels: dict[str, str] = self.spec(name)["template"]["metadata"]["labels"]
        return labels

    def pod(self, name: str) -> Manifest:
        """Return the spec of the pods of a Deployment or a Job."""
        pod: Manifest = self.spec(name)["template"]["spec"]
        return pod

    def container(self, name: str) -> Manifest:
        """Return the first container: others may be put beside it."""
        container: Manifest = self.pod(name)["containers"][0]
        return container

    def proxy(self) -> Manifest:
        """Return the container of the proxy, which is beside the service."""
        [container] = [each for each in self.pod(API)["containers"] if each["name"] == "proxy"]
        proxy: Manifest = container
        return proxy


def read(path: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def name_of(manifest: Manifest) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def merged(value: Any, patch: Any) -> Any:
    """Return the value with the patch in it: lists of what has names are merged by these, others replaced."""
    if isinstance(value, dict) and isinstance(patch, dict):
        return value | {key: merged(value.get(key), part) for key, part in patch.items()}
    if isinstance(value, list) and isinstance(patch, list) and all("name" in part for part in patch):
        named = {part["name"]: part for part in value}
        return list(merged(named, {part["name"]: part for part in patch}).values())
    return patch


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def built(request: pytest.FixtureRequest) -> Built:
    return Built(request.param)


def test_every_manifest_is_in_use() -> None:
    for folder in FOLDERS:
        [kustomization] = read(folder / "kustomization.yaml")
        patches = {entry.get("path") for entry in kustomization.get("patches", [])}
        files = {path.name for path in folder.glob("*.yaml")}
        assert files <= {"kustomization.yaml", *kustomization["resources"], *patches}


def test_all_pods_together_ask_for_no_more_connections_than_the_server_has(built: Built) -> None:
    surge = built.spec(API)["strategy"]["rollingUpdate"]["maxSurge"]
    # A pod that is ending keeps its connections for so long; in a rollout the next one does not end before.
    assert built.spec(API)["minReadySeconds"] >= built.pod(API)["terminationGracePeriodSeconds"]
    ending = surge
    pods = built.spec(AUTOSCALER)["maxReplicas"] + surge + ending
    pools = sum(int(built.settings[f"DATABASE_{name}"]) for name in POOLS)
    wanted = pods * int(built.settings["WEB_CONCURRENCY"]) * pools + MIGRATION_CONNECTIONS
    assert wanted <= USABLE_CONNECTIONS


def test_the_autoscaler_alone_decides_how_many_pods_there_are(built: Built) -> None:
    autoscaler = built.spec(AUTOSCALER)
    assert "replicas" not in built.spec(API)
    assert 2 <= autoscaler["minReplicas"] <= autoscaler["maxReplicas"]


def test_a_pod_has_time_to_end(built: Built) -> None:
    container = built.container(API)
    options = dict(option.split("=") for option in container["command"] if "=" in option)
    draining = int(options["--timeout-graceful-shutdown"])
    still_asked = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert built.pod(API)["terminationGracePeriodSeconds"] > still_asked + draining
    assert (
        still_asked > built.proxy()["lifecycle"]["preStop"]["sleep"]["seconds"] >= 5
    )  # for what it passes on


@pytest.mark.parametrize("probe", PROBES)
def test_a_probe_asks_a_route_on_the_port_that_is_served(built: Built, probe: str) -> None:
    container = built.container(API)
    asked = container[probe]["httpGet"]
    assert "get" in app.openapi()["paths"][asked["path"]]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert f"--port={ports[asked['port']]}" in container["command"]


def test_only_readiness_asks_the_database_and_waits_longer_than_the_route_does(built: Built) -> None:
    container = built.container(API)
    asked = {probe: container[probe]["httpGet"]["path"] for probe in PROBES}
    assert [probe for probe in PROBES if asked[probe] == "/health/ready"] == ["readinessProbe"]
    assert container["readinessProbe"]["timeoutSeconds"] > DEADLINE


def test_requests_reach_the_proxy_of_a_pod_and_nothing_else_of_it(built: Built) -> None:
    service, policy = built.spec("Service/api"), built.spec("NetworkPolicy/api")
    assert service["selector"].items() <= built.labels(API).items()
    ports = {port["name"]: port["containerPort"] for port in built.proxy()["ports"]}
    assert [port["targetPort"] for port in service["ports"]] == list(ports)
    [ingress] = policy["ingress"]
    assert [port["port"] for port in ingress["ports"]] == list(ports.values())


def test_the_proxy_listens_there_and_passes_on_to_the_service(built: Built) -> None:
    config = (DEPLOY / "proxy" / "nginx.conf").read_text()
    [port] = built.proxy()["ports"]
    assert re.findall(r"listen (.+);", config) == [str(port["containerPort"])]
    [served] = built.container(API)["ports"]
    assert re.findall(r"server (\S+:\d+);", config) == [f"127.0.0.1:{served['containerPort']}"]
    assert built.proxy()["readinessProbe"]["tcpSocket"]["port"] == port["name"]


def test_the_proxy_reads_its_file_and_has_memory_alone_for_bodies(built: Built) -> None:
    [generator] = read(DEPLOY / "proxy" / "kustomization.yaml")[0]["configMapGenerator"]
    assert generator["files"] == ["nginx.conf"]
    volumes = {volume["name"]: volume for volume in built.pod(API)["volumes"]}
    mounted = {mount["mountPath"]: mount for mount in built.proxy()["volumeMounts"]}
    assert mounted["/etc/nginx/nginx.conf"]["subPath"] == "nginx.conf"
    assert volumes[mounted["/etc/nginx/nginx.conf"]["name"]]["configMap"]["name"] == generator["name"]
    # A disk that is full would end the pod, and so the service. Memory that is full is a 503 of the proxy.
    assert volumes[mounted["/tmp"]["name"]]["emptyDir"]["medium"] == "Memory"


def test_every_selector_finds_its_pods(built: Built) -> None:
    found = built.spec("NetworkPolicy/api")["podSelector"]["matchExpressions"][0]
    for name in (API, MIGRATION):
        assert built.labels(name)[found["key"]] in found["values"]
    spread = [each["labelSelector"] for each in built.pod(API)["topologySpreadConstraints"]]
    for selector in [built.spec(API)["selector"], built.spec("PodDisruptionBudget/api")["selector"], *spread]:
        assert selector["matchLabels"].items() <= built.labels(API).items()


def test_the_label_by_which_the_service_is_applied_is_on_all_of_it_and_on_nothing_else(built: Built) -> None:
    label = ("app.kubernetes.io/name", "api")
    manifests = built.manifests.items()
    labelled = {name for name, each in manifests if label in each["metadata"].get("labels", {}).items()}
    assert labelled == {API, AUTOSCALER, "PodDisruptionBudget/api", "Service/api"}


def test_the_variables_are_settings_with_values_that_they_take(built: Built) -> None:
    settings = {name.lower(): value for name, value in built.settings.items() if not name.startswith("OTEL_")}
    assert settings.keys() <= Settings.model_fields.keys()
    Settings.model_validate(settings)


@pytest.mark.parametrize("name", [API, MIGRATION])
def test_the_settings_and_the_url_reach_the_process(built: Built, name: str) -> None:
    container = built.container(name)
    assert {"configMapRef": {"name": "settings"}} in container["envFrom"]
    secrets = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in container["env"]}
    assert secrets["DATABASE_URL"] == {"name": "database", "key": "DATABASE_URL"}
    for variable, reference in secrets.items():
        assert variable.lower() in Settings.model_fields
        assert (reference["name"], reference["key"]) == ("database", variable)


@pytest.mark.parametrize("name", [API, MIGRATION])
def test_a_container_may_do_nothing_that_it_need_not(built: Built, name: str) -> None:
    pod = built.pod(name)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        users = {"runAsUser": 101, "runAsGroup": 101} if container["name"] == "proxy" else {}
        assert container["securityContext"] == users | {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]


def test_no_file_holds_a_secret() -> None:
    for path in DEPLOY.rglob("*.*"):
        text = path.read_text(encoding="utf-8")
        for password in re.findall(r"\w+://[^\s:/@]+:([^\s/@]+)@", text):
            assert password == "password", path
        assert path.suffix != ".yaml" or not re.search(r"kind:\W*Secret\b|secretGenerator", text), path
