"""The sessions that read: they cannot write, and they hold no connection while their task waits."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from sqlalchemy import Executable, delete, insert, select

from app.config import get_settings
from app.db import DatabaseSessionManager
from app.db.errors import ChangedObjectError, ReadOnlySessionError, TransactionNeededError
from tests.tools import Base, Thing, add_thing, created, open_now, stored


@pytest.fixture
async def database(database: DatabaseSessionManager) -> AsyncGenerator[DatabaseSessionManager]:
    """The session manager, on a database with a table that has one row."""
    async with created(Base.metadata):
        async with database.session() as session:
            await add_thing(session)
        yield database
        assert open_now() == (0, 0)


@pytest.mark.parametrize(
    "statement",
    [insert(Thing).values(name="lamp"), delete(Thing), select(Thing).with_for_update()],
    ids=["insert", "delete", "lock"],
)
async def test_a_read_session_cannot_write(database: DatabaseSessionManager, statement: Executable) -> None:
    async with database.read_session() as session:
        with pytest.raises(ReadOnlySessionError, match="SessionDep"):
            await session.execute(statement)
    assert await stored() == ["lamp"]


async def test_a_read_session_does_not_lose_a_change_without_a_word(database: DatabaseSessionManager) -> None:
    with pytest.raises(ChangedObjectError):
        async with database.read_session() as reader:
            (await reader.get_one(Thing, 1)).name = "desk"
    with pytest.raises(ChangedObjectError):
        async with database.read_session() as reader:
            reader.add(Thing(name="desk"))
    assert await stored() == ["lamp"]


async def test_a_read_session_says_what_needs_a_transaction(database: DatabaseSessionManager) -> None:
    async with database.read_session() as session:
        with pytest.raises(TransactionNeededError):
            await session.stream(select(Thing))


async def test_a_task_that_waits_holds_no_connection(database: DatabaseSessionManager) -> None:
    await database.close()
    database.init_db(get_settings().model_copy(update={"database_read_pool_size": 1}))
    everybody_has_read = asyncio.Barrier(5)

    async def read_and_wait() -> str:
        async with database.read_session() as session:
            thing = await session.get_one(Thing, 1)
            await everybody_has_read.wait()
            await session.refresh(thing)
            return thing.name

    assert await asyncio.gather(*(read_and_wait() for _ in range(5))) == ["lamp"] * 5
