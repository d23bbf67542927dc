"""A release: one version everywhere, its notes, and a project that goes from one tag to the next."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.conftest import TEMPLATE, commit, cruft, git

VERSION = tomllib.loads((TEMPLATE / "pyproject.toml").read_text())["project"]["version"]
CHANGELOG = (TEMPLATE / "CHANGELOG.md").read_text()
RELEASE = yaml.safe_load((TEMPLATE / ".github" / "workflows" / "release.yml").read_text())
SCRIPTS = [
    step["run"] for job in ("version", "release") for step in RELEASE["jobs"][job]["steps"] if "run" in step
]


def test_the_version_is_the_newest_of_the_changelog() -> None:
    released = re.findall(r"^## (\d+\.\d+\.\d+) - \d{4}-\d\d-\d\d$", CHANGELOG, re.MULTILINE)
    assert released[0] == VERSION
    assert released == sorted(
        released, key=lambda text: [int(part) for part in text.split(".")], reverse=True
    )


def test_the_readme_takes_the_newest_release() -> None:
    named = re.findall(r"--checkout v([\d.]+\d)", (TEMPLATE / "README.md").read_text())
    assert len(named) > 2
    assert set(named) == {VERSION}


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(("tag", "status"), [(f"v{VERSION}", 0), ("v0.0.1", 1), ("v1", 1)])
def test_the_release_of_a_tag_has_the_notes_of_its_version_or_fails(
    tmp_path: Path, tag: str, status: int
) -> None:
    for name in ("CHANGELOG.md", "pyproject.toml"):
        shutil.copy(TEMPLATE / name, tmp_path)
    # What asks GitHub is replaced by a program that says what it was asked.
    (tmp_path / "gh").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "gh").chmod(0o755)
    variables = {"GITHUB_REF_NAME": tag, "PATH": f"{tmp_path}:/usr/bin:/bin"}
    for script in SCRIPTS:
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", script],
            cwd=tmp_path, env=variables, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            break
    assert done.returncode == status, done.stderr
    if status == 0:
        assert done.stdout.startswith(f"release create {tag} --verify-tag --notes-file notes.md")
        notes = (tmp_path / "notes.md").read_text()
        assert notes.strip()
        assert notes.strip() in CHANGELOG
        assert "## " not in notes.replace("### ", "")
    else:
        assert f"pyproject.toml has {VERSION}" in done.stdout


@pytest.mark.slow
def test_a_project_goes_from_one_tag_to_the_next(home: Path, template: Path, tmp_path: Path) -> None:
    git(template, "tag", "v1.0.0")
    config = template / "{{cookiecutter.project_slug}}" / "app" / "config.py"
    for version in ("v1.1.0", "v1.2.0"):
        config.write_text(f"{config.read_text()}# What {version} has.\n")
        commit(template, version)
        git(template, "tag", version)
    made = cruft(tmp_path, "create", str(template), "--no-input", "--checkout", "v1.0.0")
    assert made.returncode == 0, made.stderr
    project = tmp_path / "my-service"
    git(project, "init", "--quiet", "--initial-branch=main")
    commit(project, "My service")
    assert "# What v1" not in (project / "app" / "config.py").read_text()

    updated = cruft(project, "update", "--skip-apply-ask", "--checkout", "v1.1.0")
    assert updated.returncode == 0, updated.stdout + updated.stderr
    assert (project / "app" / "config.py").read_text().endswith("# What v1.1.0 has.\n")
    record = json.loads((project / ".cruft.json").read_text())
    assert (record["checkout"], record["commit"]) == ("v1.1.0", git(template, "rev-parse", "v1.1.0").strip())
    commit(project, "Update")
    assert cruft(project, "check", "--checkout", "v1.1.0").returncode == 0
    assert cruft(project, "check").returncode == 1  # without a tag: the newest commit
    assert cruft(project, "update", "--skip-apply-ask", "--checkout", "v1.2.0").returncode == 0
    assert (project / "app" / "config.py").read_text().endswith("# What v1.1.0 has.\n# What v1.2.0 has.\n")
