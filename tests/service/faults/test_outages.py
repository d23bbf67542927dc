"""The database is away, comes back, or stops answering; the service is never restarted."""

import asyncio
import re
import socket
import time
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from socket import IPPROTO_TCP, SO_KEEPALIVE, SOL_SOCKET
from typing import Any

import pytest
from asyncpg import ConnectionDoesNotExistError
from httpx2 import AsyncClient
from sqlalchemy import URL, event, text
from sqlalchemy.exc import DisconnectionError

from app.config import get_settings
from app.db import DatabaseSessionManager, sessionmanager
from app.db.engine import create_engine
from app.setting_types import parse_database_url
from dev.postgres import running_postgres
from service.databases import is_running, start, stop
from service.servers import served
from service.tools import eventually, on_server, proxied, run, text_of, wait_for

CLIENTS = 8


@pytest.fixture(scope="module")
def url(home: Path) -> Generator[URL]:
    with running_postgres(home, "fsync=off") as url:
        migrated = run("-m", "alembic", "upgrade", "head", DATABASE_URL=url)
        assert migrated.returncode == 0, migrated.stderr
        yield parse_database_url(url)


async def test_a_restart_of_the_database_fails_what_was_in_flight_and_nothing_else(
    home: Path, url: URL
) -> None:
    statuses: Counter[int] = Counter()
    readiness: list[int] = []
    running = True

    async def read(client: AsyncClient) -> None:
        while running:
            response = await client.get("/users")
            statuses[response.status_code] += 1
            assert ("retry-after" in response.headers) == (response.status_code == 503)

    async def probe(client: AsyncClient) -> None:
        while running:
            readiness.append((await client.get("/health/ready")).status_code)
            await asyncio.sleep(0.1)

    # As many connections as clients: each that is lost fails the one request that was on it.
    pool = {"DATABASE_POOL_SIZE": str(CLIENTS), "DATABASE_POOL_TIMEOUT": "30"}
    with served(DATABASE_URL=text_of(url), DATABASE_CONNECT_TIMEOUT="10", **pool) as server:
        async with AsyncClient(base_url=server.url, timeout=30) as client, asyncio.TaskGroup() as tasks:
            for _ in range(CLIENTS):
                tasks.create_task(read(client))
            tasks.create_task(probe(client))
            await asyncio.to_thread(wait_for, lambda: readiness and statuses[200] >= 10 * CLIENTS)
            await asyncio.to_thread(stop, home)
            await asyncio.sleep(3)
            await asyncio.to_thread(start, home, url.port)
            await asyncio.to_thread(wait_for, lambda: readiness[-1] == 200)
            await asyncio.sleep(1)
            running = False
        causes = re.findall('503, [^"]*', server.log)
        assert server.tracebacks == []
    assert set(statuses) <= {200, 503}
    assert statuses[503] <= CLIENTS, causes
    assert (readiness[0], 503 in readiness, readiness[-1]) == (200, True, 200)


async def test_the_service_starts_before_its_database(home: Path, url: URL) -> None:
    stop(home)
    try:
        with served(DATABASE_URL=text_of(url), DATABASE_CONNECT_TIMEOUT="0.3") as server:
            async with AsyncClient(base_url=server.url, timeout=30) as client:
                assert (await client.get("/health/live")).status_code == 200
                assert (await client.get("/health/ready")).status_code == 503
                assert (await client.get("/users")).status_code == 503
                await asyncio.to_thread(start, home, url.port)

                async def ready() -> bool:
                    return (await client.get("/health/ready")).status_code == 200

                assert await eventually(ready, seconds=5)
                assert (await client.post("/users", json={"email": "first@example.com"})).status_code == 201
    finally:
        if not is_running(home):
            start(home, url.port)


@pytest.mark.parametrize("ping", ["false", "true"])
@pytest.mark.parametrize("path", ["/users", "/test/sleep?seconds=0"])
async def test_a_database_that_never_answers_is_given_up(
    database: DatabaseSessionManager, path: str, ping: str
) -> None:
    async with proxied(get_settings().database_url) as proxy:
        timeouts = {
            "DATABASE_STATEMENT_TIMEOUT": "0.2",
            "DATABASE_CONNECT_TIMEOUT": "1",
            "DATABASE_POOL_PRE_PING": ping,
        }
        with served(DATABASE_URL=text_of(proxy.url), **timeouts) as server:
            async with AsyncClient(base_url=server.url, timeout=30) as client:

                async def answered() -> bool:
                    return (await client.get(path)).status_code == 200

                assert await eventually(answered)
                proxy.flowing.clear()
                started = time.monotonic()
                assert (await client.get(path)).status_code == 503  # an open connection
                assert time.monotonic() - started < 10
                assert (await client.get(path)).status_code == 503  # a new one
                proxy.flowing.set()
                assert await eventually(answered)

                async def nothing_is_open() -> bool:  # the check at the start had a session, too
                    opened = (await client.get("/test/open")).raise_for_status().json()
                    return bool(opened == {"sessions": 0, "connections": 0})

                assert await eventually(nothing_is_open)


async def test_a_connection_that_is_broken_off_because_the_server_stops_is_tried_again(
    database: DatabaseSessionManager,
) -> None:
    async with proxied(get_settings().database_url) as proxy:
        manager = DatabaseSessionManager()
        manager.init_db(get_settings().model_copy(update={"database_url": proxy.url}))
        proxy.refusing = 3
        async with manager.session() as session:
            assert await session.scalar(text("SELECT 1")) == 1
        assert proxy.refusing == 0
        await manager.close()


async def test_a_connection_on_which_nothing_answers_is_not_kept(database: DatabaseSessionManager) -> None:
    async with proxied(get_settings().database_url) as proxy:
        engine = create_engine(
            get_settings().model_copy(
                update={"database_url": proxy.url, "database_statement_timeout": 0.1},
            )
        )
        async with engine.connect() as connection:
            opened: Any = (await connection.get_raw_connection()).driver_connection
            proxy.flowing.clear()
            with pytest.raises(ConnectionDoesNotExistError):
                await opened.execute("BEGIN")
            assert opened.is_closed()
            proxy.flowing.set()
        await engine.dispose()


async def test_the_system_looks_after_connections_that_wait_for_ever(
    database: DatabaseSessionManager,
) -> None:
    async with database.session() as session:
        connection = await (await session.connection()).get_raw_connection()
        opened: Any = connection.driver_connection
        opened_socket = opened._transport.get_extra_info("socket")
        assert opened_socket.getsockopt(SOL_SOCKET, SO_KEEPALIVE)
        if idle := getattr(socket, "TCP_KEEPIDLE", None):
            assert opened_socket.getsockopt(IPPROTO_TCP, idle) == 60


async def test_connections_to_a_database_that_never_answers_are_broken_off_at_the_end(
    database: DatabaseSessionManager, caplog: pytest.LogCaptureFixture
) -> None:
    async def use(manager: DatabaseSessionManager) -> None:
        async with manager.session() as session:
            await session.execute(text("SELECT pg_sleep(0.1)"))

    async with proxied(get_settings().database_url) as proxy:
        manager = DatabaseSessionManager()
        manager.init_db(get_settings().model_copy(update={"database_url": proxy.url}))
        await asyncio.gather(*[use(manager) for _ in range(5)])
        proxy.flowing.clear()
        async with asyncio.timeout(9):  # less than one of them would be waited for
            await manager.close()
        proxy.flowing.set()


async def test_killed_idle_connections_fail_no_request(client: AsyncClient) -> None:
    url = get_settings().database_url
    await asyncio.gather(*[client.get("/test/sleep", params={"seconds": 0.05}) for _ in range(10)])
    killed = await on_server(
        url,
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        f"WHERE datname = '{url.database}' AND pid != pg_backend_pid()",
    )
    assert killed >= 10
    await asyncio.sleep(0.1)  # for the news to arrive
    answers = await asyncio.gather(*[client.get("/users") for _ in range(20)])
    assert [answer.status_code for answer in answers] == [200] * 20


async def test_connections_that_are_lost_as_soon_as_they_are_made_are_a_503(client: AsyncClient) -> None:
    def lose(*_: object) -> None:
        raise DisconnectionError

    for engine in (sessionmanager.engine, sessionmanager.read_engine):
        event.listen(engine.sync_engine, "checkout", lose)  # as long as this test's engines
    for answer in (await client.get("/users"), await client.delete("/users/1")):
        assert (answer.status_code, "retry-after" in answer.headers) == (503, True)


async def test_pools_that_the_server_cannot_serve_are_warned_of_once(
    database: DatabaseSessionManager,
) -> None:
    pools = {"DATABASE_POOL_SIZE": "40", "DATABASE_MAX_OVERFLOW": "1", "DATABASE_READ_POOL_SIZE": "19"}
    warning = (
        "(DATABASE_POOL_SIZE 40 + DATABASE_MAX_OVERFLOW 1 + DATABASE_READ_POOL_SIZE 19) x "
        "WEB_CONCURRENCY 2 = 120 connections, but the server has 97 for applications"
    )
    with served("--workers", "1", **pools, WEB_CONCURRENCY="2") as server:
        await asyncio.to_thread(wait_for, lambda: warning in server.log)
        await asyncio.sleep(0.5)
        assert server.log.count("for applications") == 1
    # The reads of a replica that is away go to the primary, unless they may not.
    pools |= {"DATABASE_READ_POOL_SIZE": "60", "DATABASE_REPLICA_URL": text_of(get_settings().database_url)}
    with served(**pools) as server:
        warning = "DATABASE_READ_POOL_SIZE 60) x WEB_CONCURRENCY 1 = 101 connections"
        await asyncio.to_thread(wait_for, lambda: warning in server.log)
    for fitting in ({"DATABASE_REPLICA_FALLBACK": "false"}, {"DATABASE_READ_POOL_SIZE": "56"}):
        with served(**pools | fitting) as server:
            await asyncio.sleep(0.5)
            assert "for applications" not in server.log


async def test_a_request_that_finds_no_slot_on_the_server_is_a_503(client: AsyncClient) -> None:
    url = get_settings().database_url
    role = f"crowded_{url.database}"  # roles are the server's, not the database's
    await on_server(url, f"CREATE ROLE {role} LOGIN PASSWORD 'x' CONNECTION LIMIT 1")
    try:
        await sessionmanager.close()
        crowded = {"database_url": url.set(username=role, password="x"), "database_connect_timeout": 1}
        sessionmanager.init_db(get_settings().model_copy(update=crowded))
        served, refused = await asyncio.gather(
            client.get("/test/sleep", params={"seconds": 2}), client.get("/test/schema")
        )
        assert sorted([served.status_code, refused.status_code]) == [200, 503]
    finally:
        await sessionmanager.close()
        await on_server(url, f"DROP ROLE {role}")
        sessionmanager.init_db(get_settings())
