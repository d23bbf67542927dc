"""Serves the application with reload; before, migrates the development database, and asks for any other."""

import asyncio
import os
import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from fastapi.cli import main as fastapi
from sqlalchemy import Connection, NullPool
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from app.config import Settings, get_settings
from app.db.connect_args import DRIVER, connect_args
from dev.terminal import agrees, say
from migrations.checks import check_known, explain

ALEMBIC = Config(toml_file=Path(__file__).parents[1] / "pyproject.toml")


def serve(options: list[str], *, named: bool) -> None:
    """Run `fastapi dev` with the options. `named`: the database is not the one that we brought."""
    try:
        migrate(named=named)
    except CommandError as error:
        sys.exit(str(error))
    if "docs" not in get_settings().model_fields_set:  # neither in the environment nor in `.env`
        os.environ["DOCS"] = "true"
        get_settings.cache_clear()
    sys.argv = ["fastapi", "dev", "--entrypoint", "dev.served:app", *options]
    fastapi()


def migrate(*, named: bool) -> None:
    """Apply the pending revisions; to a database that was named only if the person at the terminal agrees.

    Raises:
        CommandError: a migration failed.
    """
    settings = get_settings().for_migrations()
    place = settings.place
    script = ScriptDirectory.from_config(ALEMBIC)
    try:
        applied = asyncio.run(applied_revisions(settings))
        check_known(set(applied), {revision.revision for revision in script.walk_revisions()})
    except DBAPIError as error:
        return say(f"The migrations of {place} cannot be checked: {explain(error)}")
    except CommandError as error:
        return say(f"{place}: {error}")
    if len(script.get_heads()) > 1:
        return say("There are two heads. To join them: uv run python -m dev alembic merge heads -m merge")
    pending = len(list(script.iterate_revisions("heads", applied, implicit_base=True)))
    revisions = f"{pending} revision{'s' * (pending != 1)}"
    if pending and (not named or agrees(f"Apply {revisions} to {place}?")):
        return command.upgrade(ALEMBIC, "head")
    if pending:
        return say(f"{revisions} not applied to {place}. To apply: uv run alembic upgrade head")
    return None


async def applied_revisions(settings: Settings) -> tuple[str, ...]:
    """Read which revisions the database has. Alembic itself would create its table there, and the schema."""

    def read(connection: Connection) -> tuple[str, ...]:
        options = {"version_table_schema": settings.database_schema}
        return MigrationContext.configure(connection, opts=options).get_current_heads()

    engine = create_async_engine(DRIVER, connect_args=connect_args(settings), poolclass=NullPool)
    async with engine.connect() as connection:
        return await connection.run_sync(read)
