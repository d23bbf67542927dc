"""A PostgreSQL server kept in a folder, for development and tests.

Processes that ask for the same folder share one server, and the last of them to end stops it, however it
ends: each starts a guard that waits for the end of its process and outlives it.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from dev.programs import PostgresUnavailableError, check_available, hand_over, run, start, succeeds

__all__ = ["PostgresUnavailableError", "check_available", "delete_database", "free_port", "running_postgres"]


@contextmanager
def running_postgres(home: Path, *options: str) -> Generator[str]:
    """Run the server of the folder `home` for as long as the block lasts, and yield its URL.

    The folder is created if need be; what it holds survives. `options` are server settings such as
    `fsync=off`; they count for the process that starts the server, not for one that joins it.

    Raises:
        PostgresUnavailableError: there is no wheel for this platform, the server does not start, or another
            process uses the folder and this process does not see its server.
    """
    home = home.parent.resolve() / home.name
    check_available(home)
    _refuse_links(home)
    (home / "users").mkdir(mode=0o700, parents=True, exist_ok=True)
    home.chmod(0o700)
    user = FileLock(home / "users" / secrets.token_hex(8))
    with _guard(home):  # left last, when this user's lock is released
        try:
            with FileLock(home / "lock"):
                if not _is_running(home):
                    _refuse_if_used(home)
                    _create(home)
                    _start(home, options)
                user.acquire()
                port, password = _port(home), (home / "password").read_text()
            yield f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres?sslmode=disable"
        finally:
            user.release()


def delete_database(home: Path) -> None:
    """Stop the server of the folder `home`, and delete its database. The next start creates an empty one.

    Raises:
        PostgresUnavailableError: another process uses the server, or a link leads to the folder.
    """
    _refuse_links(home)
    with FileLock(home / "lock"):
        _refuse_if_used(home)
        _stop(home)
        shutil.rmtree(home / "data")


def _refuse_links(home: Path) -> None:
    """Refuse a link: what is written and deleted here would be written and deleted there."""
    for path in (home, *home.glob("*"), *home.glob("users/*")):
        if path.is_symlink():
            raise PostgresUnavailableError(f"{path} is a link. Delete the link, then try again.")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _guard(home: Path) -> Generator[None]:
    """Start a process that stops an unused server once this process is gone or leaves the block."""
    guard = subprocess.Popen(  # its own session: Ctrl-C must not reach it
        [sys.executable, "-m", "dev.postgres", home],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield
    finally:
        guard.communicate()
        if guard.returncode < 0:  # it was killed
            _stop_if_unused(home)


def _stop_if_unused(home: Path) -> None:
    with FileLock(home / "lock"):
        if not _is_used(home):
            _stop(home)


def _refuse_if_used(home: Path) -> None:
    if _is_used(home):
        raise PostgresUnavailableError(f"Another process uses {home}. First stop that `python -m dev`.")


def _is_used(home: Path) -> bool:
    """Tell whether a process holds the lock of a user."""
    for user in (home / "users").glob("*"):
        try:
            with FileLock(user, blocking=False):
                pass
        except Timeout:
            return True
        user.unlink(missing_ok=True)
    return False


def _create(home: Path) -> None:
    """Create the database cluster, whole or not at all: an interrupted attempt leaves no `data`."""
    new, data, password = home / "new", home / "data", home / "password"
    if data.exists():
        return
    shutil.rmtree(new, ignore_errors=True)
    password.touch(mode=0o600)
    password.write_text(secrets.token_urlsafe(24))
    hand_over(home)
    run(
        home, "initdb", "--pgdata", new, "--username", "postgres", "--pwfile", password,
        "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C",
        "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--no-sync",
    )  # fmt: skip
    new.rename(data)


def _start(home: Path, options: tuple[str, ...]) -> None:
    # It is left from a server that was killed, or it is of the folder that this one is a copy of.
    (home / "data" / "postmaster.pid").unlink(missing_ok=True)
    hand_over(home)  # root may have copied the folder, or run the server in a namespace before
    network = ("listen_addresses=127.0.0.1", f"port={free_port()}", "unix_socket_directories=")
    start(home, *network, _mark(home), *options)


def _stop(home: Path) -> None:
    if _is_running(home):
        run(home, "pg_ctl", "stop", "--pgdata", home / "data", "--mode", "fast")


def _is_running(home: Path) -> bool:
    """Tell whether the server of this folder runs.

    The files say so of the other folder's server, if this folder is a copy, and of a server that was killed.
    Its process number may be that of another program by now.
    """
    data = home / "data"
    try:
        port = _port(home)
        started_here = f'"{_mark(home)}"' in (data / "postmaster.opts").read_text()
    except (FileNotFoundError, IndexError):
        return False
    if started_here and succeeds(home, "pg_ctl", "status", "--pgdata", data):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
    return False


def _mark(home: Path) -> str:
    """Return a setting that tells the folder's own server from that of a copy, also where it was moved."""
    data = (home / "data").stat()
    return f"dev.folder={data.st_dev}-{data.st_ino}"


def _port(home: Path) -> int:
    lines = (home / "data" / "postmaster.pid").read_text().splitlines()
    return int(lines[3])  # pid, folder, start time, port, ...


if __name__ == "__main__":  # the guard: the pipe closes when the process at its other end is gone
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    home = Path(sys.argv[1])
    os.chdir(home)
    sys.stdin.read()
    try:
        _stop_if_unused(Path.cwd())  # where the folder is now
    except FileNotFoundError:
        sys.exit(f"{home} was deleted while its server ran. The server ends within a minute.")
    except PostgresUnavailableError as error:  # if the programs were moved too, they are not found
        moved = f"{home} was moved while its server ran. The next `python -m dev` there stops it at its end."
        sys.exit(str(error) if home.exists() else moved)
