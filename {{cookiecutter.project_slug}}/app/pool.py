"""The pool of connections."""

import asyncio
import time
from collections import deque
from typing import Any, Literal

from sqlalchemy import exc
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry
from sqlalchemy.util import await_


class FairPool(AsyncAdaptedQueuePool):
    """SQLAlchemy's pool, in which those who wait for a connection get one in the order in which they came.

    In SQLAlchemy's own, whoever asks at the right moment takes what came back for somebody who waits, and who
    is the last in line again: with many clients most requests are fast, and some wait for seconds. And where
    an attempt to connect fails, nobody who waits makes the next.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Each is given a connection, or None: the right to open one.
        self._line: deque[asyncio.Future[ConnectionPoolEntry | None]] = deque()
        self.timeouts = 0  # how many waited in vain

    @property
    def limit(self) -> int:
        """How many connections it opens at most."""
        return self.size() + self._max_overflow

    @property
    def waiting(self) -> int:
        """How many wait for a connection now."""
        return len(self._line)

    def terminate(self) -> None:
        """Break off the connections that are in the pool."""
        while not self._pool.empty():
            connection: Any = self._pool.get(block=False).dbapi_connection
            if connection is not None:
                connection.driver_connection.terminate()

    def _do_get(self) -> ConnectionPoolEntry:
        if not self._pool.empty() or self._overflow < self._max_overflow:
            return super()._do_get()
        place: asyncio.Future[ConnectionPoolEntry | None] = asyncio.get_running_loop().create_future()
        self._line.append(place)
        since = time.monotonic()
        try:
            entry = await_(self._wait(place))
        except BaseException:
            if place.done() and not place.cancelled():
                self._give(place.result())  # it came too late
            elif place in self._line:
                self._line.remove(place)
            raise
        entry = entry or self._open()
        entry.info["waited"] = time.monotonic() - since
        return entry

    async def _wait(self, place: asyncio.Future[ConnectionPoolEntry | None]) -> ConnectionPoolEntry | None:
        try:
            async with asyncio.timeout(self._timeout):
                return await place
        except TimeoutError:
            self.timeouts += 1
            raise exc.TimeoutError(
                f"QueuePool limit of size {self.size()} overflow {self._max_overflow} reached, "
                f"no connection in {self._timeout:g} s"
            ) from None

    def _open(self) -> ConnectionPoolEntry:
        try:
            return self._create_connection()
        except BaseException:
            self._dec_overflow()
            raise

    def _create_connection(self) -> ConnectionPoolEntry:
        since = time.monotonic()
        entry = super()._create_connection()
        entry.info["waited"] = time.monotonic() - since
        return entry

    def _give(self, entry: ConnectionPoolEntry | None) -> None:
        if entry:
            self._do_return_conn(entry)
        else:
            self._dec_overflow()

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        if not self._hand_over(record):
            super()._do_return_conn(record)

    def _dec_overflow(self) -> Literal[True]:
        if not self._hand_over(None):
            super()._dec_overflow()
        return True

    def _hand_over(self, entry: ConnectionPoolEntry | None) -> bool:
        """Give the connection, or the right to open one, to the first in line; tell whether there was one."""
        while self._line:
            place = self._line.popleft()
            if not place.done():
                place.set_result(entry)
                return True
        return False
