"""Each file here needs a library that the project does not have: see `tests/running/test_libraries.py`."""

from importlib.util import find_spec

import pytest

LIBRARIES = {
    "test_fastapi_users.py": "fastapi_users",
    "test_fastcrud.py": "fastcrud",
    "test_fastapi_pagination.py": "fastapi_pagination",
    "test_sqladmin.py": "sqladmin",
    "test_sqlmodel.py": "sqlmodel",
    "test_taskiq.py": "taskiq",
    "test_celery.py": "celery",
    "test_polyfactory.py": "polyfactory",
}
collect_ignore = [test for test, library in LIBRARIES.items() if find_spec(library) is None]


@pytest.fixture(autouse=True)
def tables(own_tables: None) -> None:
    """Each test has its tables."""
