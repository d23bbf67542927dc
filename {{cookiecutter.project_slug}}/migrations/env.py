"""Run by Alembic: how the migrations reach the database.

Revisions do not name the configured schema. They run with the search path on it, so that the same revision
serves whatever DATABASE_SCHEMA says, raw SQL included. Each revision is a transaction.
"""

import asyncio
import logging
from contextlib import aclosing
from typing import Any

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection, NullPool, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.schema import CreateSchema

from app.config import get_settings
from app.db import Base, import_models
from app.db.connect_args import DRIVER, connect_args, search_path
from migrations import checks
from migrations.autogenerate import PLUGIN, OnlyOfModels, as_revisions_have_it, render_type

import_models()  # of every folder in app/
SETTINGS = get_settings().for_migrations()
SCHEMA = SETTINGS.database_schema
METADATA = as_revisions_have_it(Base.metadata)
SCHEMAS = [SCHEMA, *sorted({table.schema for table in METADATA.sorted_tables if table.schema})]
OPTIONS = [option.partition("=") for option in context.get_x_argument()]  # alembic -x NAME=VALUE
DROP = {name.strip() for option, _, names in OPTIONS if option == "drop" for name in names.split(",")}
REVISIONS = {script.revision for script in context.script.walk_revisions()}
logger = logging.getLogger("alembic.runtime.migration")
LOCK = text("SELECT pg_try_advisory_lock(hashtext('migrations'), hashtext(:schema))")


def is_command(*names: str) -> bool:
    """Tell whether Alembic runs one of these commands. If Python code called it, that is `upgrade`."""
    options = context.config.cmd_opts
    return (options.cmd[0].__name__ if options else "upgrade") in names


def run(connection: Connection) -> None:
    """Run what Alembic's command asks for."""
    if is_command("upgrade", "stamp"):
        if ("empty", "=", SCHEMA) not in OPTIONS:
            checks.check_not_renamed(connection, SCHEMA, REVISIONS)
        for schema in SCHEMAS:
            checks.create_schema(connection, schema)
        checks.check_current(connection, SCHEMA)
    only = OnlyOfModels(connection, METADATA, SCHEMA, DROP)
    if is_command("upgrade", "downgrade"):
        # Else the DROP TABLE of a table that is not there finds another one on the search path.
        connection.execution_options(schema_translate_map={None: SCHEMA})
    connection.commit()  # else Alembic would leave the transactions to us

    def finish(_context: Any, _revision: Any, scripts: list[Any]) -> None:
        only.report()
        only.sort_drops(scripts[0])
        if is_command("revision") and scripts[0].upgrade_ops.is_empty():
            scripts.clear()
            logger.warning("No revision is written: autogenerate found no change.")

    context.configure(
        connection=connection,
        target_metadata=METADATA,
        version_table_schema=SCHEMA,
        transaction_per_migration=True,
        include_schemas=True,
        include_name=only.include_name,
        include_object=only.include_object,
        render_item=render_type,
        compare_server_default=True,
        autogenerate_plugins=["alembic.autogenerate.*", "alembic.ext.checkconstraint_byname", PLUGIN.name],
        process_revision_directives=finish,
    )
    if not context.get_context().purge:
        checks.check_known(set(context.get_context().get_current_heads()), REVISIONS)
    try:
        with context.begin_transaction():
            context.run_migrations()
    except CommandError as error:
        if "Multiple head revisions" in str(error):
            raise CommandError(f"{error} To join them: alembic merge heads -m merge") from None
        raise
    connection.commit()  # Alembic's own table, where there was no revision to apply


def print_sql() -> None:
    """Print the SQL of the revisions (`alembic upgrade head --sql`)."""
    context.configure(
        url=DRIVER,  # which dialect it is
        version_table_schema=SCHEMA,
        transaction_per_migration=True,
        literal_binds=True,
    )
    set_path = f"SET search_path TO {search_path(SETTINGS)}"
    context.execute(set_path.replace(":", r"\:"))  # which would begin a parameter
    for schema in SCHEMAS:
        context.execute(CreateSchema(schema, if_not_exists=True))
    with context.begin_transaction():
        context.run_migrations()


async def connect(engine: AsyncEngine) -> AsyncConnection:
    """Connect; where that fails, have Alembic say so in one line."""
    try:
        return await engine.connect()
    except DBAPIError as error:
        raise CommandError(f"No connection to the database: {checks.explain(error)}") from None


async def run_online() -> None:
    """Run the revisions once, however many replicas start at the same moment.

    The lock is polled, on a connection of its own outside any transaction: one that waited inside the
    server would keep a snapshot open, and CREATE INDEX CONCURRENTLY waits for those.
    """
    if SETTINGS.database_pgbouncer:
        raise CommandError(
            "DATABASE_PGBOUNCER is set: migrations need a session of the server, which PgBouncer does not "
            "give. Set DATABASE_DIRECT_URL to a URL that leads to the server itself."
        )
    engine = create_async_engine(
        DRIVER, connect_args=connect_args(SETTINGS), poolclass=NullPool, hide_parameters=True
    )
    lock_engine = engine.execution_options(isolation_level="AUTOCOMMIT")
    async with aclosing(await connect(lock_engine)) as lock, aclosing(await connect(engine)) as connection:
        if is_command("upgrade", "downgrade", "stamp"):
            while not await lock.scalar(LOCK, {"schema": SCHEMA}):  # noqa: ASYNC110 another process holds it
                await asyncio.sleep(0.1)
        try:
            await connection.run_sync(run)  # leaving the block closes the connections, which ends the lock
            if is_command("upgrade", "stamp"):
                await connection.run_sync(checks.protect_versions, SCHEMA)
                await connection.commit()
        except DBAPIError as error:
            raise CommandError(checks.explain(error)) from None


if context.config.cmd_opts and not logger.handlers:  # called from the command line: say what is done
    logger.addHandler(logging.StreamHandler())
    logger.setLevel(logging.INFO)

for name, _, _ in OPTIONS:
    if name not in ("drop", "empty") or (name == "drop" and not is_command("revision", "check")):
        raise CommandError(
            f"-x {name}: not for this command. Allowed: -x empty=SCHEMA upgrade, -x drop=NAME revision."
        )
if context.is_offline_mode():
    print_sql()
else:
    asyncio.run(run_online())
