"""What is said at the start: which database this is, and what in the URL or the server does not fit."""

import logging
from ipaddress import ip_address
from typing import Any

from sqlalchemy import URL, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.database_url import left_out
from app.db.connect_args import SYSTEM, hosts_of, milliseconds
from app.db.sessions import sessionmanager

logger = logging.getLogger(__name__)

# https://www.postgresql.org/docs/current/runtime-config-connection.html
OLDEST = 15  # the oldest PostgreSQL that the service was tried on
LACKING = {"channel_binding": "require", "gssencmode": "require"}  # protections that asyncpg does not know
SERVER = text("""
    SELECT current_database(), current_user, has_schema_privilege(current_schema(), 'CREATE'),
        current_setting('server_version_num')::int / 10000,
        current_setting('server_version'), pg_is_in_recovery(), current_schema(),
        (SELECT version FROM pg_stat_ssl WHERE ssl AND pid = pg_backend_pid())
""")
USABLE = text("""
    SELECT current_setting('max_connections')::int
        - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true)::int, 0)
""")
ROLE = text("SELECT current_schema(), setting || unit FROM pg_settings WHERE name = 'statement_timeout'")
READ_ONLY = text("SELECT current_setting('default_transaction_read_only')")


async def check_server(settings: Settings) -> None:
    """Log which server this is, and a warning for what in the URL or the server does not fit."""
    for name in ("database_url", "database_replica_url"):
        url: URL | None = getattr(settings, name)
        for note in notes(url) if url else ():
            logger.warning("%s %s", name.upper(), note)
    try:
        async with sessionmanager.session() as session:
            await introduce(session, settings.database_schema)
            if not settings.database_pgbouncer:
                check_connections(settings, (await session.execute(USABLE)).scalar_one())
                return
            check_role(settings, *(await session.execute(ROLE)).one())
        async with sessionmanager.read_session() as session:
            check_read_only(await session.scalar(READ_ONLY))
    except SQLAlchemyError as error:  # the database may be away now, or take no password of ours
        cause: BaseException = getattr(error, "orig", error)
        logger.warning("The database was not checked at the start: %s", *cause.args[:1] or [""])


async def introduce(session: AsyncSession, expected: str) -> None:
    """Log to which server the service is connected, and as whom."""
    database, user, creates, major, version, standby, schema, tls = (await session.execute(SERVER)).one()
    driver: Any = (await (await session.connection()).get_raw_connection()).driver_connection
    if creates:
        logger.info(
            "The role %s can change and drop tables. docs/security.md says how to prevent this.", user
        )
    peer = driver.peer  # the folder of a socket, or an address and a port
    logger.info(
        "Connected to %s, database %s, as %s, schema %s. PostgreSQL %s, %s, %s.",
        *(":".join(map(str, peer[:2])) if isinstance(peer, tuple) else peer or "a socket", database, user),
        *(schema, version, "standby" if standby else "primary", tls or "no TLS"),
    )
    if schema != expected:
        logger.warning(
            "The schema %s is missing, or %s may not use it. Run `alembic upgrade head`.", expected, user
        )
    if standby:
        logger.warning(
            "DATABASE_URL leads to a standby: what writes is answered 503. Name the primary, or all hosts."
        )
    if major < OLDEST:
        logger.warning(
            "The server is PostgreSQL %s. The service needs PostgreSQL %s or newer.", version, OLDEST
        )


def notes(url: URL) -> list[str]:
    """Return what somebody should know of a URL. No value of the URL is in it."""
    found = []
    if names := left_out({*url.query} - {"pgbouncer", "ssl"}):  # `ssl` is `sslmode` here
        found.append(f"has parameters that are left out: {', '.join(names)}.")
    if url.query.get("pgbouncer") == "true":
        found.append("has pgbouncer=true, which is left out. Set DATABASE_PGBOUNCER=true instead.")
    for name, value in LACKING.items():
        if url.query.get(name) == value:
            found.append(f"has {name}={value}, which the driver lacks. Use sslmode=verify-full.")
    named = url.query.get("ssl") not in (None, "allow", "prefer") or url.query.get("sslrootcert") == SYSTEM
    if not named and any(map(is_far, hosts_of(url))):
        found.append(
            "has no sslmode that insists on TLS: if the server offers no TLS, "
            "the password and the data are sent in clear text. "
            "Set sslmode=verify-full, or sslmode=disable if the network is trusted."
        )
    return found


def is_far(host: str | None) -> bool:
    """Tell whether the host is another machine: neither a socket nor a loopback address."""
    if host is None or host == "localhost" or host.startswith("/"):
        return False
    try:
        return not ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return True


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
            "instead of %r and %s. Run the SQL of `python -m migrations.roles`. "
            "Then have PgBouncer reconnect.",
            *(*found, *expected),
        )


def check_read_only(found: str | None) -> None:
    """Warn if a read session could write, which PostgreSQL does not refuse here."""
    if found != "on":
        logger.warning(
            "DATABASE_PGBOUNCER is set, and read sessions can write. Set DATABASE_REPLICA_URL to a URL whose "
            "role has default_transaction_read_only = on: see docs/scaling.md."
        )
