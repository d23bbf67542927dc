"""The way back that app/db/pool.py names: without one line, everything works on SQLAlchemy's own pool."""

import asyncio
import shutil
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest
from httpx2 import AsyncClient
from sqlalchemy import URL

from app.db import DatabaseSessionManager
from service.servers import Server, serving
from service.tools import PROJECT, eventually, on_server

NOTHING = {"sessions": 0, "connections": 0}
OTHERS = "pg_stat_activity WHERE datname = current_database() AND pid != pg_backend_pid()"
KILL = f"SELECT count(pg_terminate_backend(pid)) FROM {OTHERS}"


@pytest.fixture
def server(database: DatabaseSessionManager, tmp_path: Path) -> Generator[Server]:
    """A server of the application without that line."""
    shutil.copytree(PROJECT / "app", tmp_path / "app")
    engine = tmp_path / "app" / "db" / "engine.py"
    lines = engine.read_text().splitlines(keepends=True)
    left = [line for line in lines if "poolclass=FairPool" not in line]
    assert len(left) == len(lines) - 1
    engine.write_text("".join(left))
    pools = {"DATABASE_POOL_SIZE": "2", "DATABASE_READ_POOL_SIZE": "2", "DATABASE_POOL_TIMEOUT": "0.5"}
    with serving(environment=pools, folder=tmp_path) as server:
        yield server


async def test_the_service_works_on_the_pool_of_sqlalchemy(server: Server, own_database: URL) -> None:
    async with AsyncClient(base_url=server.url, timeout=30) as client:
        assert (await client.get("/test/pools")).raise_for_status().json() == ["AsyncAdaptedQueuePool"] * 2

        async def times(number: int, method: str, path: str) -> Counter[int]:
            asked = [client.request(method, path) for _ in range(number)]
            return Counter(answer.status_code for answer in await asyncio.gather(*asked))

        # Requests.
        ada = {"email": "ada@example.com"}
        assert (await client.post("/users", json=ada)).status_code == 201
        assert (await client.post("/users", json=ada)).status_code == 409
        assert (await client.get("/users/1")).raise_for_status().json()["email"] == ada["email"]
        assert (await client.post("/test/raise-after-flush")).status_code == 418
        assert (await client.post("/test/killed-before-commit")).status_code == 503
        assert await times(20, "GET", "/users") == {200: 20}
        assert len((await client.get("/users")).raise_for_status().json()["items"]) == 1
        # Both pools, exhausted.
        for path in ("/test/sleep?seconds=2", "/test/read-and-sleep?seconds=2"):
            assert await times(5, "GET", path) == {200: 2, 503: 3}
        # A client that leaves, and connections that are killed while they are idle.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.get("/test/sleep?seconds=60")

        async def nothing_is_open() -> bool:
            return bool((await client.get("/test/open")).raise_for_status().json() == NOTHING)

        assert await eventually(nothing_is_open)
        await on_server(own_database, KILL)
        await asyncio.sleep(0.1)  # for the news to arrive
        assert await times(5, "GET", "/users") == {200: 5}
        assert await times(5, "POST", "/test/unit") == {200: 5}
        assert (await client.get("/test/open")).raise_for_status().json() == NOTHING
    # The end of the application.
    server.process.terminate()
    await asyncio.to_thread(server.process.wait, 30)
    assert "Application shutdown complete" in server.log
    assert server.tracebacks == []
    assert await on_server(own_database, f"SELECT count(*) FROM {OTHERS}") == 0
