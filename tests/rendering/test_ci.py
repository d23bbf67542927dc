"""The files of CI, ours and the rendered: what runs is named by its content, and may do little."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import TEMPLATE, Bake, git

ACTION = re.compile(r"^[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
PROJECT = "project"
OURS = "template"


@pytest.fixture(params=[OURS, PROJECT])
def folder(request: pytest.FixtureRequest, bake: Bake) -> Path:
    return TEMPLATE if request.param == OURS else bake(ci="github", kubernetes="yes").path


def actions(folder: Path) -> set[str]:
    """Return each action of the workflows, with the comment that says its version."""
    text = "".join(path.read_text() for path in (folder / ".github" / "workflows").glob("*.yml"))
    return set(re.findall(r"uses: (?!\$/)(.*)", text))


def test_actions_are_named_by_commit_and_are_the_same_everywhere(bake: Bake) -> None:
    ours, rendered = actions(TEMPLATE), actions(bake(ci="github").path)
    assert [action for action in ours | rendered if not ACTION.match(action)] == []
    assert rendered <= ours


def test_zizmor_finds_nothing(folder: Path) -> None:
    zizmor = str(Path(sys.executable).with_name("zizmor"))
    command = [zizmor, "--offline", "--persona", "pedantic", str(folder / ".github")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_files_are_what_github_reads(folder: Path) -> None:
    workflows = sorted((folder / ".github" / "workflows").glob("*.yml"))
    checks = [("github-workflows", workflows), ("dependabot", [folder / ".github" / "dependabot.yml"])]
    for schema, files in checks:
        command = [
            sys.executable,
            "-m",
            "check_jsonschema",
            "--builtin-schema",
            f"vendor.{schema}",
            *map(str, files),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_new_version_waits_a_week(folder: Path) -> None:
    updates = yaml.safe_load((folder / ".github" / "dependabot.yml").read_text())["updates"]
    assert {"github-actions", "uv"} <= {update["package-ecosystem"] for update in updates}
    assert {update["cooldown"]["default-days"] for update in updates} == {7}


def test_images_are_named_by_digest(bake: Bake) -> None:
    project = bake(kubernetes="yes")
    names = re.findall(r"^(?:FROM|COPY --from=)\s*([^\s=]+[:/]\S+)", project.read("Dockerfile"), re.MULTILINE)
    for file in ("compose.yaml", "deploy/base/deployment.yaml"):
        names += re.findall(r"image: (\S+)", project.read(file))
    names = [name for name in names if name not in ("service", "api")]  # the project's own
    assert len(names) >= 5
    assert [name for name in names if not re.search(r":[\w.-]+@sha256:[0-9a-f]{64}$", name)] == []
    assert len({name.partition(":")[0] for name in names}) == len(set(names))  # of each image, one version


@pytest.mark.parametrize("ci", ["github", "gitlab"])
def test_the_lock_file_is_the_owners(bake: Bake, ci: str) -> None:
    text = bake(ci=ci).read(".github/workflows/ci.yml" if ci == "github" else ".gitlab-ci.yml")
    variables = yaml.safe_load(text)["env" if ci == "github" else "variables"]
    assert variables == {"UV_LOCKED": "1"}


def test_the_notes_for_agents_are_short(bake: Bake) -> None:
    assert len(bake().read("AGENTS.md").splitlines()) <= 20


@pytest.mark.slow
def test_a_commit_is_checked_with_the_projects_own_tools(bake: Bake, environment: dict[str, str]) -> None:
    project = bake().path
    git(project, "init", "--quiet")
    types = project / "app" / "setting_types.py"
    types.write_text(types.read_text() + 'import os\nANSWER:int = "x" + os.sep\n')
    git(project, "add", "--all")
    command = ["uv", "tool", "run", "--quiet", "prek@0.5.11", "run", "--all-files"]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    hooks = re.findall(r"^(\w.*?)\.\.+(\w+)$", done.stdout, re.MULTILINE)
    assert hooks == [(name, "Failed") for name in ("ruff check", "ruff format", "mypy")], done.stdout
    for found in ("E402", "1 file reformatted", "Incompatible types in assignment"):
        assert found in done.stdout
