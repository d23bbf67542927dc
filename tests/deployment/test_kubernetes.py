"""The manifests: there if they were asked for, and what Kubernetes and Kustomize take, whatever the slug."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_validate import ValidationError, validate

from local_extensions.quoting import as_dns_label
from tests.conftest import Bake, BakedProject

# The oldest that the manifests are for, and the newest with a published schema.
VERSIONS = ["1.30", "1.37"]
BASE, OVERLAY = "deploy/base", "deploy/overlays/production"
KINDS = [
    "Deployment", "HorizontalPodAutoscaler", "Job", "NetworkPolicy", "PodDisruptionBudget", "Service",
]  # fmt: skip
SLUGS = [
    "a", "A.b_c-1", "x" * 64, "x" * 62 + "-y", "1e3", "0x10", "123", "null", "TRUE", "y", "a..b", "a._-b",
    "default", "kube-system", "Kube.System", "kube-" + "x" * 59,
]  # fmt: skip
Manifest = dict[str, Any]

needs_kubectl = pytest.mark.skipif(not shutil.which("kubectl"), reason="there is no kubectl to build them")


@pytest.fixture(scope="module")
def project(bake: Bake) -> BakedProject:
    return bake(kubernetes="yes")


def base_manifests(project: BakedProject) -> list[Manifest]:
    files = sorted((project.path / BASE).glob("*.yaml"))
    manifests = [each for path in files for each in yaml.safe_load_all(path.read_text(encoding="utf-8"))]
    return [each for each in manifests if each["kind"] != "Kustomization"]  # kubectl knows that one


def build(folder: Path) -> list[Manifest]:
    """Return what would be applied."""
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return list(yaml.safe_load_all(done.stdout))


def test_no_leaves_nothing_but_the_proxy_of_compose(bake: Bake) -> None:
    project = bake(kubernetes="no")
    assert list((project.path / "deploy").rglob("*")) == [
        project.path / "deploy" / "proxy",
        project.path / "deploy" / "proxy" / "nginx.conf",
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_base_fits_the_schemas(project: BakedProject, version: str) -> None:
    manifests = base_manifests(project)
    assert sorted(each["kind"] for each in manifests) == KINDS
    for manifest in manifests:
        validate(manifest, version, strict=True)


@needs_kubectl
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", [BASE, OVERLAY])
def test_what_kustomize_builds_fits_the_schemas(project: BakedProject, folder: str, version: str) -> None:
    manifests = build(project.path / folder)
    assert sorted(each["kind"] for each in manifests) == ["ConfigMap", "ConfigMap", *KINDS]
    for manifest in manifests:
        validate(manifest, version, strict=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_misspelt_field_does_not_fit(project: BakedProject, kind: str) -> None:
    [manifest] = [each for each in base_manifests(project) if each["kind"] == kind]
    name, value = next(iter(manifest["spec"].items()))
    manifest["spec"][f"{name}x"] = value
    with pytest.raises(ValidationError, match=f"{name}x"):
        validate(manifest, VERSIONS[0], strict=True)


@needs_kubectl
def test_the_overlay_reaches_what_it_changes(project: BakedProject) -> None:
    built = build(project.path / OVERLAY)
    assert {each["metadata"]["namespace"] for each in built} == {"my-service"}
    configured = {each["metadata"]["name"]: each["data"] for each in built if each["kind"] == "ConfigMap"}
    manifests = {each["kind"]: each for each in built}
    limits = manifests["HorizontalPodAutoscaler"]["spec"]
    assert (limits["minReplicas"], limits["maxReplicas"]) == (3, 4)
    for kind in ("Deployment", "Job"):
        container = manifests[kind]["spec"]["template"]["spec"]["containers"][0]
        assert container["image"] == "registry.example.com/my-service:0.1.0"
        [settings] = [each["configMapRef"]["name"] for each in container["envFrom"]]
        assert "LOG_LEVEL" in configured[settings]
    pod = manifests["Deployment"]["spec"]["template"]["spec"]
    [proxy] = [each["configMap"]["name"] for each in pod["volumes"] if "configMap" in each]
    assert configured[proxy] == {"nginx.conf": project.read("deploy/proxy/nginx.conf")}


@pytest.fixture(scope="module", params=SLUGS)
def slug(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def named(bake: Bake, slug: str) -> BakedProject:
    return bake(project_slug=slug, kubernetes="yes")


def test_any_slug_gives_a_namespace_and_an_image(named: BakedProject, slug: str) -> None:
    label = as_dns_label(slug)
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", label)
    assert label != "default"
    assert not label.startswith("kube-")
    overlay = yaml.safe_load(named.read(f"{OVERLAY}/kustomization.yaml"))
    assert overlay["namespace"] == label
    assert overlay["images"][0]["newName"] == f"registry.example.com/{label}"
    readme = named.read("deploy/README.md")
    assert re.findall(r"kubectl create namespace (\S+)", readme) == [label]
    assert re.findall(r"docker push (\S+):", readme) == [f"registry.example.com/{label}"]


@pytest.mark.slow
@needs_kubectl
def test_any_slug_is_built_by_kustomize(named: BakedProject, slug: str) -> None:
    for manifest in build(named.path / OVERLAY):
        validate(manifest, VERSIONS[-1], strict=True)
        assert manifest["metadata"]["namespace"] == as_dns_label(slug)


def test_the_readme_speaks_of_files_that_exist(project: BakedProject) -> None:
    named = re.findall(r"`((?:base|overlays|proxy)/[\w./-]+)`", project.read("deploy/README.md"))
    named += re.findall(r"-k deploy/(\S+)", project.read("deploy/README.md"))
    assert len(named) > 8
    assert [name for name in named if not project.has(f"deploy/{name}")] == []
