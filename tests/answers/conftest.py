"""Fixtures of several files."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.answers.ways import Way

OTHERS = [pytest.param(way, marks=pytest.mark.slow) for way in ("config file", "replay", "cruft")]

WAYS = [
    "key=value",
    *(pytest.param(way, marks=pytest.mark.slow) for way in ("config file", "replay", "cruft")),
]


@pytest.fixture(params=["key=value", *OTHERS])
def way(request: pytest.FixtureRequest, home: Path, template_repository: Path) -> Way:
    return Way(request.param, home, template_repository)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[str]:
    """An expression that makes a folder if anything renders it."""
    folder = tmp_path / "ran"
    yield f"cycler.__init__.__globals__.os.mkdir('{folder}')"
    assert not folder.exists()
