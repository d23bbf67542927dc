"""Libraries that owners use work on the sessions as they are. Each test installs one library for itself."""

import pytest

from tests.conftest import Bake
from tests.running.test_service import HOUSE, TY, run_tests, uv_run

# uv takes the newest SQLAlchemy that the library allows.
LIBRARIES = {
    "test_fastapi_users.py": "fastapi-users[sqlalchemy]>=15,<16",
    "test_fastcrud.py": "fastcrud>=0.23,<0.24",
    "test_fastapi_pagination.py": "fastapi-pagination>=0.16.1,<0.17",
    "test_sqladmin.py": "sqladmin>=0.32,<0.33",
    "test_sqlmodel.py": "sqlmodel>=0.0.50,<0.1",
    "test_taskiq.py": "taskiq[zmq]>=0.13,<0.14",
    "test_celery.py": "celery>=5.7,<6",
    "test_polyfactory.py": "polyfactory>=3.5,<4",
}


NIGHTLY = ("test_celery.py", "test_sqlmodel.py")  # starts and stops workers; has models of its own


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.nightly] * (name in NIGHTLY)) for name in LIBRARIES]
)
def test_the_library_works_on_the_sessions(bake: Bake, environment: dict[str, str], name: str) -> None:
    output = run_tests(bake(), environment, f"libraries/{name}", libraries=[LIBRARIES[name]])
    assert "skipped" not in output


def test_every_library_has_its_test() -> None:
    assert sorted(LIBRARIES) == sorted(path.name for path in (HOUSE / "libraries").glob("test_*.py"))


@pytest.mark.parametrize(
    "checker",
    [["mypy", "--explicit-package-bases"], ["python", "-c", TY, "--extra-search-path", str(HOUSE.parent)]],
    ids=["mypy", "ty"],
)
def test_the_tests_of_the_libraries_are_typed(
    bake: Bake, environment: dict[str, str], checker: list[str]
) -> None:
    files = map(str, (HOUSE / "libraries").glob("*.py"))  # ty finds none in a folder outside the project
    uv_run(bake(), environment, list(LIBRARIES.values()), *checker, *files)
