"""Backends die at any moment: what was acknowledged is stored."""

import asyncio
import time

import pytest
from httpx2 import AsyncClient
from sqlalchemy import select

from app.config import get_settings
from app.db import DatabaseSessionManager
from app.users.models import User
from service.servers import served
from service.tools import on_server

SECONDS = 10
WRITERS = 8
KILL_ONE = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid != pg_backend_pid() ORDER BY random() LIMIT 1
"""


async def test_what_was_acknowledged_is_stored_whatever_is_killed(database: DatabaseSessionManager) -> None:
    answers: dict[str, int] = {}

    async def write(client: AsyncClient, writer: int) -> None:
        number = 0
        while time.monotonic() < end:
            number += 1
            email = f"{writer}.{number}@example.com"
            response = await client.post("/users", json={"email": email})
            answers[email] = response.status_code

    async def kill() -> None:
        while time.monotonic() < end:
            await on_server(get_settings().database_url, KILL_ONE)
            await asyncio.sleep(0.05)

    with served() as server:
        end = time.monotonic() + SECONDS
        async with AsyncClient(base_url=server.url, timeout=30) as client, asyncio.TaskGroup() as tasks:
            tasks.create_task(kill())
            for writer in range(WRITERS):
                tasks.create_task(write(client, writer))
        assert server.tracebacks == []

    async with database.read_session() as session:
        stored = set(await session.scalars(select(User.email)))
    acknowledged = {email for email, status in answers.items() if status == 201}
    assert set(answers.values()) == {201, 503}
    assert acknowledged <= stored
    assert len(stored - acknowledged) <= list(answers.values()).count(503)


@pytest.mark.parametrize(
    "path",
    [
        "/test/killed-before-commit",
        "/test/killed-before-statement",
        "/test/killed-while-streaming",
        "/test/killed-in-a-group",
    ],
)
async def test_a_killed_backend_is_a_503(client: AsyncClient, path: str) -> None:
    response = await client.post(path)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert (await client.get("/users")).raise_for_status().json()["items"] == []


async def test_the_error_of_a_route_is_the_answer_even_where_the_rollback_fails(client: AsyncClient) -> None:
    assert (await client.post("/test/killed-before-error")).status_code == 418
