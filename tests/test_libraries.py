"""Libraries that owners use work on the sessions as they are. Each test installs one library for itself."""

import pytest

from tests.conftest import Bake
from tests.test_service import HOUSE, run_tests, uv_run

# uv takes the newest SQLAlchemy that the library allows.
LIBRARIES = {
    "test_fastapi_users.py": "fastapi-users[sqlalchemy]>=15,<16",
    "test_fastcrud.py": "fastcrud>=0.23,<0.24",
    "test_fastapi_pagination.py": "fastapi-pagination>=0.16.1,<0.17",
    "test_sqladmin.py": "sqladmin>=0.32,<0.33",
}


@pytest.mark.parametrize("name", LIBRARIES)
def test_the_library_works_on_the_sessions(bake: Bake, environment: dict[str, str], name: str) -> None:
    output = run_tests(bake(), environment, f"libraries/{name}", libraries=[LIBRARIES[name]])
    assert "skipped" not in output


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
    uv_run(bake(), environment, list(LIBRARIES.values()), *checker, str(HOUSE / "libraries"))
