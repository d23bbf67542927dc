"""The sessions outside a request: what commits, what rolls back, and what ends with the block."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest
from sqlalchemy import Executable, delete, insert, select, text
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import get_settings
from app.db import DatabaseSessionManager
from app.db.errors import (
    ChangedObjectError,
    JoinedBlockError,
    ReadOnlySessionError,
    RollbackOnlyError,
    TransactionNeededError,
)
from tests.conftest import created
from tests.things import Base, Thing, add_thing, nothing_is_open, stored


@pytest.fixture
async def database(database: DatabaseSessionManager) -> AsyncGenerator[DatabaseSessionManager]:
    """The session manager, on a database with an empty table."""
    async with created(Base.metadata):
        yield database
        assert nothing_is_open()


async def test_a_block_that_succeeds_commits(database: DatabaseSessionManager) -> None:
    async with database.session() as session:
        session.add(Thing(name="lamp"))
        assert await stored() == []
    assert await stored() == ["lamp"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, asyncio.CancelledError])
async def test_a_block_that_raises_rolls_back(
    database: DatabaseSessionManager, error: type[BaseException]
) -> None:
    with pytest.raises(error):
        async with database.session() as session:
            await add_thing(session)
            raise error
    assert await stored() == []


async def test_a_commit_by_hand_stays_and_the_end_commits_the_rest(database: DatabaseSessionManager) -> None:
    async with database.session() as session:
        await add_thing(session, "lamp")
        await session.commit()
        assert await stored() == ["lamp"]
        await add_thing(session, "lost")
        await session.rollback()
        session.add(Thing(name="desk"))
    assert await stored() == ["lamp", "desk"]


async def test_a_flush_brings_the_id_and_the_values_of_the_server(database: DatabaseSessionManager) -> None:
    async with database.session() as session:
        thing = await add_thing(session)
        assert thing.id == 1
        first = thing.changed_at
        thing.name = "desk"
        await session.flush()
        assert thing.changed_at > first


async def test_there_is_no_autoflush(database: DatabaseSessionManager) -> None:
    async with database.session() as session:
        session.add(Thing(name="lamp"))
        assert (await session.scalars(select(Thing))).all() == []


async def test_a_block_inside_another_joins_it(database: DatabaseSessionManager) -> None:
    async with database.session() as outer:
        async with database.session() as inner, database.read_session() as reader:
            assert inner is reader is outer
            await add_thing(inner)
        assert await stored() == []
    assert await stored() == ["lamp"]


@pytest.mark.parametrize("end", [AsyncSession.commit, AsyncSession.rollback, AsyncSession.begin])
async def test_a_joined_block_cannot_end_the_transaction(
    database: DatabaseSessionManager, end: Callable[[AsyncSession], Awaitable[object]]
) -> None:
    async with database.session() as outer:
        await add_thing(outer)
        async with database.session() as inner:
            with pytest.raises(JoinedBlockError, match="begin_nested"):
                await end(inner)
        assert await stored() == []
    assert await stored() == ["lamp"]


async def test_a_joined_block_that_failed_fails_the_whole_unit(database: DatabaseSessionManager) -> None:
    with pytest.raises(RollbackOnlyError):
        async with database.session() as outer:
            await add_thing(outer)
            with pytest.raises(KeyError):
                async with database.session():
                    raise KeyError
    assert await stored() == []


async def test_a_caught_error_of_a_statement_does_not_turn_into_a_success(
    database: DatabaseSessionManager,
) -> None:
    with pytest.raises(DBAPIError, match="rolled back instead of committing"):
        async with database.session() as session:
            await add_thing(session)
            with pytest.raises(DBAPIError):
                await session.execute(text("SELECT 1 / 0"))
    assert await stored() == []


async def test_a_savepoint_undoes_a_statement_alone(database: DatabaseSessionManager) -> None:
    async with database.session() as session:
        await add_thing(session)
        with pytest.raises(DBAPIError):
            async with session.begin_nested():
                await session.execute(text("SELECT 1 / 0"))
    assert await stored() == ["lamp"]


async def test_each_task_has_a_session_of_its_own(database: DatabaseSessionManager) -> None:
    async def add(name: str) -> AsyncSession:
        async with database.session() as session:
            await add_thing(session, name)
            return session

    async with database.session() as outer:
        sessions = await asyncio.gather(add("lamp"), add("desk"))
        assert len({outer, *sessions}) == 3
        assert sorted(await stored()) == ["desk", "lamp"]


async def test_a_session_cannot_be_used_after_its_block(database: DatabaseSessionManager) -> None:
    async with database.session() as session:
        thing = await add_thing(session)
    assert thing.name == "lamp"  # what was loaded can be read
    with pytest.raises(InvalidRequestError, match="permanently closed"):
        await session.refresh(thing)


async def test_raw_sql_sees_the_configured_schema(database: DatabaseSessionManager) -> None:
    for block in (database.session, database.read_session):
        async with block() as session:
            await session.rollback()
            assert await session.scalar(text("SELECT current_schema()")) == get_settings().database_schema


@pytest.mark.parametrize(
    "statement",
    [insert(Thing).values(name="lamp"), delete(Thing), select(Thing).with_for_update(), text("CREATE TABLE x ()")],
    ids=["insert", "delete", "lock", "create"],
)
async def test_a_read_session_cannot_write(database: DatabaseSessionManager, statement: Executable) -> None:
    async with database.read_session() as session:
        with pytest.raises(ReadOnlySessionError, match="SessionDep"):
            await session.execute(statement)


async def test_a_read_session_does_not_lose_a_change_without_a_word(database: DatabaseSessionManager) -> None:
    async with database.session() as session:
        await add_thing(session)
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
    async with database.session() as session:
        await add_thing(session)
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
