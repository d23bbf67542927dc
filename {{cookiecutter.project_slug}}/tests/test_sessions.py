"""The sessions outside a request: what commits, what rolls back, and what ends with the block."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import get_settings
from app.db import DatabaseSessionManager
from app.db.errors import JoinedBlockError, RollbackOnlyError
from tests.tools import Base, Thing, add_thing, created, open_now, stored


@pytest.fixture
async def database(database: DatabaseSessionManager) -> AsyncGenerator[DatabaseSessionManager]:
    """The session manager, on a database with an empty table."""
    async with created(Base.metadata):
        yield database
        assert open_now() == (0, 0)


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
        await session.execute(select(1))


async def test_raw_sql_sees_the_configured_schema(database: DatabaseSessionManager) -> None:
    for block in (database.session, database.read_session):
        async with block() as session:
            await session.rollback()
            assert await session.scalar(text("SELECT current_schema()")) == get_settings().database_schema
