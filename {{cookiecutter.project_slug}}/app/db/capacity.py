"""Warnings at the start: the server or its roles do not fit the settings."""

import logging
from contextlib import suppress

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.config import Settings
from app.db.connection import milliseconds
from app.db.sessions import sessionmanager

logger = logging.getLogger(__name__)

# https://www.postgresql.org/docs/current/runtime-config-connection.html
USABLE = text("""
    SELECT current_setting('max_connections')::int
        - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true)::int, 0)
""")
ROLE = text("SELECT current_schema(), setting || unit FROM pg_settings WHERE name = 'statement_timeout'")
READ_ONLY = text("SELECT current_setting('default_transaction_read_only')")


async def check_server(settings: Settings) -> None:
    """Log a warning if the pools do not fit the server, or PgBouncer's roles lack their settings."""
    with suppress(SQLAlchemyError):  # the database may be away now: the readiness probe says so
        if not settings.database_pgbouncer:
            async with sessionmanager.session() as session:
                check_connections(settings, (await session.execute(USABLE)).scalar_one())
            return
        async with sessionmanager.session() as session:
            check_role(settings, *(await session.execute(ROLE)).one())
        async with sessionmanager.read_session() as session:
            check_read_only(await session.scalar(READ_ONLY))


def check_connections(settings: Settings, usable: int) -> None:
    """Warn if the workers may ask for more connections than the server has."""
    writing = settings.database_pool_size + settings.database_max_overflow
    on_replica = settings.database_replica_url and not settings.database_replica_fallback
    reading = 0 if on_replica else settings.database_read_pool_size
    if (wanted := (writing + reading) * settings.web_concurrency) > usable:
        logger.warning(
            "(DATABASE_POOL_SIZE %d + DATABASE_MAX_OVERFLOW %d + DATABASE_READ_POOL_SIZE %d) x "
            "WEB_CONCURRENCY %d = %d connections, but the server has %d for applications. "
            "Lower these settings, or raise max_connections of the server.",
            *(settings.database_pool_size, settings.database_max_overflow, reading),
            *(settings.web_concurrency, wanted, usable),
        )


def check_role(settings: Settings, *found: str) -> None:
    """Warn if the role's search path or timeouts are not those of the settings."""
    expected = (settings.database_schema, milliseconds(settings.database_statement_timeout))
    if found != expected:
        logger.warning(
            "DATABASE_PGBOUNCER is set, but its connections have the schema %r and the statement timeout %s "
            "instead of %r and %s. Run `alembic upgrade head`, then have PgBouncer reconnect.",
            *(*found, *expected),
        )


def check_read_only(found: str | None) -> None:
    """Warn if a read session could write, which PostgreSQL does not refuse here."""
    if found != "on":
        logger.warning(
            "DATABASE_PGBOUNCER is set, and read sessions can write. Set DATABASE_REPLICA_URL to a role with "
            "`ALTER ROLE ... SET default_transaction_read_only = on`. Its host may be that of DATABASE_URL."
        )
