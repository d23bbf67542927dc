"""The driver's connection, and what it lacks."""

import asyncio
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import asyncpg

KEEP_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}  # seconds, seconds, times


class DriverConnection(asyncpg.Connection):
    """A connection that knows whether a statement is running, and on which a COMMIT that did not is an error.

    When a statement failed and its error was caught, PostgreSQL answers the later COMMIT with a ROLLBACK
    and no error; asyncpg and SQLAlchemy pass that on as a success.
    """

    busy = False

    def __init__(self, protocol: Any, transport: asyncio.Transport, *args: Any) -> None:
        super().__init__(protocol, transport, *args)
        keep_alive(transport.get_extra_info("socket"))

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109 as asyncpg has it
        """Execute `query` and return PostgreSQL's command tag.

        Raises:
            asyncpg.InFailedSQLTransactionError: a COMMIT was answered with ROLLBACK.
            asyncpg.ConnectionDoesNotExistError: there was no answer in time.
        """
        with self.given_up():
            status: str = await super().execute(query, *args, timeout=timeout)
        if query == "COMMIT;" and status != "COMMIT":
            raise asyncpg.InFailedSQLTransactionError(
                "PostgreSQL rolled back instead of committing, because a statement had failed and its "
                "error was caught. Let it through, or put the statement into `async with "
                "session.begin_nested():`, which undoes that statement alone."
            )
        return status

    async def fetchrow(self, *args: Any, **kwargs: Any) -> asyncpg.Record | None:
        """Return the first row. This is what the pool's ping calls: its error must be one of the database."""
        with self.given_up():
            return await super().fetchrow(*args, **kwargs)

    @contextmanager
    def given_up(self) -> Generator[None]:
        """Break the connection off if there is no answer in time."""
        try:
            yield
        except TimeoutError as error:
            self.terminate()
            raise asyncpg.ConnectionDoesNotExistError("The database did not answer in time.") from error


def keep_alive(connection: socket.socket) -> None:
    """Have the system notice that the server's machine is gone, also while a statement may take for ever.

    It does after two minutes of waiting for an answer, or of sending, when it gives up; in its own time where
    it does not let us say so.
    """
    if connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEP_ALIVE.items():
            if option := getattr(socket, name, None):
                connection.setsockopt(socket.IPPROTO_TCP, option, value)
