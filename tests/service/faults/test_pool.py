"""The pool is exhausted or misused, and recovers."""

import asyncio
from collections import Counter

import pytest
from httpx2 import AsyncClient, Limits
from sqlalchemy import text
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util import greenlet_spawn

from app.config import get_settings
from app.db import DatabaseSessionManager
from app.db.errors import SharedSessionError
from app.db.pool import FairPool
from service.routes import open_now
from service.servers import served
from service.tools import eventually, on_server

IDLE_IN_TRANSACTION = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND state LIKE 'idle in transaction%'
"""
NOTHING = {"sessions": 0, "connections": 0}
REQUESTS = 500


@pytest.mark.usefixtures("database")
async def test_requests_that_the_pool_cannot_serve_are_told_to_come_back() -> None:
    # Time enough for the first to connect while hundreds of others arrive.
    pool = {"DATABASE_POOL_SIZE": "5", "DATABASE_POOL_TIMEOUT": "1", "DATABASE_CONNECT_TIMEOUT": "30"}
    with served(**pool) as server:
        # A connection for each request: one that is kept may be closed by the server as it is used again.
        limits = Limits(max_connections=REQUESTS, max_keepalive_connections=0)
        async with AsyncClient(base_url=server.url, timeout=30, limits=limits) as client:
            answers = await asyncio.gather(
                *[client.get("/test/sleep", params={"seconds": 0.5}) for _ in range(REQUESTS)]
            )
            statuses = Counter(answer.status_code for answer in answers)
            assert set(statuses) == {200, 503}
            assert statuses[200] >= 5
            assert all(
                answer.headers["retry-after"] == "1" for answer in answers if answer.status_code == 503
            )
            assert (await client.get("/test/open")).raise_for_status().json() == NOTHING
            assert {(await client.get("/users")).status_code for _ in range(20)} == {200}
        assert "503, TimeoutError: QueuePool limit" in server.log
        assert server.log.count(" 503, ") == statuses[503], server.log  # one line each
        assert server.tracebacks == []


@pytest.mark.usefixtures("database")
async def test_one_session_in_several_tasks_leaks_nothing_while_the_pool_connects() -> None:
    with served(DATABASE_POOL_SIZE="4") as server:
        async with AsyncClient(base_url=server.url, timeout=30) as client:
            answers = await asyncio.gather(*[client.get("/test/gather") for _ in range(25)])
            # On a connection that is open already, SQLAlchemy runs the statements one after the other.
            assert {answer.status_code for answer in answers} <= {200, 500, 503}
            assert (await client.get("/test/open")).raise_for_status().json() == NOTHING
            assert (await client.get("/users")).status_code == 200
        assert "500, InvalidRequestError: This session is provisioning a new connection" in server.log


async def test_a_connection_that_came_back_busy_is_replaced(database: DatabaseSessionManager) -> None:
    with served(DATABASE_POOL_SIZE="2") as server:
        async with AsyncClient(base_url=server.url, timeout=30) as client:
            assert (await client.get("/test/leave-while-executing")).status_code == 418
            assert {(await client.get("/users")).status_code for _ in range(20)} == {200}
            await asyncio.sleep(0.2)
            assert {(await client.get("/users")).status_code for _ in range(20)} == {200}
            assert (await client.get("/test/open")).raise_for_status().json() == NOTHING


@pytest.mark.parametrize("seconds", [0, 0.3])  # when the session is closed, the statement is over, or is not
async def test_a_session_that_waits_for_the_pool_in_another_task_is_closed_after_all(
    database: DatabaseSessionManager, seconds: float
) -> None:
    await database.close()
    update = {"database_pool_size": 1, "database_pool_timeout": 30}
    database.init_db(get_settings().model_copy(update=update))
    waiting: list[asyncio.Task[object]] = []

    async def leave() -> None:
        async with database.session() as session:
            waiting.append(asyncio.create_task(session.execute(text(f"SELECT pg_sleep({seconds})"))))
            await asyncio.sleep(0.05)
            raise ValueError

    async with database.engine.connect():
        task = asyncio.create_task(leave())
        await asyncio.sleep(0.2)
    with pytest.raises(ValueError):  # noqa: PT011 the one that was raised above
        await task
    await asyncio.gather(*waiting, return_exceptions=True)
    assert open_now() == NOTHING


async def test_connections_are_given_to_those_who_wait_in_the_order_in_which_they_came(
    database: DatabaseSessionManager,
) -> None:
    await database.close()
    database.init_db(get_settings().model_copy(update={"database_pool_size": 1}))
    served: list[int] = []

    async def use(number: int) -> None:
        async with database.engine.connect():
            served.append(number)

    async with database.engine.connect():
        waiting = [asyncio.create_task(use(number)) for number in range(5)]
        await asyncio.sleep(0.05)
    await use(5)  # comes when the connection is free, and the first in line has not run yet
    await asyncio.gather(*waiting)
    assert served == [0, 1, 2, 3, 4, 5]


@pytest.fixture
async def pool(database: DatabaseSessionManager, request: pytest.FixtureRequest) -> FairPool:
    """A pool of (size, overflow) connections."""
    await database.close()
    size, overflow = request.param
    update = {"database_pool_size": size, "database_max_overflow": overflow, "database_pool_timeout": 10}
    database.init_db(get_settings().model_copy(update=update))
    pool = database.engine.pool
    assert isinstance(pool, FairPool)
    return pool


def get(pool: FairPool) -> asyncio.Task[ConnectionPoolEntry]:
    """Ask for a connection."""
    return asyncio.create_task(greenlet_spawn(pool._do_get))


async def give_back(pool: FairPool, connection: ConnectionPoolEntry) -> None:
    await greenlet_spawn(pool._do_return_conn, connection)


@pytest.mark.parametrize("pool", [(1, 0)], indirect=True)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_who_is_cancelled_when_a_connection_is_handed_over_takes_none_along(
    pool: FairPool, when: str
) -> None:
    connection = await get(pool)
    first, second = get(pool), get(pool)
    await asyncio.sleep(0)
    if when == "before":
        first.cancel()
    await give_back(pool, connection)
    first.cancel()
    assert await second is connection
    assert first.cancelled()
    await give_back(pool, connection)
    assert (pool.checkedout(), pool.waiting()) == (0, 0)


@pytest.mark.parametrize("pool", [(1, 1)], indirect=True)
async def test_a_connection_that_comes_back_twice_as_overflow_is_not_lost(pool: FairPool) -> None:
    one, other = await get(pool), await get(pool)
    late = get(pool)
    await asyncio.sleep(0)
    await give_back(pool, one)
    late.cancel()  # it is its turn, and it has not run yet
    await give_back(pool, other)  # the pool is full: this one is closed
    with pytest.raises(asyncio.CancelledError):
        await late
    assert pool.checkedout() == 0
    for connection in [await get(pool), await get(pool)]:
        await give_back(pool, connection)
    assert pool.checkedout() == 0


@pytest.mark.parametrize("pool", [(1, 0)], indirect=True)
async def test_who_waits_opens_the_connection_that_somebody_else_gave_up(pool: FairPool) -> None:
    connecting, waiting, cancelled = get(pool), get(pool), get(pool)
    await asyncio.sleep(0)
    connecting.cancel()
    cancelled.cancel()
    async with asyncio.timeout(60):
        await give_back(pool, await waiting)
    assert (pool.checkedout(), pool.waiting()) == (0, 0)


@pytest.mark.parametrize("pool", [(1, 0)], indirect=True)
@pytest.mark.parametrize("turns", [0, 3])  # it has not begun to connect, or it has
async def test_a_slot_is_handed_on_until_somebody_uses_it(pool: FairPool, turns: int) -> None:
    connecting, first, second = get(pool), get(pool), get(pool)
    await asyncio.sleep(0)
    connecting.cancel()
    while pool.waiting() == 2:
        await asyncio.sleep(0)
    for _ in range(turns):
        await asyncio.sleep(0)
    first.cancel()
    async with asyncio.timeout(60):
        await give_back(pool, await second)
    assert first.cancelled()
    assert pool.checkedout() == 0


@pytest.mark.parametrize("pool", [(1, 0)], indirect=True)
async def test_who_waited_too_long_is_no_longer_in_line(pool: FairPool) -> None:
    connection = await get(pool)
    pool._timeout = 0.01
    with pytest.raises(PoolTimeout, match=r"size 1 overflow 0 reached, no connection in 0\.01 s"):
        await get(pool)
    assert pool.waiting() == 0
    await give_back(pool, connection)
    assert pool.checkedout() == 0


async def test_what_is_queued_behind_another_statement_does_not_run_in_a_transaction_of_somebody_else(
    database: DatabaseSessionManager,
) -> None:
    await database.close()
    alone = {"database_pool_size": 1, "database_pool_timeout": 60}
    database.init_db(get_settings().model_copy(update=alone))

    async def bad(number: int) -> None:
        async with database.session() as session:
            await execute(session)
            insert = text("INSERT INTO users (email) VALUES (:email)")
            await asyncio.gather(
                session.execute(text("SELECT 1/0")),
                *[session.execute(insert, {"email": f"bad{number}.{each}"}) for each in range(3)],
            )

    async def innocent(number: int) -> None:
        async with database.session() as session:
            await session.execute(text(f"INSERT INTO users (email) VALUES ('innocent{number}')"))

    units = [unit(number) for number in range(40) for unit in (bad, innocent)]
    results = await asyncio.gather(*units, return_exceptions=True)
    assert results.count(None) == 40
    async with database.read_session() as session:
        emails = set(await session.scalars(text("SELECT email FROM users")))
    assert emails == {f"innocent{number}" for number in range(40)}


async def execute(session: AsyncSession) -> None:
    await session.execute(text("SELECT pg_sleep(0.01)"))


async def test_one_session_in_two_tasks_is_an_error_and_does_not_poison_the_pool(
    database: DatabaseSessionManager,
) -> None:
    async def leave_while_another_task_executes(*, failing: bool) -> None:
        async with database.session() as session:
            await execute(session)
            tasks.append(asyncio.create_task(session.execute(text("SELECT pg_sleep(0.1)"))))
            await asyncio.sleep(0.01)
            if failing:
                raise ValueError("what came first")

    tasks: list[asyncio.Task[object]] = []
    for _ in range(10):
        with pytest.raises(SharedSessionError, match="another task"):
            await leave_while_another_task_executes(failing=False)
        with pytest.raises(ValueError, match="what came first"):
            await leave_while_another_task_executes(failing=True)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert open_now() == NOTHING

    async def none_is_idle() -> bool:  # a backend that was broken off may have a statement to finish
        return bool(await on_server(get_settings().database_url, IDLE_IN_TRANSACTION) == 0)

    assert await eventually(none_is_idle, seconds=3)
    for _ in range(20):
        async with database.session() as session:
            await execute(session)


async def test_one_stream_in_two_tasks_is_an_error(database: DatabaseSessionManager) -> None:
    async def share() -> None:
        async with database.session() as session:
            rows = await session.stream(text("SELECT pg_sleep(0.001) FROM generate_series(1, 1000)"))
            await asyncio.gather(rows.all(), rows.all())

    with pytest.raises(SharedSessionError, match="another task"):
        await share()
    assert open_now() == NOTHING
