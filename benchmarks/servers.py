"""A contender as a server process."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from psutil import Process

PROJECT = Path.cwd()  # the rendered one: __main__.py starts the measures there
PYTHON = PROJECT / ".venv" / "bin" / "python"
NAMES = {
    "service": "the rendered service",
    "s3rius": "s3rius 6.1.2",
    "rafsaf": "rafsaf",
    "benavlabs": "benavlabs 0.19.0",
    "fullstack": "FastAPI's full-stack 0.10.0",
    "article": "the article",
    "orm": "FastAPI + ORM, nothing else",
    "driver": "FastAPI + asyncpg",
    "framework": "FastAPI, no database",
}
PEERS = ["s3rius", "rafsaf", "benavlabs", "fullstack"]
CONTENDERS = {
    name: "app.main:app" if name == "service" else f"benchmarks.contenders.{name}:app" for name in NAMES
}
# No contenders: they are the service.
PLAIN = {name: f"benchmarks.contenders.{name}:app" for name in ("plain", "ways")}
FLAGS = ["--host", "127.0.0.1", "--no-access-log", "--log-level", "error"]


@dataclass
class Server:
    """Where it listens, and its process."""

    url: str
    pid: int

    @property
    def memory(self) -> float:
        """Its resident memory, in MB."""
        return Process(self.pid).memory_info().rss / 1e6


@contextmanager
def serving(contender: str, *options: str, cores: str = "0", **environment: str) -> Generator[Server]:
    """Serve a contender on these cores for as long as the block lasts; the options are uvicorn's."""
    url = f"http://127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [
            *on_cores(cores),
            PYTHON,
            "-m",
            "uvicorn",
            (CONTENDERS | PLAIN)[contender],
            *FLAGS,
            "--port",
            url.rpartition(":")[2],
            *options,
        ],
        env={**os.environ, "LOG_LEVEL": "ERROR", **environment},
    )
    try:
        wait_until_up(f"{url}/users/1")
        yield Server(url, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:  # its requests wait for each other
            process.kill()
            process.wait()


def wait_until_up(url: str, seconds: float = 30) -> None:
    """Wait until the URL answers, whatever the status.

    Raises:
        httpx2.TransportError: it does not.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            httpx2.get(url)
        except httpx2.TransportError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def on_cores(cores: str) -> list[str]:
    """Return what to put before a command to run it on these cores, where that can be chosen."""
    return ["taskset", "--cpu-list", cores] if shutil.which("taskset") else []
