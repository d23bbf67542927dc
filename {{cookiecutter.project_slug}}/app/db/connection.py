"""A connection: how it is opened, and what asyncpg does not do."""

import asyncio
import configparser
import math
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import stamina
import stamina.instrumentation
from sqlalchemy.exc import DBAPIError

from app.db.telemetry import Limits, Watch

stamina.instrumentation.set_on_retry_hooks([])  # no log line for each attempt
# The server is away: refused, shutting down or starting, lost while the connection was made, no slot.
AWAY = (
    OSError,
    asyncpg.OperatorInterventionError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.TooManyConnectionsError,
    asyncpg.TargetServerAttributeNotMatched,  # the host is no primary: another is, or this one will be
)
NO_TLS = "rejected SSL upgrade"  # asyncpg's words. It has no class for this error
# What a URL may change: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-KEEPALIVES
KEEP_ALIVE = {"keepalives_idle": 60, "keepalives_interval": 10, "keepalives_count": 6}  # seconds; times
OPTIONS = {
    "keepalives_idle": "TCP_KEEPIDLE",
    "keepalives_interval": "TCP_KEEPINTVL",
    "keepalives_count": "TCP_KEEPCNT",
}


class Connection(asyncpg.Connection):
    """asyncpg's connection. It also raises if a COMMIT rolled back, or if the server does not answer."""

    stands_in_until = math.inf  # a connection to the primary, while the replica is away: see replica.py
    keep_alive: Mapping[str, int] = KEEP_ALIVE
    limits = Limits()

    def __init__(self, protocol: Any, transport: asyncio.Transport, *args: Any) -> None:
        super().__init__(protocol, transport, *args)
        self.peer = transport.get_extra_info("peername")
        self.socket = transport.get_extra_info("socket")
        self.watch = Watch(self.limits, self.is_in_transaction)
        keep_alive(self.socket, self.keep_alive)

    def hang_up(self) -> None:
        """Let the server go after the end of the event loop. uvloop has done so; its sockets cannot."""
        with suppress(OSError, TypeError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def is_in_transaction(self) -> bool:
        """Tell whether a transaction is open. asyncpg's method fails on a connection that was broken off."""
        return not self.is_closed() and super().is_in_transaction()

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109 as asyncpg has it
        """Execute a statement. SQLAlchemy sends BEGIN, COMMIT and ROLLBACK this way."""
        with self.watch.statement(query):
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


def keep_alive(connection: socket.socket, times: Mapping[str, int]) -> None:
    """Turn on TCP keepalive, two minutes if the system has such a setting: the server may be gone."""
    if times.get("keepalives", 1) and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, option in OPTIONS.items():
            if hasattr(socket, option) and times[name]:  # 0: the system's
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), times[name])


def is_away(error: Exception, *, passfile: bool) -> bool:
    """Tell whether another attempt may succeed. It does not mend a certificate, or a server without TLS.

    A password that comes from a file may have been changed in the server a moment before the file.
    """
    changed = passfile and isinstance(error, asyncpg.InvalidPasswordError)
    refused = isinstance(error, ssl.SSLError) or NO_TLS in str(error)
    return changed or (isinstance(error, AWAY) and not refused)


async def connect(
    *, urls: list[str], retry_for: float, tls: Callable[[], dict[str, Any]], **kwargs: Any
) -> asyncpg.Connection:
    """Open a connection; try again for this many seconds while the server is away or starts.

    There is a URL for each host, and each attempt takes the next: asyncpg has one time limit for all hosts,
    which a host that does not answer would use up. The host that answered last is asked first next time.

    Raises:
        DBAPIError: the server cannot be reached, or takes no connection. SQLAlchemy 2.0 does not wrap the
            driver's error here, and handlers and scripts look for SQLAlchemy's.
    """
    end = time.monotonic() + retry_for
    may_succeed = partial(is_away, passfile="passfile=" in urls[0])
    try:
        async for attempt in stamina.retry_context(
            on=may_succeed, attempts=None, timeout=retry_for, wait_initial=0.05, wait_max=0.5, wait_jitter=0.1
        ):
            with attempt:
                url, seconds = urls[0], min(end - time.monotonic(), retry_for / len(urls))
                try:
                    return await asyncpg.connect(url, timeout=max(seconds, 0.1), **tls(), **kwargs)
                except AWAY as error:
                    if url == urls[0]:  # else another connection has moved on
                        urls.append(urls.pop(0))
                    if isinstance(error.__cause__, ssl.SSLError):  # the server refused our certificate
                        raise error.__cause__ from None
                    raise
    except (OSError, asyncpg.TargetServerAttributeNotMatched, asyncpg.InterfaceError) as error:
        reason = str(error).partition("\n")[0] or "no answer in time"  # the hint is on the next line
        named = parse_qs(urlsplit(url).query)
        place = ":".join([*named.get("host", []), *named.get("port", [])])
        cause = asyncpg.CannotConnectNowError(
            f"The database{place and f' {place}'} cannot be reached: {reason}"
        )
        raise DBAPIError(None, None, cause) from error
    except configparser.Error:  # its message may have a part of a password
        cause = asyncpg.CannotConnectNowError("The driver cannot read the service file. Is there a % in it?")
        raise DBAPIError(None, None, cause) from None
    except asyncpg.PostgresError as error:
        raise DBAPIError(None, None, error) from error
    raise AssertionError("stamina returns or raises")
