"""What a unit of work does besides its statements: callbacks after the commit, other tries, other loops."""

import asyncio
import random
from collections.abc import AsyncGenerator
from functools import partial

import asyncpg
import pytest
from sqlalchemy import BigInteger, CheckConstraint, MetaData, event, func, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.config import get_settings
from app.db import DatabaseSessionManager, driver_connection
from app.db.errors import NoUnitOfWorkError, OtherLoopError, RunInsideError
from app.users.models import User
from service.routes import open_now
from service.tools import eventually, run, stored

NOTHING = {"sessions": 0, "connections": 0}


@pytest.fixture
def done() -> list[str]:
    """What the callbacks did, in order."""
    return []


@pytest.fixture
def database_and(database: DatabaseSessionManager, done: list[str]) -> "Units":
    return Units(database, done)


class Units:
    """Registers callbacks that note their name, and how many users are stored when they run."""

    def __init__(self, database: DatabaseSessionManager, done: list[str]) -> None:
        self.database, self.done = database, done

    def on_commit(self, name: str) -> None:
        self.database.on_commit(partial(self.note, name))

    async def note(self, name: str) -> None:
        self.done.append(f"{name} {await stored()}")


# After the commit


async def test_a_callback_runs_after_the_commit_in_order(database_and: Units) -> None:
    async with database_and.database.session() as session:
        database_and.on_commit("first")
        session.add(User(email="ada@example.com"))
        await session.flush()
        database_and.on_commit("second")
        assert database_and.done == []
    assert database_and.done == ["first 1", "second 1"]
    assert open_now() == NOTHING


async def test_a_callback_may_open_a_unit_of_work_and_register_another(database_and: Units) -> None:
    database = database_and.database

    async def again() -> None:
        assert database.current() is None
        assert open_now() == NOTHING
        async with database.session() as session:
            session.add(User(email="bob@example.com"))
            database_and.on_commit("inner")

    async with database.session():
        database.on_commit(again)
        database_and.on_commit("outer")
    assert database_and.done == ["inner 1", "outer 1"]


@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError])
async def test_a_rollback_forgets_the_callback(database_and: Units, error: type[BaseException]) -> None:
    with pytest.raises(error):
        async with database_and.database.session() as session:
            await session.execute(select(1))
            database_and.on_commit("never")
            raise error
    async with database_and.database.session() as session:
        database_and.on_commit("never")
        await session.rollback()
        database_and.on_commit("later")
    assert database_and.done == ["later 0"]


async def test_a_commit_that_fails_forgets_the_callback(database_and: Units) -> None:
    with pytest.raises(DBAPIError):
        async with database_and.database.session() as session:
            database_and.on_commit("never")
            session.add_all([User(email="ada@example.com"), User(email="ada@example.com")])
    assert database_and.done == []


async def test_a_savepoint_that_is_rolled_back_forgets_its_callbacks_alone(database_and: Units) -> None:
    async with database_and.database.session() as session:
        database_and.on_commit("outer")
        with pytest.raises(RuntimeError):
            async with session.begin_nested():
                database_and.on_commit("never")
                async with session.begin_nested():
                    database_and.on_commit("never, though its own savepoint was released")
                raise RuntimeError
        async with session.begin_nested():
            database_and.on_commit("inner")
        assert database_and.done == []
    assert database_and.done == ["outer 0", "inner 0"]


async def test_a_joined_block_registers_for_the_commit_of_the_outer_block(database_and: Units) -> None:
    database = database_and.database
    async with database.session():
        async with database.session():
            database_and.on_commit("joined")
        assert database_and.done == []
    assert database_and.done == ["joined 0"]


async def test_a_commit_by_hand_counts_whatever_comes_later(database_and: Units) -> None:
    with pytest.raises(RuntimeError):
        async with database_and.database.session() as session:
            session.add(User(email="ada@example.com"))
            database_and.on_commit("by hand")
            await session.commit()
            database_and.on_commit("never")
            raise RuntimeError
    assert database_and.done == ["by hand 1"]


async def test_a_callback_that_fails_is_logged_and_the_others_run(
    database_and: Units, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise RuntimeError("no mail")

    async with database_and.database.session() as session:
        session.add(User(email="ada@example.com"))
        database_and.database.on_commit(fail)
        database_and.on_commit("next")
    assert database_and.done == ["next 1"]
    assert "fail failed. What was committed stays." in caplog.text
    assert "no mail" in caplog.text


async def test_callbacks_that_a_cancellation_leaves_out_are_logged(
    database_and: Units, caplog: pytest.LogCaptureFixture
) -> None:
    async def wait() -> None:
        await asyncio.sleep(60)

    async def work() -> None:
        async with database_and.database.session() as session:
            session.add(User(email="ada@example.com"))
            database_and.on_commit("first")
            database_and.database.on_commit(wait)
            database_and.on_commit("never")

    async def is_waiting() -> bool:
        return database_and.done == ["first 1"]

    task = asyncio.create_task(work())
    assert await eventually(is_waiting)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert "wait was cancelled, 1 more not called." in caplog.text


async def test_without_a_unit_of_work_there_is_nothing_to_wait_for(database_and: Units) -> None:
    with pytest.raises(NoUnitOfWorkError):
        database_and.on_commit("never")
    async with database_and.database.read_session():
        with pytest.raises(NoUnitOfWorkError):
            database_and.on_commit("never")


# Again


class Base(DeclarativeBase):
    metadata = MetaData(schema=get_settings().database_schema)


class Account(Base):
    __tablename__ = "accounts"
    __table_args__ = (CheckConstraint("balance >= 0"),)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    balance: Mapped[int]


@pytest.fixture
async def accounts(database: DatabaseSessionManager) -> AsyncGenerator[DatabaseSessionManager]:
    """Two accounts with 1,000 each."""
    async with database.engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with database.session() as session:
        session.add_all([Account(id=1, balance=1_000), Account(id=2, balance=1_000)])
    yield database
    async with database.engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)


async def transfer(source: int, target: int, session: AsyncSession) -> None:
    """Move one, by what was read before: only SERIALIZABLE makes this right.

    The order of the rows is always the same: PostgreSQL waits a second before it looks for a deadlock.
    """
    balances = {row.id: row.balance for row in await session.scalars(select(Account))}
    balances[source] -= 1
    balances[target] += 1
    for account in sorted(balances):
        await session.execute(update(Account).where(Account.id == account).values(balance=balances[account]))


async def test_transfers_at_once_lose_nothing(accounts: DatabaseSessionManager) -> None:
    """8 tasks, 1,000 transfers, SERIALIZABLE. What gave up is an error of its caller, and moved nothing."""
    moved, gave_up = {(1, 2): 0, (2, 1): 0}, 0

    async def move(times: int) -> None:
        nonlocal gave_up
        for _ in range(times):
            way = random.choice([(1, 2), (2, 1)])
            try:
                await accounts.run(partial(transfer, *way), isolation_level="SERIALIZABLE")
                moved[way] += 1
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) not in ("40001", "40P01"):
                    raise
                gave_up += 1

    await asyncio.gather(*(move(125) for _ in range(8)))
    assert sum(moved.values()) + gave_up == 1_000
    assert sum(moved.values()) > 900
    async with accounts.read_session() as session:
        rows = await session.execute(select(Account.id, Account.balance))
        balances = {row.id: row.balance for row in rows}
    assert balances == {1: 1_000 - moved[1, 2] + moved[2, 1], 2: 1_000 + moved[1, 2] - moved[2, 1]}
    assert open_now() == NOTHING


async def test_the_isolation_level_is_that_of_one_unit(accounts: DatabaseSessionManager) -> None:
    async def level(session: AsyncSession) -> str:
        return await session.scalar(text("SHOW transaction_isolation")) or ""

    assert await accounts.run(level, isolation_level="SERIALIZABLE") == "serializable"
    assert await accounts.run(level) == "read committed"
    async with accounts.session() as session:
        assert await level(session) == "read committed"


async def test_every_try_is_a_unit_of_work_of_its_own(database_and: Units) -> None:
    tries = 0

    async def work(session: AsyncSession) -> int:
        nonlocal tries
        tries += 1
        session.add(User(email=f"{tries}@example.com"))
        database_and.on_commit(f"try {tries}")
        if tries < 3:
            await session.execute(text("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40P01'; END $$"))
        return tries

    assert await database_and.database.run(work) == 3
    assert database_and.done == ["try 3 1"]


async def test_an_error_of_the_driver_itself_is_tried_again_too(database: DatabaseSessionManager) -> None:
    tries = 0

    async def work(session: AsyncSession) -> None:
        nonlocal tries
        tries += 1
        driver = await driver_connection(session)
        await driver.execute("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$")

    with pytest.raises(asyncpg.SerializationError):
        await database.run(work, tries=3)
    assert tries == 3


@pytest.mark.parametrize(("state", "tries"), [("40001", 2), ("23505", 1), ("57014", 1)])
async def test_the_last_error_is_the_callers(
    database: DatabaseSessionManager, state: str, tries: int
) -> None:
    begun = 0

    def count(*_: object) -> None:
        nonlocal begun
        begun += 1

    async def work(session: AsyncSession) -> None:
        await session.execute(text(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}'; END $$"))

    event.listen(database.engine.sync_engine, "begin", count)
    with pytest.raises(DBAPIError) as raised:
        await database.run(work, tries=2)
    assert getattr(raised.value.orig, "sqlstate", None) == state
    assert begun == tries


async def test_work_is_not_run_again_inside_a_unit_of_work(database: DatabaseSessionManager) -> None:
    async def work(_: AsyncSession) -> None:
        raise AssertionError

    async with database.session():
        with pytest.raises(RunInsideError, match="Call run\\(\\) before or after the block"):
            await database.run(work)


# One loop, one process


SCRIPT = """
import asyncio, os, sys
from sqlalchemy import text
from app.config import get_settings
from app.db import sessionmanager

async def use():
    async with sessionmanager.session() as session:
        await session.execute(text("SELECT 1"))
    async with sessionmanager.read_session() as session:
        return await session.scalar(text("SELECT count(*) FROM users"))

sessionmanager.init_db(get_settings())
async def backends():
    async with sessionmanager.session() as session:
        return await session.scalar(text(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ))

assert [asyncio.run(use()) for _ in range(20)] == [0] * 20  # as a Celery task does
assert asyncio.run(backends()) <= 2  # nobody left theirs open

async def parent():
    await use()
    return await asyncio.to_thread(child)

def child():
    if pid := os.fork():
        return os.waitpid(pid, 0)[1]
    try:
        assert [asyncio.run(use()) for _ in range(2)] == [0, 0]
        asyncio.run(sessionmanager.close())
        os._exit(0)
    finally:
        os._exit(1)

async def both():
    status = await parent()
    return status, await use()  # the connections of the parent are as they were

assert asyncio.run(both()) == (0, 0)
asyncio.run(sessionmanager.close())
print("done")
"""


def test_another_loop_or_process_gets_connections_of_its_own(own_database: object) -> None:
    done = run("-c", SCRIPT)
    assert (done.stderr, done.stdout) == ("", "done\n")
    assert done.returncode == 0


async def test_two_loops_at_once_are_an_error(database: DatabaseSessionManager) -> None:
    async def use() -> None:
        async with database.session():
            raise AssertionError

    async with database.session() as session:
        await session.execute(select(1))
    with pytest.raises(OtherLoopError):
        await asyncio.to_thread(asyncio.run, use())
    async with database.session() as session:
        assert await session.scalar(select(func.count()).select_from(User)) == 0
