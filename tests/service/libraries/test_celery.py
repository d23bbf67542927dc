"""Celery runs tasks with sessions, as docs/sessions.md has it: in a worker that forks its processes.

The broker is Celery's own for files: it needs no server.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from app.config import get_settings
from app.db import DatabaseSessionManager, quoted
from service.libraries.tools import owner, stored
from service.recipes import run_examples
from service.tools import PROJECT, eventually, wait_for

Account = run_examples("model")["Account"]
# What the page says works as well: a loop for each task.
LOOPS = {"": None, "asyncio.run": {"runner.run(add_interest": "asyncio.run(add_interest"}}


def example() -> dict[str, Any]:
    """Run the example. The messages and the results are files."""
    names = run_examples("celery", instead=LOOPS[os.environ["LOOP"]], Account=Account)
    folder = Path(os.environ["FOLDER"])
    (folder / "messages").mkdir(exist_ok=True)
    places = dict.fromkeys(("data_folder_in", "data_folder_out", "control_folder"), str(folder / "messages"))
    names["celery"].conf.update(
        broker_url="filesystem://localhost",
        broker_transport_options=places,
        result_backend=f"file://{folder}",
    )
    return names


if "FOLDER" in os.environ:  # this is the worker
    celery = example()["celery"]


@contextmanager
def working(folder: Path, *options: str) -> Generator[Path]:
    """Run a worker; yield its log."""
    command = [sys.executable, "-m", "celery", "-A", f"{__name__}:celery", "worker", "--loglevel=INFO"]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([*command, *options], cwd=PROJECT, stdout=output, stderr=output)
    try:
        wait_for(lambda: "ready." in log.read_text())
        yield log
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture
async def paid_by(database: DatabaseSessionManager) -> AsyncGenerator[None]:
    """Note on which connection of the server each balance is changed."""
    table = f"{quoted(get_settings().database_schema)}.accounts"
    note = "$$ BEGIN INSERT INTO paid_by VALUES (pg_backend_pid()); RETURN NULL; END $$"
    async with owner() as connection:
        for statement in (
            "CREATE TABLE paid_by (pid integer)",
            f"CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS {note}",
            f"CREATE TRIGGER note AFTER UPDATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION note()",
        ):
            await connection.execute(text(statement))
    yield
    async with owner() as connection:
        await connection.execute(text("DROP FUNCTION note CASCADE"))
        await connection.execute(text("DROP TABLE paid_by"))


async def rows(query: str) -> list[Any]:
    async with owner() as connection:
        return list(await connection.scalars(text(query)))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the messages and the results are, for the worker as well."""
    monkeypatch.setenv("FOLDER", str(tmp_path))
    monkeypatch.setenv("LOOP", "")
    return tmp_path


@pytest.mark.usefixtures("paid_by")
@pytest.mark.parametrize(
    ("loop", "pool", "connections"),
    [("", "prefork", {1, 2}), ("", "solo", {1}), ("asyncio.run", "prefork", {6})],
)
async def test_a_worker_runs_tasks_that_routes_send_after_their_commit(
    database: DatabaseSessionManager, folder: Path, loop: str, pool: str, connections: set[int]
) -> None:
    os.environ["LOOP"] = loop
    send = example()["pay_interest"].delay
    with working(folder, "--concurrency=2", f"--pool={pool}") as log:
        async with database.session() as session:
            account = Account(email="ada@example.com", balance=1_000_000)
            session.add(account)
            await session.flush()
            for _ in range(6):
                database.on_commit(partial(asyncio.to_thread, send, account.id))

        async def is_paid() -> bool:
            return len(await rows("SELECT pid FROM paid_by")) == 6

        assert await eventually(is_paid), log.read_text()
        assert await stored(select(Account.balance)) == [1_061_520]
        assert len(set(await rows("SELECT pid FROM paid_by"))) in connections
    assert "Traceback" not in log.read_text(), log.read_text()
    assert log.read_text().count("Pool disposed") == (0 if pool == "solo" else 4)  # two for each process
    assert not await rows("SELECT pid FROM pg_stat_activity WHERE pid IN (TABLE paid_by)")


async def test_threads_are_not_initialised(folder: Path) -> None:
    with working(folder, "--pool=threads") as log:
        example()["pay_interest"].delay(1)
        wait_for(lambda: "DatabaseNotInitializedError" in log.read_text())
