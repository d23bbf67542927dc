"""The pool of connections."""

import asyncio
from collections import deque

from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry
from sqlalchemy.util import await_
from sqlalchemy.util.queue import AsyncAdaptedQueue, Empty


class FairQueue(AsyncAdaptedQueue[ConnectionPoolEntry]):
    """The idle connections of a pool, and those who wait for one: first come, first served.

    In SQLAlchemy's own, whoever asks at the right moment takes what came back for somebody who waits, and who
    is the last in line again: with many clients most requests are fast, and some wait for seconds.
    """

    def __init__(self, maxsize: int = 0, use_lifo: bool = False) -> None:  # noqa: FBT001, FBT002 as the pool calls it
        super().__init__(maxsize, use_lifo)
        self._waiting: deque[asyncio.Future[ConnectionPoolEntry]] = deque()

    def put_nowait(self, item: ConnectionPoolEntry) -> None:
        """Hand the connection to the first who waits, or keep it.

        Raises:
            sqlalchemy.util.queue.Full: nobody waits, and the queue is full.
        """
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(item)
                return
        super().put_nowait(item)

    def get(self, block: bool = True, timeout: float | None = None) -> ConnectionPoolEntry:  # noqa: FBT001, FBT002
        """Return an idle connection; if there is none and `block` is true, wait this many seconds for one.

        Raises:
            sqlalchemy.util.queue.Empty: there was none.
        """
        if not block or not self.empty():
            return self.get_nowait()
        entry: ConnectionPoolEntry = await_(self._wait(timeout))
        return entry

    async def _wait(self, timeout: float | None) -> ConnectionPoolEntry:  # noqa: ASYNC109 the pool's
        waiter: asyncio.Future[ConnectionPoolEntry] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(timeout):
                return await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():
                self.put_nowait(waiter.result())  # it was handed over, too late
            elif waiter in self._waiting:
                self._waiting.remove(waiter)
            if isinstance(error, TimeoutError):
                raise Empty from None
            raise


class FairPool(AsyncAdaptedQueuePool):
    """SQLAlchemy's pool, in which those who wait for a connection get one in the order in which they came."""

    _queue_class = FairQueue
