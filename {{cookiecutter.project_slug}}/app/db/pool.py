"""The pool of connections, and its numbers.

This is the only module that uses what SQLAlchemy keeps private: `_do_get`, `_do_return_conn`, `_pool`,
`_timeout` and `_max_overflow` of its pool, because nothing public lets others wait in line. The way back:
delete the line `poolclass=FairPool` in `engine.py`. Everything else works on SQLAlchemy's own pool.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

from anyio import Semaphore, WouldBlock
from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation
from sqlalchemy import exc
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry, Pool
from sqlalchemy.util import await_only, greenlet_spawn

NO_SLOT = "53300"  # too many connections
# https://opentelemetry.io/docs/specs/semconv/database/database-metrics/
meter = metrics.get_meter("app")
wait_time = meter.create_histogram(
    "db.client.connection.wait_time",
    "s",
    "How long it took to get a connection from the pool, or to open it.",
    explicit_bucket_boundaries_advisory=[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10],
)


class FairPool(AsyncAdaptedQueuePool):
    """SQLAlchemy's pool behind a line: each task gets a connection, or the right to open one, in turn.

    In SQLAlchemy's own pool, a new task can take a connection before those that wait longer. With many
    clients most requests are fast, and some wait for seconds. And where an attempt to connect fails, no task
    in the line makes the next attempt.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limit = self.size() + self._max_overflow
        self.timeouts = 0  # how many waited in vain
        self._turns = Semaphore(self.limit, max_value=self.limit, fast_acquire=True)
        self._name = {"db.client.connection.pool.name": str(self.logging_name)}

    def waiting(self) -> int:
        """Return how many tasks wait for a connection now."""
        return self._turns.statistics().tasks_waiting

    def empty(self) -> Iterator[Any]:
        """Take out the driver's connections that are in the pool."""
        while not self._pool.empty():
            if connection := self._pool.get(block=False).driver_connection:
                yield connection

    def _do_get(self) -> ConnectionPoolEntry:
        start = time.monotonic()
        try:
            self._turns.acquire_nowait()
        except WouldBlock:
            await_only(self._wait())
        try:
            entry = super()._do_get()
        except BaseException:
            self._turns.release()
            raise
        wait_time.record(time.monotonic() - start, self._name)
        return entry

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await self._turns.acquire()
        except TimeoutError:
            self.timeouts += 1
            raise exc.TimeoutError(
                f"QueuePool limit of size {self.size()} overflow {self._max_overflow} reached, "
                f"no connection in {self._timeout:g} s"
            ) from None

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        try:
            super()._do_return_conn(record)
        finally:
            self._turns.release()

    def report(self) -> None:
        """Tell OpenTelemetry the numbers of this pool, if it collects something, whenever it asks."""

        def look(number: Callable[[], int], **state: str) -> Callable[[CallbackOptions], list[Observation]]:
            return lambda _: [Observation(number(), self._name | state)]

        used = look(self.checkedout, **{"db.client.connection.state": "used"})
        idle = look(self.checkedin, **{"db.client.connection.state": "idle"})
        count, waiting = meter.create_observable_up_down_counter, look(self.waiting)
        count("db.client.connection.count", [used, idle], "{connection}")
        count("db.client.connection.max", [look(lambda: self.limit)], "{connection}")
        count("db.client.connection.pending_requests", [waiting], "{request}")
        timeouts = look(lambda: self.timeouts)
        meter.create_observable_counter("db.client.connection.timeouts", [timeouts], "{timeout}")


async def answers_aside(pool: Pool) -> bool:
    """Connect outside the pool where all its connections are in use; tell whether that was so.

    That the server has no connection left is an answer, too. Any other error is raised.
    """
    if not (isinstance(pool, FairPool) and (pool.waiting() or pool.checkedout() >= pool.limit)):
        return False

    def look() -> None:
        aside = pool.recreate()
        try:
            aside.connect().close()
        finally:
            aside.dispose()

    try:
        await greenlet_spawn(look)
    except exc.DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != NO_SLOT:
            raise
    return True
