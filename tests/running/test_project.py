"""Rendered projects pass their own checks, and the template's Python passes them unrendered."""

import os
import re
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from httpx2 import Client, TransportError

from tests.conftest import TEMPLATE, Bake, BakedProject

ARTICLE = {
    "project_name": 'The "Article\'s" Service',
    "project_slug": "article",
    "database_schema": 'Odd-Schema "x"',
    "pool_size": "100",
    "max_overflow": "0",
    "pool_pre_ping": "no",
}
HOSTILE = {
    "project_name": 'It\'s "quoted" \\ 🙂 </script> %(x)s #',
    "project_slug": "hostile",
    "description": "''' \"\"\" }} $HOME `id` \\n\nsecond line é",
    "database_schema": "it's a \\ %(schema)s",
    "pool_size": "1",
    "pool_timeout": "1",
    "pool_pre_ping": "yes",
    "ci": "none",
    "kubernetes": "yes",
}
CHECKS = [
    "ruff check .",
    "ruff format --check .",
    "mypy",
    "ty check",
    "pytest -q -n 2",
]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param({}, id="defaults", marks=pytest.mark.nightly),  # test_commands.py runs the same commands
        pytest.param(ARTICLE, id="article", marks=pytest.mark.nightly),
        pytest.param(HOSTILE, id="hostile"),
    ],
)
def project(request: pytest.FixtureRequest, bake: Bake) -> BakedProject:
    """A project with the default answers, one with the article's numbers, one with answers that mean harm."""
    return bake(**request.param)


def run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    """Run a command that must succeed; return what it printed."""
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("check", CHECKS)
def test_a_rendered_project_passes_its_own_check(
    project: BakedProject, environment: dict[str, str], check: str
) -> None:
    run(["uv", "run", *check.split()], project.path, environment)


def test_the_checks_are_the_ones_that_the_rendered_ci_runs(bake: Bake) -> None:
    for ci, name in [("github", ".github/workflows/ci.yml"), ("gitlab", ".gitlab-ci.yml")]:
        text = bake(ci=ci).read(name)
        for check in CHECKS:
            assert "uv run " + re.sub(r"-q -n \d", "-n auto", check) in text


def test_the_migrations_check_of_the_rendered_ci_passes(bake: Bake, environment: dict[str, str]) -> None:
    project = bake()
    workflow = project.read(".github/workflows/ci.yml")
    commands = re.findall(r"uv run (python -m dev alembic [a-z ]+)", workflow)
    assert [command.split()[-1] for command in commands] == ["head", "check"]
    for command in commands:
        run(["uv", "run", *command.split()], project.path, environment)


@pytest.mark.parametrize("check", ["ruff check .", "ruff format --check .", "mypy"])
def test_the_template_itself_passes_its_checks(check: str) -> None:
    run(["uv", "run", *check.split()], TEMPLATE, dict(os.environ))


def test_the_python_passes_unrendered(environment: dict[str, str], tmp_path: Path) -> None:
    """What an editor shows of the template's own files is clean; `app/config.py` alone holds answers."""
    source = TEMPLATE / "{{cookiecutter.project_slug}}"
    config = tmp_path / "mypy.toml"
    settings = (source / "pyproject.toml").read_text(encoding="utf-8")
    config.write_text(settings + '\n[[tool.mypy.overrides]]\nmodule = ["app.config"]\nignore_errors = true\n')
    venv = environment["UV_PROJECT_ENVIRONMENT"]
    variables = environment | {"RUFF_NO_CACHE": "true", "MYPY_CACHE_DIR": str(tmp_path / "cache")}
    for check in [
        "ruff check --exclude app/config.py",
        "ruff format --check --exclude app/config.py",
        f"mypy --config-file {config}",
        f"ty check --exclude app/config.py --python {venv}",
    ]:
        command = ["uv", "run", "--no-project", "--python", venv, *check.split()]
        run(command, source, variables | {"VIRTUAL_ENV": venv})


def test_the_benchmarks_are_typed_and_their_contenders_right(bake: Bake, environment: dict[str, str]) -> None:
    project = bake().path
    libraries = ["fastcrud", "matplotlib", "psutil", "trustme", "types-psutil"]
    typed = ["mypy", "--config-file", "pyproject.toml", "--explicit-package-bases"]
    run(
        [
            "uv",
            "run",
            *(f"--with={each}" for each in libraries),
            *typed,
            str(TEMPLATE / "benchmarks"),
            "--exclude=locustfile|__main__",
        ],
        project,
        environment | {"MYPYPATH": f".:{TEMPLATE}:{TEMPLATE / 'tests'}"},
    )
    run(["uv", "run", "python", "-m", "benchmarks", "check"], TEMPLATE, dict(os.environ))


@contextmanager
def serving(project: Path, environment: dict[str, str]) -> Generator[str]:
    """Serve a project as its README says, `uv run python -m dev`; yield the URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{(port := probe.getsockname()[1])}"
    command = ["uv", "run", "python", "-m", "dev", "--port", str(port)]
    server = subprocess.Popen(command, cwd=project, env=environment)
    try:
        with Client(base_url=url) as client:
            wait_until_served(client)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=30)


def test_the_first_command_serves_a_user_from_a_real_database(
    bake: Bake, environment: dict[str, str]
) -> None:
    with serving(bake().path, environment) as url, Client(base_url=url) as client:
        created = client.post("/users", json={"email": "ada@example.com"})
        assert created.status_code == 201
        assert client.get(f"/users/{created.json()['id']}").raise_for_status().json() == created.json()
        assert "swagger" in client.get("/docs").text
        assert client.get("/openapi.json").raise_for_status().json()["info"]["title"] == "My Service"


def test_schemathesis_finds_no_fault(bake: Bake, environment: dict[str, str]) -> None:
    """Requests made from the service's own OpenAPI document, fit and unfit: no 500, nothing undocumented."""
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    with serving(bake().path, environment) as url:
        command = ["uv", "tool", "run", "schemathesis@4.32.5", "run", f"{url}/openapi.json"]
        run([*command, "--checks", checks, "--max-examples", "30"], bake().path, environment)


def wait_until_served(client: Client) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            client.get("/health/ready").raise_for_status()
        except TransportError:
            assert time.monotonic() < deadline, "the service does not answer"
            time.sleep(0.1)
        else:
            return


def test_the_readmes_speak_of_files_that_exist(bake: Bake) -> None:
    project = bake()
    for folder in (project.path, TEMPLATE):
        readme = (folder / "README.md").read_text(encoding="utf-8")
        named = re.findall(r"`((?:app|dev|docs|tests|migrations|hooks|benchmarks)/[\w./]*)`", readme)
        assert named
        # The README's own examples are about things that the reader is to add.
        missing = [name for name in named if "thing" not in name]
        assert [name for name in missing if not (project.has(name) or (TEMPLATE / name).exists())] == []
