"""taskiq runs tasks with sessions, as docs/sessions.md has it: in this process, and in a worker."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import NoResultFound
from taskiq import AsyncBroker
from taskiq.brokers.zmq_broker import ZeroMQBroker

from app.db import DatabaseSessionManager
from dev.postgres import free_port
from service.libraries.tools import stored
from service.recipes import run_examples
from service.tools import PROJECT, eventually

names = run_examples("model", "taskiq")
Account = names["Account"]


def with_sockets() -> dict[str, Any]:
    """Run the example with a broker that needs no server."""
    url = os.environ["BROKER_URL"]
    broker = f"ZeroMQBroker({url!r}, {url!r})"
    return run_examples(
        "taskiq", instead={"InMemoryBroker()": broker}, Account=Account, ZeroMQBroker=ZeroMQBroker
    )


def broker_of_worker() -> AsyncBroker:
    """Return the broker. The process of the worker calls this."""
    broker: AsyncBroker = with_sockets()["broker"]
    return broker


async def balances() -> list[int]:
    return await stored(select(Account.balance).order_by(Account.id))


async def open_account(database: DatabaseSessionManager) -> None:
    async with database.session() as session:
        session.add(Account(email="ada@example.com", balance=1_000))


async def test_a_task_has_a_session_and_a_route_sends_it_after_the_commit(
    database: DatabaseSessionManager,
) -> None:
    broker = names["broker"]
    await broker.startup()
    try:
        async with database.session() as session:
            account = Account(email="ada@example.com", balance=1_000)
            session.add(account)
            await session.flush()
            database.on_commit(partial(names["pay_interest"].kiq, account.id))
        await broker.wait_all()
        assert await balances() == [1_010]
        before = await names["pay_interest"].kiq(2)
        assert isinstance((await before.wait_result()).error, NoResultFound)
    finally:
        await broker.shutdown()
    assert database.engine  # the service closes it


async def test_a_worker_does_not_work_with_a_broker_in_memory() -> None:
    with pytest.raises(RuntimeError, match="cannot listen"):
        names["broker"].listen()


async def test_a_worker_runs_tasks_and_closes_the_database(
    database: DatabaseSessionManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await open_account(database)
    monkeypatch.setenv("BROKER_URL", f"tcp://127.0.0.1:{free_port()}")
    service = with_sockets()
    await service["broker"].startup()
    command = ["-m", "taskiq", "worker", "--workers", "1", "--max-async-tasks", "10"]
    command += [f"{__name__}:broker_of_worker"]
    log = tmp_path / "log"
    with log.open("wb") as output:
        worker = subprocess.Popen([sys.executable, *command], cwd=PROJECT, stdout=output, stderr=output)

    async def is_paid() -> bool:
        """Send the task until the worker listens: the broker keeps no messages."""
        await service["pay_interest"].kiq(1)
        return await balances() > [1_000]

    try:
        assert await eventually(is_paid), log.read_text()
    finally:
        worker.terminate()
        worker.wait(timeout=30)
        await service["broker"].shutdown()
        service["broker"].context.destroy()
    assert "Traceback" not in log.read_text(), log.read_text()
    assert log.read_text().count("Pool disposed") == 2
