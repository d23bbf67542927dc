"""Libraries that owners use work on the sessions as they are. Each test installs one library for itself."""

import pytest

from tests.conftest import Bake
from tests.test_project import run
from tests.test_service import HOUSE

# uv takes the newest SQLAlchemy that the library allows.
LIBRARIES = {
    "test_fastapi_users.py": "fastapi-users[sqlalchemy]>=15,<16",
    "test_fastcrud.py": "fastcrud>=0.23,<0.24",
    "test_fastapi_pagination.py": "fastapi-pagination>=0.16.1,<0.17",
    "test_sqladmin.py": "sqladmin>=0.32,<0.33",
}


OPTIONS = ["-q", "-p", "no:cacheprovider", "-c", "pyproject.toml"]
FOLDERS = [f"--rootdir={HOUSE.parent}", f"--confcutdir={HOUSE}"]
FOUND_HERE = {"PYTHONPATH": str(HOUSE.parent), "MYPYPATH": str(HOUSE.parent)}


@pytest.mark.parametrize("name", LIBRARIES)
def test_the_library_works_on_the_sessions(bake: Bake, environment: dict[str, str], name: str) -> None:
    test = str(HOUSE / "libraries" / name)
    command = ["uv", "run", f"--with={LIBRARIES[name]}", "pytest", *OPTIONS, *FOLDERS, test]
    assert "skipped" not in run(command, bake().path, environment | FOUND_HERE)


def test_every_library_has_its_test() -> None:
    assert sorted(LIBRARIES) == sorted(path.name for path in (HOUSE / "libraries").glob("test_*.py"))


@pytest.mark.parametrize(
    "checker",
    [["mypy", "--explicit-package-bases"], ["ty", "check", "--extra-search-path", str(HOUSE.parent)]],
    ids=["mypy", "ty"],
)
def test_the_tests_of_the_libraries_are_typed(
    bake: Bake, environment: dict[str, str], checker: list[str]
) -> None:
    libraries = [f"--with={library}" for library in LIBRARIES.values()]
    command = ["uv", "run", *libraries, *checker, str(HOUSE / "libraries")]
    run(command, bake().path, environment | FOUND_HERE)
