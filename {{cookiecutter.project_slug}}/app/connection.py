"""A connection: how it is opened, and what it is made with."""

import math
import sys
import time
from typing import Any

import asyncpg
import stamina
import stamina.instrumentation

from app.config import Settings
from app.driver import DriverConnection

CHECK_CLIENT = "0" if sys.platform == "win32" else "1s"  # a server on Windows takes nothing but 0
stamina.instrumentation.set_on_retry_hooks([])  # no log line for each attempt
# Refused, shutting down or starting, lost while it was made, no slot.
AWAY = (
    OSError,
    asyncpg.OperatorInterventionError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.TooManyConnectionsError,
)
COMMAND_GRACE = 1  # seconds that the server has to say itself that a statement took too long
# PgBouncer may give every transaction another server connection, so nothing is prepared for a later one: the
# first is asyncpg's cache, the second SQLAlchemy's. Each statement is sent again with its execution.
PGBOUNCER = {"statement_cache_size": 0, "prepared_statement_cache_size": 0}


async def connect(*args: Any, retry_for: float, **kwargs: Any) -> asyncpg.Connection:
    """Open a connection, trying again for this many seconds while the server is away or starts.

    Raises:
        asyncpg.CannotConnectNowError: refused, unknown host, or no answer in time. Not an `OSError`: that
            would be one among others, this is an error of the database.
        asyncpg.TooManyConnectionsError: the server has no connection to spare.
    """
    end = time.monotonic() + retry_for
    try:
        async for attempt in stamina.retry_context(
            on=AWAY,
            attempts=None, timeout=retry_for, wait_initial=0.05, wait_max=0.5, wait_jitter=0.1,
        ):  # fmt: skip
            with attempt:
                seconds = max(end - time.monotonic(), 0.1)
                return await asyncpg.connect(*args, timeout=seconds, **kwargs)
    except OSError as error:
        reason = str(error) or "no answer in time"
        raise asyncpg.CannotConnectNowError(f"The database cannot be reached: {reason}") from error
    raise AssertionError("stamina returns or raises")


def connect_args(settings: Settings) -> dict[str, Any]:
    """Return the `connect_args` of an engine. What is set at connect costs no round trip later.

    PgBouncer takes no settings at connect: there the role has them, which the migrations see to.
    """
    return {
        "async_creator_fn": connect,
        "connection_class": DriverConnection,
        "retry_for": settings.database_connect_timeout,
        "command_timeout": command_timeout(settings),
        **(PGBOUNCER if settings.database_pgbouncer else {"server_settings": server_settings(settings)}),
    }


def server_settings(settings: Settings) -> dict[str, str]:
    """Return what the server is to hold of each connection. No rollback undoes it.

    https://www.postgresql.org/docs/current/runtime-config-client.html
    """
    return {
        "search_path": quoted_schema(settings),  # raw SQL sees the configured schema
        "statement_timeout": milliseconds(settings.database_statement_timeout),
        "lock_timeout": milliseconds(settings.database_lock_timeout),
        "idle_in_transaction_session_timeout": milliseconds(settings.database_idle_transaction_timeout),
        "client_connection_check_interval": CHECK_CLIENT,  # ends the query of a client that is gone
    }


def command_timeout(settings: Settings) -> float | None:
    """Return after how many seconds a statement is given up whatever the server does, or None for never.

    A little after the server's own limit: it counts where the network or the server is frozen.
    """
    return (
        settings.database_statement_timeout + COMMAND_GRACE if settings.database_statement_timeout else None
    )


def milliseconds(seconds: float) -> str:
    """Return the time as PostgreSQL reads it."""
    return f"{math.ceil(seconds * 1000)}ms"


def quoted_schema(settings: Settings) -> str:
    """Return the name of the schema as SQL has it, whatever is in it."""
    return '"' + settings.database_schema.replace('"', '""') + '"'
