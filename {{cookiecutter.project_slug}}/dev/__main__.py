"""`uv run python -m dev`: the service with reload.

The database is the one that DATABASE_URL names, or else a PostgreSQL server of the project's own in the
folder `.postgres/`. Options go to `fastapi dev`: `uv run python -m dev --port 8001`.

`python -m dev COMMAND` runs a command with DATABASE_URL set: `uv run python -m dev alembic current`.
`python -m dev psql` opens the database. `python -m dev reset` deletes the development database.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from threading import Thread

from dotenv import load_dotenv

from dev.parent import end_with_parent
from dev.postgres import PostgresUnavailableError, delete_database, running_postgres
from dev.roles import set_urls
from dev.terminal import agrees, say

PROJECT = Path(__file__).parents[1]
HOME = PROJECT / ".postgres"
LIBRARIES = ("sqlalchemy.ext.asyncio", "asyncpg", "alembic.command", "fastapi.cli")


def main(arguments: list[str]) -> int:
    """Bring up the database if none is named, and do what is asked for; return the exit status."""
    try:
        if not os.environ.get("DATABASE_URL"):  # else the other URLs of `.env` are of another database
            load_dotenv(PROJECT / ".env")
    except UnicodeDecodeError:
        sys.exit(".env: is not UTF-8. Save it as that.")
    if arguments[:1] == ["--help"]:
        print(__doc__)  # then the options of `fastapi dev`
    named = os.environ.get("DATABASE_URL")
    if arguments[:1] == ["reset"]:
        return reset(arguments[1:], named=bool(named))
    serves = not arguments or arguments[0].startswith("-")
    early = Thread(target=import_all, args=[LIBRARIES if serves else ()], daemon=True)
    early.start()
    with nullcontext(named) if named else running_postgres(HOME) as url:
        early.join()
        if not named:
            os.environ |= {
                "DATABASE_DIRECT_URL": "none",
                "DATABASE_REPLICA_URL": "none",
                "DATABASE_PGBOUNCER": "0",
            }
            set_urls(HOME, url)
        if not serves:
            if named:
                say_where()
            return run(arguments)
        from dev.serve import serve  # noqa: PLC0415 two seconds, for which no command should wait

        serve(arguments, named=bool(named))
    return 0


def import_all(libraries: Sequence[str]) -> None:
    """Import what takes longest, while PostgreSQL starts. The modules of the project need DATABASE_URL."""
    for name in libraries:
        import_module(name)


def say_where() -> None:
    """Say on which server a command runs: DATABASE_URL may have been set long ago, and elsewhere."""
    from app.config import get_settings  # noqa: PLC0415 half a second, which a new server does not need

    say(f"DATABASE_URL is set. The command runs on {get_settings().for_migrations().place}.")


def run(command: list[str]) -> int:
    """Run the command and return its exit status."""
    variables = {}
    if command[0] == "psql":
        from dev import psql  # noqa: PLC0415 a second, for which no other command should wait

        command, variables = [psql.program(), *command[1:]], psql.variables()
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is for the command: in psql it ends a query
    try:
        status = subprocess.run(command, env=os.environ | variables, check=False).returncode
    except FileNotFoundError:
        sys.exit(f"There is no command {command[0]!r}.")
    return status if status >= 0 else 128 - status  # as a shell has it, where a signal ended the command


def reset(options: list[str], *, named: bool) -> int:
    """Delete the development database after asking; return the exit status."""
    if options not in ([], ["--yes"]):
        sys.exit("Usage: python -m dev reset [--yes]")
    if named:
        sys.exit("DATABASE_URL names a database. Only the development database in .postgres/ can be reset.")
    if not (HOME / "data").exists():
        say("There is no development database in .postgres/.")
    elif options or agrees("Delete the development database in .postgres/?"):
        delete_database(HOME)
        say("The development database is deleted. The next start creates an empty one.")
    else:
        sys.exit("Nothing was deleted. `--yes` answers the question.")
    return 0


if __name__ == "__main__":
    end_with_parent()
    os.chdir(PROJECT)
    try:
        sys.exit(main(sys.argv[1:]))
    except (PostgresUnavailableError, OSError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:  # before the server handled it
        sys.exit(130)
