"""PostgreSQL servers that a test may stop and start: none of them is the tests' own."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from dev import programs
from dev.programs import PostgresUnavailableError


@contextmanager
def new_home() -> Generator[Path]:
    """Make a folder for servers; skip the test where none can be run."""
    try:
        programs.check_available()
    except PostgresUnavailableError as reason:
        pytest.skip(str(reason))
    with TemporaryDirectory(prefix="postgres-") as name:
        yield Path(name)


def is_running(home: Path) -> bool:
    return programs.succeeds(home, "pg_ctl", "status", "--pgdata", home / "data")


def stop(home: Path, mode: str = "fast") -> None:
    programs.run(home, "pg_ctl", "stop", "--pgdata", home / "data", "--mode", mode)


def start(home: Path, port: int | None) -> None:
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories="
    log = home / "server.log"
    programs.run(home, "pg_ctl", "start", "--pgdata", home / "data", "--log", log, "--options", options)


def follow(home: Path, primary: Path, url: str) -> None:
    """Make `home` the folder of a replica: its server takes the same password, and follows the primary."""
    home.mkdir(mode=0o700)
    programs.hand_over(home)
    (home / "password").write_text((primary / "password").read_text())
    programs.run(
        home, "pg_basebackup", "--dbname", url, "--pgdata", home / "data",
        "--write-recovery-conf", "--checkpoint", "fast",
    )  # fmt: skip
