"""Readiness: 200 while requests are answered, however many wait; 503 while the database does not answer."""

import asyncio
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from httpx2 import AsyncClient, Limits
from sqlalchemy import URL

from app.setting_types import parse_database_url
from app.web.health import DEADLINE
from dev.postgres import running_postgres
from service.databases import freeze, thaw
from service.servers import served
from service.tools import eventually, text_of

CLIENTS = 100  # the last waits 5 s
POOLS = {"DATABASE_POOL_SIZE": "2", "DATABASE_READ_POOL_SIZE": "2", "DATABASE_POOL_TIMEOUT": "100"}
LIMITS = {"DATABASE_STATEMENT_TIMEOUT": "1", "DATABASE_CONNECT_TIMEOUT": "1"}  # what is frozen is given up
# What DATABASE_REPLICA_FALLBACK is, and a path that uses the pool that the probe then asks.
READS, UNITS = ("true", "/test/read-and-sleep"), ("false", "/test/sleep")


@pytest.fixture(scope="module")
def url(home: Path) -> Generator[URL]:
    with running_postgres(home, "fsync=off") as url:
        yield parse_database_url(url)


@asynccontextmanager
async def crowd(client: AsyncClient, path: str) -> AsyncGenerator[list[int]]:
    """Clients that ask again and again for what takes 0.1 s of the database. Yields their answers."""
    statuses: list[int] = []

    async def ask() -> None:
        while True:
            statuses.append((await client.get(path, params={"seconds": 0.1})).status_code)

    tasks = [asyncio.create_task(ask()) for _ in range(CLIENTS)]
    try:
        yield statuses
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize(("fallback", "path"), [READS, UNITS], ids=["reads", "units"])
async def test_a_service_is_ready_while_a_crowd_is_served_and_not_while_its_database_is_frozen(
    home: Path, url: URL, fallback: str, path: str
) -> None:
    variables = POOLS | LIMITS | {"DATABASE_URL": text_of(url), "DATABASE_REPLICA_FALLBACK": fallback}
    limits = Limits(max_connections=None, max_keepalive_connections=None)
    with served(**variables) as server:
        async with (
            AsyncClient(base_url=server.url, timeout=120, limits=limits) as client,
            crowd(client, path) as statuses,
        ):

            async def status() -> int:
                return (await client.get("/health/ready")).status_code

            async def waiting() -> bool:
                return len(statuses) > 20

            assert await eventually(waiting)
            started = time.monotonic()
            assert {await status() for _ in range(5)} == {200}
            assert time.monotonic() - started < 5 * DEADLINE  # and says so soon
            assert set(statuses) == {200}

            frozen = freeze(home)
            try:
                started = time.monotonic()
                assert await status() == 503
                assert time.monotonic() - started < 2 * DEADLINE
                assert await status() == 503
            finally:
                thaw(frozen)

            async def ready() -> bool:
                return await status() == 200

            assert await eventually(ready)
            assert server.tracebacks == []


@pytest.mark.parametrize(("fallback", "path"), [READS, UNITS], ids=["reads", "units"])
async def test_a_service_is_ready_while_long_statements_use_all_connections(
    own_database: URL, fallback: str, path: str
) -> None:
    with served(**POOLS, DATABASE_REPLICA_FALLBACK=fallback) as server:
        async with AsyncClient(base_url=server.url, timeout=60) as client, asyncio.TaskGroup() as tasks:
            long = [tasks.create_task(client.get(path, params={"seconds": 4})) for _ in range(6)]

            async def all_are_used() -> bool:
                return bool((await client.get("/test/open")).raise_for_status().json()["connections"] == 2)

            assert await eventually(all_are_used)
            seen = set()  # a machine that is busy may take longer than the deadline once
            while not any(task.done() for task in long):
                seen.add((await client.get("/health/ready")).status_code)
                await asyncio.sleep(0.2)
            assert 200 in seen
            assert {answer.status_code for answer in await asyncio.gather(*long)} == {200}
