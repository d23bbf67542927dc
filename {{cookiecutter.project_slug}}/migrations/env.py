"""Run by Alembic: how the migrations reach the database.

Revisions name no schema. They run with the search path on the configured one, so that the same revision
serves whatever DATABASE_SCHEMA says, raw SQL included.
"""

import asyncio
import logging
from contextlib import aclosing
from typing import Any

from alembic import context
from alembic.util import CommandError
from sqlalchemy import BLANK_SCHEMA, Connection, Enum, MetaData, NullPool, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.schema import CreateSchema

from app.config import get_settings
from app.db import Base, import_models
from app.db.connection import connect_args, quoted_schema, server_settings

import_models()  # of every folder in app/
SETTINGS = get_settings().for_migrations()
SCHEMA = SETTINGS.database_schema
NONE: Any = None  # what `to_metadata` takes for "no schema", though its annotation does not say so
CURRENT_DATABASE = text("SELECT current_database()")
LOCK = text("SELECT pg_try_advisory_lock(hashtext('migrations'), hashtext(:schema))")


def no_schema(*_: object) -> Any:
    """Tell `to_metadata` that a foreign key's table has no schema either."""
    return BLANK_SCHEMA


def metadata_without_schema() -> MetaData:
    """Return the tables of the models as the revisions name them."""
    metadata = MetaData(naming_convention=Base.metadata.naming_convention)
    for table in Base.metadata.sorted_tables:
        copy = table.to_metadata(metadata, schema=NONE, referred_schema_fn=no_schema)
        for kind in (column.type for column in copy.columns):
            if isinstance(kind, Enum) and kind.schema == SCHEMA:
                kind.schema = kind.metadata = None  # SQLAlchemy 2.0 keeps them
    return metadata


def run(connection: Connection | None = None) -> None:
    """Run the revisions on the connection, or without one print their SQL (`alembic upgrade head --sql`)."""
    context.configure(
        connection=connection,
        url="postgresql+asyncpg://",  # of the printed SQL: which dialect it is
        target_metadata=metadata_without_schema(),
        literal_binds=connection is None,
    )
    with context.begin_transaction():
        if connection is None:
            set_path = f"SET search_path TO {quoted_schema(SETTINGS)}"
            context.execute(set_path.replace(":", r"\:"))  # which would begin a parameter
        if connection is None or not inspect(connection).has_schema(SCHEMA):
            context.execute(CreateSchema(SCHEMA, if_not_exists=True))
        context.run_migrations()


def is_upgrade() -> bool:
    """Tell whether this is `alembic upgrade`, from the command line or called."""
    options = context.config.cmd_opts
    return options is None or options.cmd[0].__name__ == "upgrade"


def set_role_defaults(connection: Connection) -> None:
    """Give the service's roles what PgBouncer does not pass on: the search path and the timeouts.

    https://www.postgresql.org/docs/current/sql-alterrole.html
    """
    quote = connection.dialect.identifier_preparer.quote_identifier
    settings, database = get_settings(), connection.scalar(CURRENT_DATABASE)
    urls = filter(None, (settings.database_url, settings.database_replica_url))
    roles = {quote(url.username) if url.username else "CURRENT_USER" for url in urls}
    for name, value in server_settings(settings).items():
        connection.execute(text("SELECT set_config(:name, :value, true)"), {"name": name, "value": value})
        for role in roles:
            connection.exec_driver_sql(
                f"ALTER ROLE {role} IN DATABASE {quote(database)} SET {name} FROM CURRENT"
            )
    connection.commit()


async def connect(engine: AsyncEngine) -> AsyncConnection:
    """Connect; where that fails, have Alembic say so in one line."""
    try:
        return await engine.connect()
    except DBAPIError as error:
        raise CommandError(f"No connection to the database: {error.orig}") from None


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
        SETTINGS.database_url, connect_args=connect_args(SETTINGS), poolclass=NullPool
    )
    lock_engine = engine.execution_options(isolation_level="AUTOCOMMIT")
    async with aclosing(await connect(lock_engine)) as lock, aclosing(await connect(engine)) as connection:
        while not await lock.scalar(LOCK, {"schema": SCHEMA}):  # noqa: ASYNC110 another process holds it
            await asyncio.sleep(0.1)
        await connection.run_sync(run)  # leaving the block closes the connections, which ends the lock
        if get_settings().database_pgbouncer and is_upgrade():
            try:
                await connection.run_sync(set_role_defaults)
            except DBAPIError as error:
                raise CommandError(f"The service's role was not given its settings: {error.orig}") from None


if context.config.cmd_opts is not None:  # called from the command line: say what is done
    logger = logging.getLogger("alembic.runtime.migration")
    logger.addHandler(logging.StreamHandler())
    logger.setLevel(logging.INFO)

if context.is_offline_mode():
    run()
else:
    asyncio.run(run_online())
