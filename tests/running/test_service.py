"""The tests in `service/`, run inside rendered projects: what the template promises of the service.

They take the libraries, the settings of pytest and the rules of the project that they run in.
"""

import shutil

import pytest

from tests.conftest import TEMPLATE, Bake, BakedProject
from tests.running.test_project import HOSTILE, run

HOUSE = TEMPLATE / "tests" / "service"
SESSIONS = [f"habits/test_{name}.py" for name in ("sessions", "requests", "dependencies")]
SUBJECTS = ["habits", "start_and_stop", "migrations", "deployment", "faults"]
# Needed by these tests alone: certificates, types of what they parse, and a client for a websocket.
LIBRARIES = [
    "hypothesis>=6.150,<7",
    "pyyaml>=6,<7",
    "trustme>=1.2,<2",
    "types-pyyaml>=6,<7",
    "websockets>=17,<18",
]


def uv_run(project: BakedProject, environment: dict[str, str], libraries: list[str], *command: str) -> str:
    """Run a command in the project, with these libraries besides its own."""
    found_here = {"PYTHONPATH": str(HOUSE.parent), "MYPYPATH": str(HOUSE.parent)}
    options = [f"--with={library}" for library in libraries]
    return run(["uv", "run", *options, *command], project.path, environment | found_here)


def run_tests(
    project: BakedProject, environment: dict[str, str], *names: str, libraries: list[str] = LIBRARIES
) -> str:
    """Run these tests. The project has tests and a conftest.py of its own: these are not its."""
    options = ["-q", "-n", "2", "-p", "no:cacheprovider", "-c", "pyproject.toml"]
    folders = [f"--rootdir={HOUSE.parent}", f"--confcutdir={HOUSE}"]
    tests = [str(HOUSE / name) for name in names]
    return uv_run(project, environment, libraries, "pytest", *options, *folders, *tests)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_service_of_hostile_answers_keeps_its_promises(
    bake: Bake, environment: dict[str, str], subject: str
) -> None:
    run_tests(bake(**HOSTILE), environment, subject)


def test_every_subject_is_run() -> None:
    folders = {path.parent.name for path in HOUSE.rglob("test_*.py")}
    assert folders == {*SUBJECTS, "scaling", "libraries"}


def test_a_service_of_hostile_answers_can_be_scaled(bake: Bake, environment: dict[str, str]) -> None:
    output = run_tests(bake(**HOSTILE), environment, "scaling")
    if all(shutil.which(program, path="/usr/sbin:/usr/bin") for program in ("pgbouncer", "nginx")):
        assert "skipped" not in output


@pytest.mark.parametrize(
    "names",
    [
        # The same answers run on SQLAlchemy 2.0: test_versions.py.
        pytest.param(SESSIONS, id="sessions", marks=pytest.mark.nightly),
        pytest.param(["faults"], id="faults", marks=pytest.mark.nightly),
    ],
)
def test_a_service_of_the_default_answers_keeps_its_promises(
    bake: Bake, environment: dict[str, str], names: list[str]
) -> None:
    run_tests(bake(), environment, *names)


# ty does not find by itself what `uv run --with` adds.
TY = """
import subprocess, sys
added = [f"--extra-search-path={path}" for path in sys.path if path.endswith("site-packages")]
sys.exit(subprocess.run(["ty", "check", *added, *sys.argv[1:]]).returncode)
"""


@pytest.mark.parametrize(
    "checker", [["mypy", "--explicit-package-bases"], ["python", "-c", TY]], ids=["mypy", "ty"]
)
def test_these_tests_are_typed(bake: Bake, environment: dict[str, str], checker: list[str]) -> None:
    """The tests of other libraries are typed where these are installed. Ruff: see `service/ruff.toml`."""
    files = [str(path) for path in HOUSE.rglob("*.py") if path.parent.name != "libraries"]
    search = [] if checker[0] == "mypy" else ["--extra-search-path", str(HOUSE.parent)]
    uv_run(bake(), environment, LIBRARIES, *checker, *search, *files)
