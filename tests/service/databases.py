"""PostgreSQL servers that a test may stop and start: none of them is the tests' own."""

import os
import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from dev import postgres, programs
from dev.programs import PostgresUnavailableError


@contextmanager
def new_home() -> Generator[Path]:
    """Make a folder for servers; skip the test where none can be run."""
    with TemporaryDirectory(prefix="postgres-") as name:
        try:
            programs.check_available(Path(name))
        except PostgresUnavailableError as reason:
            pytest.skip(str(reason))
        yield Path(name)


def is_running(home: Path) -> bool:
    return programs.succeeds(home, "pg_ctl", "status", "--pgdata", home / "data")


def stop(home: Path, mode: str = "fast") -> None:
    programs.run(home, "pg_ctl", "stop", "--pgdata", home / "data", "--mode", mode)


def start(home: Path, port: int | None) -> None:
    network = ("listen_addresses=127.0.0.1", f"port={port}", "unix_socket_directories=")
    programs.start(home, *network, postgres._mark(home))  # with its mark, `running_postgres` stops it


def follow(home: Path, primary: Path, url: str) -> None:
    """Make `home` the folder of a replica: its server takes the same password, and follows the primary."""
    home.mkdir(mode=0o700)
    programs.hand_over(home)
    (home / "password").write_text((primary / "password").read_text())
    programs.run(
        home, "pg_basebackup", "--dbname", url, "--pgdata", home / "data",
        "--write-recovery-conf", "--checkpoint", "fast", "--no-sync",
    )  # fmt: skip


def promote(home: Path) -> None:
    """Make a primary of a replica, and wait until it is one."""
    programs.run(home, "pg_ctl", "promote", "--pgdata", home / "data")


def freeze(home: Path) -> list[int]:
    """Stop the processes of a server as if its machine hung: its connections stay open and do not answer."""
    first = int((home / "data" / "postmaster.pid").read_text().splitlines()[0])
    os.kill(first, signal.SIGSTOP)  # before the others: now it starts no more of them
    children = subprocess.run(["pgrep", "-P", str(first)], capture_output=True, text=True, check=True)
    others = [int(pid) for pid in children.stdout.split()]
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    return [first, *others]


def thaw(processes: list[int]) -> None:
    for pid in processes:
        os.kill(pid, signal.SIGCONT)
