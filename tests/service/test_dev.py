"""`python -m dev` and its PostgreSQL: no server outlives what started it, and data does."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from httpx2 import Client, TransportError

from dev.postgres import PostgresUnavailableError, check_available
from service.tools import PROJECT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the signals are POSIX's")


@pytest.fixture(scope="module")
def project() -> Generator[Path]:
    """A copy of the project, in a folder with a space, with no database configured."""
    try:
        check_available()
    except PostgresUnavailableError as reason:
        pytest.skip(str(reason))
    with TemporaryDirectory(prefix="a copy ") as name:
        folder = Path(name)
        folder.chmod(0o755)  # root's server may have to run as another user
        for part in ["app", "dev", "migrations"]:
            shutil.copytree(PROJECT / part, folder / part)
        shutil.copy(PROJECT / "pyproject.toml", folder)
        yield folder


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL")


def answers(client: Client, probe: str) -> bool:
    try:
        return client.get(f"/health/{probe}").status_code == 200
    except TransportError:
        return False


@contextmanager
def running_dev(project: Path) -> Generator[tuple[subprocess.Popen[bytes], Client]]:
    """Start `python -m dev` as a shell would, in a process group of its own, and wait until it serves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "dev", "--port", str(port)]
    process = subprocess.Popen(
        command, cwd=project, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    with Client(base_url=f"http://127.0.0.1:{port}") as client:
        try:
            deadline = time.monotonic() + 60
            while not answers(client, "ready"):
                assert process.poll() is None, "python -m dev ended"
                assert time.monotonic() < deadline, "python -m dev does not serve"
                time.sleep(0.1)
            yield process, client
        finally:
            process.kill()
            process.wait()
        deadline = time.monotonic() + 15
        while (project / ".postgres/data/postmaster.pid").exists() or answers(client, "live"):
            assert time.monotonic() < deadline, "a server outlives python -m dev"
            time.sleep(0.1)


@pytest.mark.usefixtures("environment")
def test_every_way_to_stop_it_stops_its_servers_and_keeps_its_data(project: Path) -> None:
    with running_dev(project) as (process, client):
        assert client.post("/users", json={"email": "ada@example.com"}).status_code == 201
        os.killpg(process.pid, signal.SIGINT)  # Ctrl-C
        process.wait(timeout=15)
    with running_dev(project) as (process, client):
        assert client.get("/users/1").status_code == 200
        process.terminate()
        process.wait(timeout=15)
    with running_dev(project) as (process, client):
        assert client.get("/users/1").status_code == 200
        process.kill()


@pytest.mark.usefixtures("environment")
def test_a_command_runs_on_the_database_that_is_being_served(project: Path) -> None:
    with running_dev(project) as (_, client):
        created = client.post("/users", json={"email": "bob@example.com"}).json()
        clear = [sys.executable, "-m", "dev", sys.executable, "-m", "app.users.clear", str(created["id"])]
        done = subprocess.run(clear, cwd=project, capture_output=True, text=True, check=True)
        assert done.stdout.endswith("1 users deleted, 0 ids unknown.\n")
        assert client.get(f"/users/{created['id']}").status_code == 404


def test_a_named_database_is_used_instead(project: Path, own_database: object) -> None:
    command = [
        sys.executable,
        "-m",
        "dev",
        sys.executable,
        "-c",
        "import os; print(os.environ['DATABASE_URL'])",
    ]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == os.environ["DATABASE_URL"]
