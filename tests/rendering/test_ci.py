"""The files of CI, ours and the rendered: what runs is named by its content, and may do little."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

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


SYSTEMS = ["ubuntu-latest", "macos-latest", "windows-latest"]
PROGRAMS = "sudo apt-get update && sudo apt-get install --yes pgbouncer nginx"


def workflow(folder: Path, name: str) -> dict[Any, Any]:
    """Return a workflow, whose `on` is True to YAML 1.1."""
    loaded: dict[Any, Any] = yaml.safe_load((folder / ".github" / "workflows" / f"{name}.yml").read_text())
    return loaded


def runs(job: dict[str, Any]) -> list[str]:
    """Return what a job runs, of each step the first line."""
    return [step["run"].splitlines()[0] for step in job["steps"] if "run" in step]


def test_our_ci_runs_everything_on_each_system() -> None:
    jobs = workflow(TEMPLATE, "ci")["jobs"]
    assert {name: job["strategy"]["matrix"]["os"] for name, job in jobs.items()} == dict.fromkeys(
        jobs, SYSTEMS
    )
    checks = ["uv run ruff check .", "uv run ruff format --check .", "uv run mypy", "uv run pytest -n 2"]
    assert runs(jobs["test"]) == [PROGRAMS, *checks]
    first, served = runs(jobs["first-request"])
    assert first in (TEMPLATE / "README.md").read_text()
    assert served.removesuffix(" &") in (TEMPLATE / "README.md").read_text()
    nightly = workflow(TEMPLATE, "nightly")
    assert nightly[True]["schedule"]
    assert runs(nightly["jobs"]["test"]) == [PROGRAMS, "uv run pytest -n 2 -m nightly"]
    assert runs(nightly["jobs"]["audit"])[0] == "uv audit"


def test_a_release_is_a_tag_that_was_tested() -> None:
    release = workflow(TEMPLATE, "release")
    assert release[True] == {"push": {"tags": ["v*"]}}
    assert [job.get("needs") for job in release["jobs"].values()] == [None, "version", "test"]
    assert release["jobs"]["test"]["uses"] == "$/.github/workflows/ci.yml"


def test_the_rendered_ci_checks_each_push_and_audits_each_week(bake: Bake) -> None:
    rendered = workflow(bake(ci="github").path, "ci")
    assert rendered[True]["schedule"]
    gitlab = yaml.safe_load(bake(ci="gitlab").read(".gitlab-ci.yml"))
    for checks, security in [
        (runs(rendered["jobs"]["check"]), runs(rendered["jobs"]["security"])),
        (gitlab["check"]["script"], gitlab["security"]["script"]),
    ]:
        assert [line for line in checks if "pytest" in line] == ["uv run pytest -n auto"]
        assert [line.split()[-1] for line in checks if "alembic" in line] == ["head", "check"]
        assert security[0] == "uv audit"
        assert len(security) == 3


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
