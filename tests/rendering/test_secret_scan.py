"""The secret scan of the rendered CI: what it finds, and that it finds nothing in a new project."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import Bake

PASSWORD = "hunter2" + "x"  # in two parts: no scan of this repository is to find it
KEY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"
PLANTED = {
    "app/urls.py": f'URL = "postgresql://app:{PASSWORD}@db.example.com/app"',
    "docs/url.md": f"postgresql://user:password@host/db, postgresql://app:{PASSWORD}@db.example.com/app",
    "tests/urls.py": f'URL = "postgresql+asyncpg://app:{PASSWORD}@db.example.com/app"',
    "tests/key.pem": f"-----BEGIN PRIVATE KEY-----\n{KEY}\n-----END PRIVATE KEY-----",
    "docs/psql.md": f'psql "host=db.example.com user=app password={PASSWORD} dbname=app"',
    "docs/psql2.md": f'psql "password={PASSWORD} host=db.example.com"',
    "settings.yaml": f"DSN: postgresql://db.example.com/app?user=app&password={PASSWORD}",
    "variables.yaml": f"PGPASSWORD: {PASSWORD}",
    "script.sh": f"export PGPASSWORD={PASSWORD}",
    "odd.md": "postgresql://app:hun!ter2x@db.example.com/app",
    "odd.lock": f"postgresql://app:{PASSWORD}/+=@db.example.com/app",
    "quoted.yaml": "PGPASSWORD: '!x'",
    "roles.sql": f"ALTER ROLE app PASSWORD '{PASSWORD}';",
}


def commands(project: Path, ci: str) -> list[str]:
    """Return the commands that read the files."""
    if ci == "github":
        workflow = yaml.safe_load((project / ".github/workflows/ci.yml").read_text())
        steps = [step.get("run", "") for step in workflow["jobs"]["security"]["steps"]]
    else:
        steps = yaml.safe_load((project / ".gitlab-ci.yml").read_text())["security"]["script"]
    return [step for step in steps if "git ls-files" in step or "git grep" in step]


def found(project: Path, ci: str) -> set[str]:
    """Commit what is there in git's index, run the scan, and return the files that it names."""
    subprocess.run(["git", "add", "--all"], cwd=project, check=True)
    output = ""
    for command in commands(project, ci):
        done = subprocess.run(
            ["bash", "-ec", command], cwd=project, capture_output=True, text=True, check=False
        )
        assert done.returncode in (0, 1, 123), done.stderr  # 123: of xargs
        assert bool(done.returncode) is bool(done.stdout), done
        output += done.stdout
    files = set(re.findall(r"^(?:Location: +)?([\w./-]+):\d+", output, re.MULTILINE))
    assert bool(files) is bool(output), output
    return files


@pytest.mark.slow
@pytest.mark.parametrize("ci", ["github", "gitlab"])
def test_the_scan_finds_a_secret_in_any_file_and_nothing_in_a_new_project(bake: Bake, ci: str) -> None:
    project = bake(ci=ci, kubernetes="yes", database_url=f"postgresql://u:{PASSWORD}@h/db").path
    subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)
    assert len(commands(project, ci)) == 2
    assert found(project, ci) == set()
    for name, line in PLANTED.items():
        (project / name).write_text(f"{line}\n")
    assert found(project, ci) == set(PLANTED)
