"""Does the server have what the settings build on? Asked once, when the service starts."""

import logging

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.config import Settings
from app.connection import milliseconds
from app.database import sessionmanager

logger = logging.getLogger(__name__)

# https://www.postgresql.org/docs/current/runtime-config-connection.html
USABLE = text("""
    SELECT current_setting('max_connections')::int
        - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true)::int, 0)
""")
ROLE = text("SELECT current_schema(), setting || unit FROM pg_settings WHERE name = 'statement_timeout'")


async def check_server(settings: Settings) -> None:
    """Log a warning if the pools do not fit the server, or PgBouncer's connections lack their settings."""
    try:
        if settings.database_pgbouncer:
            await check_role(settings)
        else:
            await check_connections(settings)
    except SQLAlchemyError:
        return  # the readiness probe tells


async def check_connections(settings: Settings) -> None:
    """Log a warning if the workers may ask for more connections than the server has for applications.

    A replica has as many as its primary or more: PostgreSQL sees to that.
    """
    pool = settings.database_pool_size + settings.database_max_overflow
    pools = 2 if settings.database_replica_url and settings.database_replica_fallback else 1
    wanted = pool * settings.web_concurrency * pools
    async with sessionmanager.session() as session:
        usable = await session.scalar(USABLE)
    if usable is not None and wanted > usable:
        logger.warning(
            "(DATABASE_POOL_SIZE %d + DATABASE_MAX_OVERFLOW %d) x WEB_CONCURRENCY %d%s = %d connections, "
            "but the server has %d for applications: lower them, or raise its max_connections.",
            settings.database_pool_size,
            settings.database_max_overflow,
            settings.web_concurrency,
            " x 2, while the replica is away," if pools == 2 else "",
            wanted,
            usable,
        )


async def check_role(settings: Settings) -> None:
    """Log a warning if the role's search path or timeouts are not those of the settings."""
    expected = (settings.database_schema, milliseconds(settings.database_statement_timeout))
    async with sessionmanager.session() as session:
        found = tuple((await session.execute(ROLE)).one())
    if found != expected:
        logger.warning(
            "DATABASE_PGBOUNCER is set, but its connections have the schema %r and the statement timeout %s "
            "instead of %r and %s: run `alembic upgrade head`, then have PgBouncer reconnect.",
            *found,
            *expected,
        )
