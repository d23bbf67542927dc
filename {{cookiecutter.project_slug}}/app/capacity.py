"""Do the pools of all workers fit into what the server has?"""

import logging

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.config import Settings
from app.database import sessionmanager

logger = logging.getLogger(__name__)

# https://www.postgresql.org/docs/current/runtime-config-connection.html
USABLE = text("""
    SELECT current_setting('max_connections')::int
        - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true)::int, 0)
""")


async def warn_of_too_many_connections(settings: Settings) -> None:
    """Log a warning if the workers may ask for more connections than the server has for applications."""
    pool = settings.database_pool_size + settings.database_max_overflow
    wanted = pool * settings.web_concurrency
    if settings.database_pgbouncer:
        return  # they are PgBouncer's, whose own limits count
    try:
        async with sessionmanager.read_session() as session:
            usable = await session.scalar(USABLE)
    except SQLAlchemyError:
        return  # the readiness probe tells
    if usable is not None and wanted > usable:
        logger.warning(
            "(DATABASE_POOL_SIZE %d + DATABASE_MAX_OVERFLOW %d) x WEB_CONCURRENCY %d = %d connections, "
            "but the server has %d for applications: lower them, or raise its max_connections.",
            settings.database_pool_size,
            settings.database_max_overflow,
            settings.web_concurrency,
            wanted,
            usable,
        )
