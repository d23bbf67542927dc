"""`bake`: render the template as cookiecutter does, away from the user's own configuration."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from cookiecutter.main import cookiecutter

TEMPLATE = Path(__file__).parents[1]
# How the variables begin that a rendered service reads.
SETTINGS = ("DATABASE_", "OTEL_", "WEB_CONCURRENCY", "MAX_BODY_SIZE", "CORS_ORIGINS", "DOCS", "LOG_LEVEL")
collect_ignore = ["service"]  # these tests run inside rendered projects: see test_service.py


@dataclass(frozen=True)
class BakedProject:
    """A rendered project."""

    path: Path

    def has(self, name: str) -> bool:
        return (self.path / name).exists()

    def read(self, name: str) -> str:
        return (self.path / name).read_bytes().decode()

    def files(self) -> list[Path]:
        return sorted(path for path in self.path.rglob("*") if path.is_file())


Bake = Callable[..., BakedProject]


@pytest.fixture(scope="session")
def bake(tmp_path_factory: pytest.TempPathFactory) -> Bake:
    """Return a function that renders the template with the answers it is given."""
    home = tmp_path_factory.mktemp("cookiecutter")
    config = {"replay_dir": str(home / "replay"), "cookiecutters_dir": str(home / "cookiecutters")}

    def bake(**answers: str) -> BakedProject:
        output = tmp_path_factory.mktemp("baked")
        project = cookiecutter(
            str(TEMPLATE), no_input=True, extra_context=answers, output_dir=str(output), default_config=config
        )
        return BakedProject(Path(project))

    return bake


@pytest.fixture(scope="session")
def template_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template as it stands, committed to a repository of its own: cruft renders what is committed."""
    repository = tmp_path_factory.mktemp("repository") / "template"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=TEMPLATE, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, names):
        if (TEMPLATE / name).exists():
            (repository / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(TEMPLATE / name, repository / name)
    git(repository, "init", "--quiet", "--initial-branch=main")
    commit(repository, "The template")
    return repository


@pytest.fixture
def template(template_repository: Path, tmp_path: Path) -> Path:
    """A clone of the template, for a test to change."""
    git(tmp_path, "clone", "--quiet", str(template_repository), str(tmp_path / "template"))
    return tmp_path / "template"


def git(repository: Path, *arguments: str) -> str:
    """Run git as somebody who has not configured it."""
    somebody = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.com"]
    command = ["git", *somebody, *arguments]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True).stdout


def commit(repository: Path, message: str) -> None:
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", message)


def cruft(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run cruft in the folder."""
    command = [sys.executable, "-m", "cruft", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@cache
def uv_cache() -> str:
    """Return where uv keeps what it downloaded."""
    return subprocess.run(["uv", "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, with a folder for temporary files: what a run can write to besides its output."""
    home = tmp_path / "home"
    (home / "tmp").mkdir(parents=True)
    monkeypatch.setenv("UV_CACHE_DIR", uv_cache())  # what is installed is not downloaded again
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(home))
    for variable in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(variable, str(home / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return home


@pytest.fixture(scope="session")
def environment(bake: Bake, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables under which `uv run` finds the dependencies of rendered projects, installed once."""
    variables = {
        name: value
        for name, value in os.environ.items()
        # What the caller's own project or this machine has set must not reach a rendered one.
        if not name.startswith((*SETTINGS, "TEST_DATABASE_", "PYTEST_", "VIRTUAL_ENV", "PYTHONDONTWRITE"))
    }
    variables["UV_PROJECT_ENVIRONMENT"] = str(tmp_path_factory.mktemp("environment") / "venv")
    subprocess.run(["uv", "sync", "--quiet"], cwd=bake().path, env=variables, check=True)
    return variables


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what takes minutes, and run it first: at the end, one process would wait for the other."""
    for item in items:
        installs = "environment" in getattr(item, "fixturenames", ())
        if installs or item.get_closest_marker("nightly"):
            item.add_marker("slow")
    items.sort(key=lambda item: item.path.name != "test_service.py")
