"""What several tests of faults run on."""

from collections.abc import Generator
from pathlib import Path

import pytest

from service.databases import new_home


@pytest.fixture(scope="module")
def home() -> Generator[Path]:
    """The folder of a server that a test may stop, start or freeze."""
    with new_home() as home:
        yield home
