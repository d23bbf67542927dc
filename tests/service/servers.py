"""Server processes: the one place where a test starts the service."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import httpx2
from httpx2 import TransportError

from service.tools import PROJECT, wait_for


@dataclass
class Server:
    """A server process of the tests' application."""

    url: str
    process: subprocess.Popen[bytes]
    log_file: Path
    terminal: bool = False  # it logs to one

    @property
    def log(self) -> str:
        """What it has logged so far, without the colours of a terminal."""
        return re.sub(r"\x1b\[[\d;]*m", "", self.log_file.read_text())

    @property
    def tracebacks(self) -> list[str]:
        """The lines of its log that have one: it was surprised. In a line of JSON it is `exc_info`."""
        return [line for line in self.log.splitlines() if '"exc_info"' in line or "Traceback" in line]


@contextmanager
def served(*options: str, **environment: str) -> Generator[Server]:
    """Serve the tests' application from a process of its own, on a free port; the options are uvicorn's."""
    with serving(*options, environment=environment) as server:
        yield server


@contextmanager
def serving(
    *options: str,
    environment: dict[str, str],
    folder: Path = PROJECT,
    terminal: bool = False,
    program: Sequence[str] = ("uvicorn", "service.routes:app"),
) -> Generator[Server]:
    """Serve the application that is in the folder; its standard error is a file, or a terminal."""
    with TemporaryDirectory() as name, ExitStack() as stack:
        log_file = Path(name) / "log"
        log = stack.enter_context(log_file.open("wb", buffering=0))
        process = subprocess.Popen(
            [sys.executable, "-m", *program, "--port", "0", *options],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=log,
            stderr=stack.enter_context(terminal_of(log)) if terminal else log,
        )
        server = Server("", process, log_file, terminal)
        try:
            server.url = wait_for(lambda: url_of(server))
            yield server
        finally:
            process.terminate()
            process.wait(timeout=30)


@contextmanager
def terminal_of(log: IO[bytes]) -> Generator[int]:
    """Open a terminal for a program; what the program writes there goes to the log."""
    import pty  # noqa: PLC0415 Windows has none

    shown, written = pty.openpty()

    def copy() -> None:
        with suppress(OSError):  # nobody holds the other end any more
            while data := os.read(shown, 65_536):
                log.write(data)

    copying = threading.Thread(target=copy)
    copying.start()
    try:
        yield written
    finally:
        os.close(written)
        copying.join(timeout=30)
        os.close(shown)


def url_of(server: Server) -> str | None:
    """Return where the server listens, once it answers."""
    assert server.process.poll() is None, server.log
    if started := re.search(r"running on (http://[\d.:]+)", server.log):
        with suppress(TransportError):
            httpx2.get(f"{started[1]}/health/live")
            return started[1]
    return None
