"""Clients leave and tasks are cancelled: connections come back, and no query runs on."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

import anyio
import pytest
from httpx2 import AsyncClient, TimeoutException
from sqlalchemy import text

from app.config import get_settings
from app.db import DatabaseSessionManager, sessionmanager
from app.users.models import User
from service.routes import open_now
from service.servers import served
from service.tools import eventually, on_server

NOTHING = {"sessions": 0, "connections": 0}
SLEEP = text("SELECT pg_sleep(60)")
LEFT_BEHIND = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid != pg_backend_pid()
    AND (state LIKE 'idle in transaction%' OR query LIKE '%pg_sleep%' AND state = 'active')
"""


async def left_behind() -> int:
    found: int = await on_server(get_settings().database_url, LEFT_BEHIND)
    return found


async def nothing_is_left(client: AsyncClient) -> bool:
    async def nothing() -> bool:
        return (
            await client.get("/test/open")
        ).raise_for_status().json() == NOTHING and await left_behind() == 0

    return await eventually(nothing, seconds=3)


@pytest.fixture
async def remote(database: DatabaseSessionManager) -> AsyncGenerator[AsyncClient]:
    """A client of a server process, in which a statement may take a second."""
    with served(DATABASE_STATEMENT_TIMEOUT="1") as server:
        async with AsyncClient(base_url=server.url) as client:
            yield client
        assert server.tracebacks == []


async def test_a_client_that_leaves_mid_query(remote: AsyncClient) -> None:
    with pytest.raises(TimeoutException):
        await remote.get("/test/sleep", params={"seconds": 60}, timeout=0.3)
    assert await nothing_is_left(remote)


async def test_a_client_that_leaves_mid_stream(remote: AsyncClient) -> None:
    async with remote.stream("GET", "/test/stream") as response:
        async for _ in response.aiter_bytes():
            break
    assert await nothing_is_left(remote)


@pytest.mark.parametrize("path", ["/users", "/test/upload"])
async def test_a_client_that_leaves_mid_upload(remote: AsyncClient, path: str) -> None:
    async def body() -> AsyncGenerator[bytes]:
        yield b'{"email": '
        await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await remote.post(path, content=body(), headers={"content-type": "application/json"})
    assert await nothing_is_left(remote)


async def timed_out() -> None:
    async with asyncio.timeout(0.1), sessionmanager.session() as session:
        session.add(User(email="lost@example.com"))
        await session.flush()
        await session.execute(SLEEP)


async def cancelled_by_anyio() -> None:
    with anyio.fail_after(0.1):
        async with sessionmanager.session() as session:
            session.add(User(email="lost@example.com"))
            await session.flush()
            await session.execute(SLEEP)


@pytest.mark.parametrize("cancelled", [timed_out, cancelled_by_anyio])
async def test_a_deadline_leaves_no_query_running(
    client: AsyncClient, cancelled: Callable[[], Awaitable[None]]
) -> None:
    with pytest.raises(TimeoutError):
        await cancelled()
    assert open_now() == NOTHING
    assert await nothing_is_left(client)
    assert (await client.get("/users")).raise_for_status().json()["items"] == []


async def test_a_stream_and_a_background_task_have_sessions_of_their_own(client: AsyncClient) -> None:
    for number in range(3):
        await client.post("/users", json={"email": f"{number}@example.com"})
    response = await client.get("/test/export")
    assert response.text == "0@example.com\n1@example.com\n2@example.com\n"
    assert (await client.post("/test/background")).status_code == 200
    assert len((await client.get("/users")).raise_for_status().json()["items"]) == 4
    assert open_now() == NOTHING


async def test_the_session_of_the_request_cannot_be_used_after_it(
    client: AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await client.post("/test/background-with-the-session-of-the-request")).status_code == 200
    assert "permanently closed" in caplog.text
    assert open_now() == NOTHING
