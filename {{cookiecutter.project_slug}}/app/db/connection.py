"""A connection: how it is opened, with which settings, and what asyncpg does not do."""

import asyncio
import math
import socket
import sys
import time
from typing import Any

import asyncpg
import stamina
import stamina.instrumentation
from sqlalchemy.exc import DBAPIError

from app.config import Settings
from app.db.telemetry import span_of

stamina.instrumentation.set_on_retry_hooks([])  # no log line for each attempt
# The server is away: refused, shutting down or starting, lost while the connection was made, no slot.
AWAY = (
    OSError,
    asyncpg.OperatorInterventionError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.TooManyConnectionsError,
)
CHECK_CLIENT = "0" if sys.platform == "win32" else "1s"  # a server on Windows takes nothing but 0
COMMAND_GRACE = 1  # seconds that the server has to say itself that a statement took too long
KEEP_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}  # seconds, seconds, times
# PgBouncer may give every transaction another server connection, so nothing is prepared for a later one. The
# first is asyncpg's cache, the second SQLAlchemy's. Each statement is parsed again at each execution.
PGBOUNCER = {"statement_cache_size": 0, "prepared_statement_cache_size": 0}


class Connection(asyncpg.Connection):
    """asyncpg's connection. It also raises if a COMMIT rolled back, or if the server does not answer."""

    stands_in_until = math.inf  # a connection to the primary, while the replica is away: see replica.py

    def __init__(self, protocol: Any, transport: asyncio.Transport, *args: Any) -> None:
        super().__init__(protocol, transport, *args)
        keep_alive(transport.get_extra_info("socket"))

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109 as asyncpg has it
        """Execute BEGIN, COMMIT or ROLLBACK: SQLAlchemy executes nothing else this way."""
        with span_of(query):
            status: str = await self._answered(super().execute(query, *args, timeout=timeout))
        if query == "COMMIT;" and status != "COMMIT":  # asyncpg and SQLAlchemy take this for a success
            raise asyncpg.InFailedSQLTransactionError(
                "PostgreSQL rolled back instead of committing, because a statement had failed and its error "
                "was caught. Do not catch the error. Or put the statement into "
                "`async with session.begin_nested():`, which undoes that statement alone."
            )
        return status

    async def fetchrow(self, *args: Any, **kwargs: Any) -> Any:
        """Return the first row. This is what the pool's ping calls: its error must be one of the database."""
        return await self._answered(super().fetchrow(*args, **kwargs))

    async def _answered(self, answer: Any) -> Any:
        try:
            return await answer
        except TimeoutError as error:
            self.terminate()
            raise asyncpg.ConnectionDoesNotExistError("The database did not answer in time.") from error


def keep_alive(connection: socket.socket) -> None:
    """Turn on TCP keepalive, two minutes if the system has such a setting: the server may be gone."""
    if connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEP_ALIVE.items():
            if option := getattr(socket, name, None):
                connection.setsockopt(socket.IPPROTO_TCP, option, value)


async def connect(*args: Any, retry_for: float, **kwargs: Any) -> asyncpg.Connection:
    """Open a connection; try again for this many seconds while the server is away or starts.

    Raises:
        DBAPIError: the server cannot be reached, or takes no connection. SQLAlchemy 2.0 does not wrap the
            driver's error here, and handlers and scripts look for SQLAlchemy's.
    """
    end = time.monotonic() + retry_for
    try:
        async for attempt in stamina.retry_context(
            on=AWAY, attempts=None, timeout=retry_for, wait_initial=0.05, wait_max=0.5, wait_jitter=0.1
        ):
            with attempt:
                return await asyncpg.connect(*args, timeout=max(end - time.monotonic(), 0.1), **kwargs)
    except OSError as error:
        reason = str(error) or "no answer in time"
        cause = asyncpg.CannotConnectNowError(f"The database cannot be reached: {reason}")
        raise DBAPIError(None, None, cause) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DBAPIError(None, None, error) from error
    raise AssertionError("stamina returns or raises")


def connect_args(settings: Settings, *, read_only: bool = False) -> dict[str, Any]:
    """Return the `connect_args` of an engine. What is set at connect costs no round trip later.

    PgBouncer takes no settings at connect. There the role has them: the migrations see to that.
    """
    limit = settings.database_statement_timeout
    read = {"default_transaction_read_only": "on"} if read_only else {}
    settings_of_server = {"server_settings": server_settings(settings) | read}
    return {
        "async_creator_fn": connect,
        "connection_class": Connection,
        "retry_for": settings.database_connect_timeout,
        # A little after the server's own limit. It counts where the network or the server is frozen.
        "command_timeout": limit + COMMAND_GRACE if limit else None,
        **(PGBOUNCER if settings.database_pgbouncer else settings_of_server),
    }


def server_settings(settings: Settings) -> dict[str, str]:
    """Return the settings that the server keeps for each connection. No rollback undoes them.

    https://www.postgresql.org/docs/current/runtime-config-client.html
    """
    return {
        "search_path": search_path(settings),  # raw SQL sees the configured schema, and extensions
        "statement_timeout": milliseconds(settings.database_statement_timeout),
        "lock_timeout": milliseconds(settings.database_lock_timeout),
        "idle_in_transaction_session_timeout": milliseconds(settings.database_idle_transaction_timeout),
        "client_connection_check_interval": CHECK_CLIENT,  # ends the query of a client that is gone
    }


def milliseconds(seconds: float) -> str:
    """Return the time as PostgreSQL reads it."""
    return f"{math.ceil(seconds * 1000)}ms"


def search_path(settings: Settings) -> str:
    """Return the configured schema, and after it those of extensions, as SQL has them."""
    names = dict.fromkeys((settings.database_schema, *settings.database_extension_schemas))
    return ", ".join(map(quoted, names))


def quoted(name: str) -> str:
    """Return a name as SQL has it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'
