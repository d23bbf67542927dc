"""The rendered project takes the last SQLAlchemy 2.0 as well as 2.1: some libraries still need 2.0."""

import tomllib

import pytest

from tests.conftest import Bake, BakedProject
from tests.running.test_project import run
from tests.running.test_service import LIBRARIES, SESSIONS, run_tests

LAST = "sqlalchemy<2.1"
# Where the two differ: enums, the errors of a server that is away, and the driver's error inside of another.
OTHERS = [
    "migrations/test_enums.py", "habits/test_telemetry.py", "faults/test_logs.py", "faults/test_outages.py",
    "habits/test_recipes.py",  # the schemas of tenants
]  # fmt: skip


def version(project: BakedProject, environment: dict[str, str], *options: str) -> str:
    """Return which SQLAlchemy a command of the project gets."""
    command = ["uv", "run", *options, "python", "-c", "import sqlalchemy; print(sqlalchemy.__version__)"]
    return run(command, project.path, environment)


def test_uv_takes_the_newest_unless_it_is_told_otherwise(bake: Bake, environment: dict[str, str]) -> None:
    project = bake()
    assert version(project, environment, f"--with={LAST}").startswith("2.0.")
    assert version(project, environment).startswith("2.1.")


def test_a_library_that_needs_2_0_can_be_added(bake: Bake, environment: dict[str, str]) -> None:
    project = bake()
    run(["uv", "add", "--no-sync", "fastapi-users[sqlalchemy]>=15,<16"], project.path, environment)
    locked = tomllib.loads(project.read("uv.lock"))["package"]
    [sqlalchemy] = [package["version"] for package in locked if package["name"] == "sqlalchemy"]
    assert sqlalchemy.startswith("2.0.")


@pytest.mark.nightly
def test_the_rendered_tests_pass_on_2_0(bake: Bake, environment: dict[str, str]) -> None:
    run(["uv", "run", f"--with={LAST}", "pytest", "-q", "-n", "2"], bake().path, environment)


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(SESSIONS, id="sessions"),
        pytest.param(OTHERS, id="others", marks=pytest.mark.nightly),
    ],
)
def test_the_service_keeps_its_promises_on_2_0(
    bake: Bake, environment: dict[str, str], names: list[str]
) -> None:
    run_tests(bake(), environment, *names, libraries=[LAST, *LIBRARIES])
