"""A script that is killed half-way: whole chunks are deleted, and the same command finishes the rest."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from sqlalchemy import func, select, text

from app.db import DatabaseSessionManager
from app.users.clear import CHUNK
from app.users.models import User
from service.tools import PROJECT, run, slow_deletes

USERS = 4 * CHUNK


async def count(database: DatabaseSessionManager) -> int:
    async with database.read_session() as session:
        return await session.scalar(select(func.count()).select_from(User)) or 0


async def test_a_killed_script_can_be_run_again(database: DatabaseSessionManager, tmp_path: Path) -> None:
    async with database.session() as session:
        await session.execute(
            text(f"INSERT INTO users (email) SELECT n || '@example.com' FROM generate_series(1, {USERS}) n")
        )
    ids = tmp_path / "ids.txt"
    ids.write_text("\n".join(map(str, range(1, USERS + 1))))
    command = ["-m", "app.users.clear", "--file", str(ids)]
    async with slow_deletes(0.3):
        script = subprocess.Popen(
            [sys.executable, *command], cwd=PROJECT, env=os.environ, stdout=subprocess.PIPE, text=True
        )
        while await count(database) == USERS:
            assert script.poll() is None
            await asyncio.sleep(0.05)
        script.kill()
        reported, _ = script.communicate()
        await asyncio.sleep(1.5)  # for the server to notice that the client is gone
        left = await count(database)
        assert reported == ""
        assert 0 < left < USERS
        assert left % CHUNK == 0
        assert run(*command).stdout == f"{left} users deleted, {USERS - left} ids unknown.\n"
        assert await count(database) == 0
