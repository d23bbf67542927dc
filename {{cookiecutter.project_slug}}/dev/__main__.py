"""`uv run python -m dev`: the service with reload, on a migrated database.

The database is the one that DATABASE_URL names, or else a PostgreSQL server of the project's own in the
folder `.postgres/`. Options go to `fastapi dev`: `uv run python -m dev --port 8001`. `python -m dev COMMAND`
runs a command with DATABASE_URL set: `uv run python -m dev alembic current`.
"""

import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from dotenv import load_dotenv
from fastapi.cli import main as fastapi

from dev.parent import end_with_parent
from dev.postgres import PostgresUnavailableError, running_postgres

PROJECT = Path(__file__).parents[1]


def main(arguments: list[str]) -> int:
    """Bring up the database if none is named, migrate it, run what is asked for; return the exit status."""
    if not os.environ.get("DATABASE_URL"):  # else the other URLs of `.env` are of another database
        load_dotenv(PROJECT / ".env")
    configured = os.environ.get("DATABASE_URL")
    with nullcontext(configured) if configured else running_postgres(PROJECT / ".postgres") as url:
        os.environ["DATABASE_URL"] = url
        if not configured:
            urls = ("DATABASE_OWNER_URL", "DATABASE_DIRECT_URL", "DATABASE_REPLICA_URL")
            os.environ.update(dict.fromkeys(urls, "none"), DATABASE_PGBOUNCER="0")  # not for this server
        command.upgrade(Config(toml_file=PROJECT / "pyproject.toml"), "head")
        if arguments and not arguments[0].startswith("-"):
            try:
                return subprocess.run(arguments, check=False).returncode
            except FileNotFoundError:
                sys.exit(f"There is no command {arguments[0]!r}.")
        sys.argv = ["fastapi", "dev", "--entrypoint", "dev.served:app", *arguments]
        fastapi()
    return 0


if __name__ == "__main__":
    end_with_parent()
    os.chdir(PROJECT)
    try:
        sys.exit(main(sys.argv[1:]))
    except (PostgresUnavailableError, CommandError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:  # before the server handled it
        sys.exit(130)
