"""What takes too long is ended: statements, waits for locks, transactions that do nothing."""

import asyncio

import pytest
from httpx2 import AsyncClient
from sqlalchemy import text

from app.config import get_settings
from app.db import DatabaseSessionManager, sessionmanager
from service.routes import open_now
from service.tools import run, slow_deletes

NOTHING = {"sessions": 0, "connections": 0}


async def limit(**timeouts: float) -> None:
    """Let the session manager begin anew with these timeouts."""
    await sessionmanager.close()
    update = {f"database_{name}_timeout": seconds for name, seconds in timeouts.items()}
    sessionmanager.init_db(get_settings().model_copy(update=update))


@pytest.mark.parametrize(
    ("timeout", "path", "cause"),
    [
        ("statement", "/test/sleep?seconds=10", "57014: canceling statement due to statement timeout"),
        ("statement", "/test/slow-stream", "57014: canceling statement due to statement timeout"),
        ("idle_transaction", "/test/idle?seconds=0.6", "503, "),
    ],
)
async def test_what_takes_too_long_is_a_503(
    client: AsyncClient, caplog: pytest.LogCaptureFixture, timeout: str, path: str, cause: str
) -> None:
    await limit(**{timeout: 0.2})
    assert (await client.get(path)).status_code == 503
    assert cause in caplog.text
    assert open_now() == NOTHING
    assert (await client.get("/users")).status_code == 200


async def test_a_wait_for_a_lock_is_a_503(client: AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    await limit(lock=0.2)
    await client.post("/users", json={"email": "ada@example.com"})

    async def delete() -> int:  # in a task of its own, for a session of its own
        return (await client.delete("/users/1")).status_code

    async with sessionmanager.session() as session:
        await session.execute(text("SELECT 1 FROM users WHERE id = 1 FOR UPDATE"))
        assert await asyncio.create_task(delete()) == 503
        assert "55P03: canceling statement due to lock timeout" in caplog.text
    assert await delete() == 204


async def test_a_limit_of_0_is_none(client: AsyncClient) -> None:
    await limit(statement=0, lock=0, idle_transaction=0)
    async with sessionmanager.read_session() as session:
        for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            assert await session.scalar(text(f"SHOW {name}")) == "0"


async def test_a_script_lifts_the_limits_for_itself(client: AsyncClient) -> None:
    await client.post("/users", json={"email": "ada@example.com"})
    async with slow_deletes(1.5):
        done = run("-m", "app.users.clear", "1", DATABASE_STATEMENT_TIMEOUT="0.1")
        assert (done.stdout, done.stderr) == ("1 users deleted, 0 ids unknown.\n", "")


async def test_a_migration_under_load_costs_a_connection_one_failure_at_most(
    database: DatabaseSessionManager, client: AsyncClient
) -> None:
    statuses: list[int] = []
    running = True

    async def read() -> None:
        while running:
            statuses.append((await client.get("/users")).status_code)

    async with asyncio.TaskGroup() as tasks:
        readers = [tasks.create_task(read()) for _ in range(5)]
        await asyncio.sleep(0.3)
        try:
            async with sessionmanager.session() as session:
                await session.execute(text("ALTER TABLE users ALTER full_name TYPE varchar(300)"))
            await asyncio.sleep(0.5)
        finally:
            async with sessionmanager.session() as session:
                await session.execute(text("ALTER TABLE users ALTER full_name TYPE text"))
            await asyncio.sleep(0.3)
            running = False
    statuses += [(await client.get("/users")).status_code for _ in range(20)]
    assert set(statuses) <= {200, 503}
    assert statuses.count(503) <= 2 * len(readers)  # two changes
    assert statuses[-10:] == [200] * 10
