"""The session manager: who gets which session, when it commits, and that it always ends."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, suppress

import pytest
from sqlalchemy import (
    AsyncAdaptedQueuePool,
    Executable,
    column,
    delete,
    func,
    insert,
    select,
    table,
    text,
)
from sqlalchemy.exc import DBAPIError, InvalidRequestError, NoResultFound
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, joinedload, lazyload, selectinload

from app.config import get_settings
from app.db import DatabaseSessionManager
from app.db.connect_args import quoted
from app.db.errors import (
    ChangedObjectError,
    DatabaseNotInitializedError,
    JoinedBlockError,
    ReadOnlySessionError,
    RollbackOnlyError,
    SharedSessionError,
    TransactionNeededError,
)
from app.users.models import Note, User
from service.routes import open_now
from service.tools import on_server, stored

NOTHING = {"sessions": 0, "connections": 0}


async def add_user(session: AsyncSession, email: str = "ada@example.com") -> None:
    session.add(User(email=email))
    await session.flush()


async def test_success_commits(database: DatabaseSessionManager) -> None:
    async with database.session() as session:
        await add_user(session)
        assert await stored() == 0
    assert await stored() == 1
    assert open_now() == NOTHING


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, asyncio.CancelledError])
async def test_any_error_rolls_back_and_closes(
    database: DatabaseSessionManager, error: type[BaseException]
) -> None:
    async def fail() -> None:
        async with database.session() as session:
            await add_user(session)
            raise error

    with pytest.raises(error):
        await fail()
    assert await stored() == 0
    assert open_now() == NOTHING


async def test_a_nested_block_joins_the_unit_of_work(database: DatabaseSessionManager) -> None:
    async with database.session() as outer:
        async with database.session() as inner:
            assert inner is outer
            await add_user(inner)
        assert await stored() == 0
    assert await stored() == 1
    assert open_now() == NOTHING


async def test_an_error_in_a_nested_block_undoes_the_whole_unit(database: DatabaseSessionManager) -> None:
    async def fail() -> None:
        async with database.session() as outer:
            await add_user(outer)
            async with database.session():
                raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert await stored() == 0


async def test_a_unit_of_work_whose_joined_block_failed_is_not_committed(
    database: DatabaseSessionManager,
) -> None:
    async def go_on() -> None:
        async with database.session() as outer:
            await add_user(outer)
            with suppress(ValueError):
                async with database.session():
                    raise ValueError

    with pytest.raises(RollbackOnlyError):
        await go_on()
    assert await stored() == 0
    assert open_now() == NOTHING


@pytest.mark.parametrize("block", [DatabaseSessionManager.session, DatabaseSessionManager.read_session])
@pytest.mark.parametrize(
    "end",
    [
        AsyncSession.commit,
        AsyncSession.rollback,
        AsyncSession.reset,
        lambda session: session.run_sync(Session.commit),
        lambda session: session.run_sync(lambda inner: inner.get_transaction().commit()),
    ],
    ids=["commit", "rollback", "reset", "run_sync", "transaction"],
)
async def test_a_joined_block_cannot_end_the_transaction_of_the_outer_block(
    database: DatabaseSessionManager,
    end: Callable[[AsyncSession], Awaitable[None]],
    block: Callable[[DatabaseSessionManager], AbstractAsyncContextManager[AsyncSession]],
) -> None:
    async def go_on() -> None:
        async with database.session() as outer:
            await add_user(outer)
            async with block(database) as inner:
                await end(inner)

    with pytest.raises(JoinedBlockError, match="begin_nested"):
        await go_on()
    assert await stored() == 0
    assert open_now() == NOTHING


async def test_begin_in_a_joined_block_does_not_commit_the_work_of_the_outer_block(
    database: DatabaseSessionManager,
) -> None:
    async def go_on() -> None:
        async with database.session() as outer:
            outer.add(User(email="ada@example.com"))
            async with database.session() as inner:
                with pytest.raises(JoinedBlockError):
                    async with inner.begin():
                        pass
            assert await stored() == 0
            raise KeyError

    with pytest.raises(KeyError):
        await go_on()
    assert await stored() == 0


async def test_a_savepoint_of_a_joined_block_may_end(database: DatabaseSessionManager) -> None:
    async with database.session(), database.session() as inner, inner.begin_nested():
        await add_user(inner)
    assert await stored() == 1


async def test_a_savepoint_around_a_joined_block_that_failed_undoes_it_alone(
    database: DatabaseSessionManager,
) -> None:
    async with database.session() as outer:
        await add_user(outer)
        with suppress(ValueError):
            async with outer.begin_nested(), database.session() as inner:
                await add_user(inner, "grace@example.com")
                raise ValueError
    assert await stored() == 1


async def test_of_two_joined_blocks_that_failed_a_savepoint_undoes_its_own_alone(
    database: DatabaseSessionManager,
) -> None:
    async def go_on() -> None:
        async with database.session() as outer:
            with suppress(KeyError):
                async with database.session() as inner:
                    await add_user(inner)
                    raise KeyError
            with suppress(ValueError):
                async with outer.begin_nested(), database.session():
                    raise ValueError

    with pytest.raises(RollbackOnlyError):
        await go_on()
    assert await stored() == 0


async def test_any_savepoint_around_a_joined_block_that_failed_undoes_the_block(
    database: DatabaseSessionManager,
) -> None:
    async with database.session() as outer:
        await add_user(outer)
        with suppress(ValueError):
            async with outer.begin_nested():
                with suppress(KeyError):
                    async with outer.begin_nested() as savepoint, database.session() as inner:
                        await add_user(inner, "grace@example.com")
                        assert savepoint.is_active
                        raise KeyError
                raise ValueError
    assert await stored() == 1


async def test_a_transaction_that_a_joined_block_rolled_back_is_not_taken_for_stored(
    database: DatabaseSessionManager,
) -> None:
    async def go_on() -> None:
        async with database.session() as outer:
            await add_user(outer)
            async with database.session() as inner:
                transaction = inner.get_transaction()
                assert transaction is not None
                await transaction.rollback()

    with pytest.raises(RollbackOnlyError):
        await go_on()
    assert await stored() == 0


async def test_a_read_that_failed_inside_a_unit_of_work_undoes_nothing(
    database: DatabaseSessionManager,
) -> None:
    async with database.session() as session:
        await add_user(session)
        with suppress(NoResultFound):
            async with database.read_session() as reader:
                await reader.get_one(User, 99)
    assert await stored() == 1


async def test_what_another_task_adds_while_a_unit_commits_is_not_lost_without_a_word(
    database: DatabaseSessionManager,
) -> None:
    async def add_late(session: AsyncSession) -> None:
        await asyncio.sleep(0)
        session.add(User(email="late@example.com"))

    tasks: list[asyncio.Task[None]] = []

    async def forget() -> None:
        async with database.session() as session:
            await session.execute(select(1))
            tasks.append(asyncio.create_task(add_late(session)))

    results = await asyncio.gather(forget(), return_exceptions=True)
    late = await asyncio.gather(*tasks, return_exceptions=True)
    assert any(isinstance(each, SharedSessionError | InvalidRequestError) for each in (*results, *late))
    assert await stored() == 0
    assert open_now() == NOTHING


async def test_a_read_that_was_cancelled_leaves_the_objects_of_its_session_as_they_were(
    database: DatabaseSessionManager,
) -> None:
    async with database.session() as session:
        await add_user(session)
    async with database.read_session() as reader:
        user = await reader.get_one(User, 1)
        with suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.execute(text("SELECT pg_sleep(5)"))
        assert user.email == "ada@example.com"
        assert await reader.scalar(select(func.count()).select_from(User)) == 1
    assert open_now() == NOTHING


async def test_a_rollback_by_hand_undoes_a_joined_block_that_failed(database: DatabaseSessionManager) -> None:
    async with database.session() as outer:
        with suppress(ValueError):
            async with database.session() as inner:
                await add_user(inner)
                raise ValueError
        await outer.rollback()
        await add_user(outer, "grace@example.com")
    assert await stored() == 1


async def test_a_commit_by_hand_does_not_store_half_of_a_joined_block(
    database: DatabaseSessionManager,
) -> None:
    async def go_on() -> None:
        async with database.session() as outer:
            with suppress(ValueError):
                async with database.session() as inner:
                    await add_user(inner)
                    raise ValueError
            await outer.commit()

    with pytest.raises(RollbackOnlyError):
        await go_on()
    assert await stored() == 0


async def test_a_joined_generator_that_is_not_needed_to_its_end_is_no_failure(
    database: DatabaseSessionManager,
) -> None:
    async def emails() -> AsyncGenerator[str]:
        async with database.session() as session:
            await add_user(session)
            yield "ada@example.com"

    async with database.session(), aclosing(emails()) as found:
        async for _ in found:
            break
    assert await stored() == 1


async def test_a_read_session_whose_connection_broke_does_not_stop_the_unit_of_work(
    database: DatabaseSessionManager,
) -> None:
    async with database.read_session() as reader:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.execute(text("SELECT pg_sleep(1)"))
        async with database.session() as session:
            await add_user(session)
    assert await stored() == 1
    assert open_now() == NOTHING


async def test_many_rows_are_inserted_at_once(database: DatabaseSessionManager) -> None:
    async with database.session() as session:
        session.add_all([User(email=f"{number}@example.com") for number in range(3_000)])
    assert await stored() == 3_000


async def test_a_commit_by_hand_stores_what_was_written_so_far(database: DatabaseSessionManager) -> None:
    async def fail() -> None:
        async with database.session() as session:
            await add_user(session)
            await session.commit()
            assert await stored() == 1
            await add_user(session, "grace@example.com")
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert await stored() == 1
    assert open_now() == NOTHING


async def test_what_follows_a_commit_by_hand_is_committed_at_the_end(
    database: DatabaseSessionManager,
) -> None:
    async with database.session() as session:
        await add_user(session)
        await session.run_sync(lambda inner: inner.commit())
        session.add(User(email="grace@example.com"))
    assert await stored() == 2


async def test_a_rollback_by_hand_undoes_what_was_written_so_far(database: DatabaseSessionManager) -> None:
    async with database.session() as session:
        await add_user(session)
        await session.rollback()
        await add_user(session, "grace@example.com")
    assert await stored() == 1


async def test_begin_is_what_sqlalchemy_documents(database: DatabaseSessionManager) -> None:
    async def fail(session: AsyncSession) -> None:
        async with session.begin():
            await add_user(session, "grace@example.com")
            raise KeyError

    async with database.session() as session:
        async with session.begin():
            await add_user(session)
        assert await stored() == 1
        with pytest.raises(KeyError):
            await fail(session)
    assert await stored() == 1


async def test_refresh_reads_what_another_session_wrote(database: DatabaseSessionManager) -> None:
    async with database.session() as session:
        user = User(email="ada@example.com")
        session.add(user)
        await session.commit()
        async with database.session_maker.begin() as other:
            await other.execute(text("UPDATE users SET full_name = 'Ada'"))
        await session.refresh(user)
        assert user.full_name == "Ada"


async def test_a_flush_brings_ids_and_the_values_of_the_server(database: DatabaseSessionManager) -> None:
    async with database.session() as session:
        user = User(email="ada@example.com")
        session.add(user)
        await session.flush()
        assert user.id == 1
        assert user.created_at.tzinfo is not None


async def test_work_that_was_closed_before_its_commit_is_not_taken_for_stored(
    database: DatabaseSessionManager,
) -> None:
    async def lose() -> None:
        async with database.session() as session:
            await add_user(session)
            async with session:  # which closes the session
                pass

    with pytest.raises(InvalidRequestError, match="permanently closed"):
        await lose()
    assert await stored() == 0


async def test_a_session_of_the_session_maker_is_yours_to_commit(database: DatabaseSessionManager) -> None:
    async with database.session_maker() as session:
        await add_user(session)
        await session.commit()
    assert await stored() == 1


async def test_a_child_task_has_a_session_of_its_own(database: DatabaseSessionManager) -> None:
    async def child(email: str) -> AsyncSession:
        async with database.session() as session:
            await add_user(session, email)
            return session

    async with database.session() as parent:
        children = await asyncio.gather(child("a@example.com"), child("b@example.com"))
        assert len({parent, *children}) == 3
        assert await stored() == 2
        assert open_now()["sessions"] == 1
    assert open_now() == NOTHING


async def test_a_cancelled_task_leaves_nothing_behind(database: DatabaseSessionManager) -> None:
    async def sleep() -> None:
        async with database.session() as session:
            await add_user(session)
            await session.execute(text("SELECT pg_sleep(60)"))

    task = asyncio.create_task(sleep())
    while open_now() == NOTHING:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert open_now() == NOTHING
    assert await stored() == 0


async def test_an_abandoned_generator_leaves_nothing_behind(database: DatabaseSessionManager) -> None:
    async def emails() -> AsyncGenerator[str]:
        async with database.session() as session:
            await add_user(session)
            yield "ada@example.com"

    async for _ in emails():
        break  # the event loop ends the generator, in another task
    for _ in range(100):
        if open_now() == NOTHING:
            break
        await asyncio.sleep(0.01)
    assert open_now() == NOTHING
    assert await stored() == 0


async def test_a_session_that_ended_cannot_be_used_again(database: DatabaseSessionManager) -> None:
    async with database.session() as session:
        await add_user(session)
    with pytest.raises(InvalidRequestError, match="permanently closed"):
        await session.execute(select(1))
    assert open_now() == NOTHING


async def test_what_was_committed_can_be_read_without_a_session(database: DatabaseSessionManager) -> None:
    async with database.session() as session:
        user = User(email="ada@example.com")
        session.add(user)
    assert user.id == 1


async def test_a_commit_after_a_caught_error_is_an_error(database: DatabaseSessionManager) -> None:
    async def lose() -> None:
        async with database.session() as session:
            await add_user(session)
            with pytest.raises(DBAPIError):
                await session.execute(text("SELECT 1 / 0"))

    with pytest.raises(DBAPIError, match="rolled back instead of committing"):
        await lose()
    assert await stored() == 0


async def test_a_savepoint_undoes_one_statement_alone(database: DatabaseSessionManager) -> None:
    async with database.session() as session:
        await add_user(session)
        with pytest.raises(DBAPIError):
            async with session.begin_nested():
                await session.execute(text("SELECT 1 / 0"))
    assert await stored() == 1


@pytest.mark.parametrize(
    "write",
    [
        insert(User).values(email="x@example.com"),
        delete(User),
        text("INSERT INTO users (email) VALUES ('x@example.com')"),
        text("  delete from users"),
        text("WITH gone AS (DELETE FROM users RETURNING 1) SELECT * FROM gone"),
        select(delete(User).returning(User.id).cte()),
        text("INSERT INTO users (email) VALUES ('x@example.com') RETURNING id").columns(User.id),
        text("/* SELECT */ DELETE FROM users"),
        text("CALL refresh()"),
        text("SELECT 1 AS x INTO sneaky"),
        text("CREATE TABLE sneaky (x int)"),
        text("SELECT register('x@example.com')"),
        text("SELECT nextval('counter')"),
        text("SELECT id FROM users FOR/**/SHARE"),
        text("WITH old AS (UPDATE users SET full_name = '' RETURNING 1) SELECT * FROM old"),
        text(
            "WITH m AS (MERGE INTO users USING notes ON false WHEN MATCHED THEN DELETE RETURNING 1) TABLE m"
        ),
        text("EXPLAIN ANALYZE DELETE FROM users"),
        select(User).with_for_update(),
        text("SELECT id FROM users FOR KEY SHARE"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("functions")
async def test_a_read_session_refuses_a_write(database: DatabaseSessionManager, write: Executable) -> None:
    with pytest.raises(ReadOnlySessionError, match="SessionDep"):
        async with database.read_session() as session:
            await session.execute(write)
    assert await stored() == 0
    assert open_now() == NOTHING


@pytest.fixture
async def functions(database: DatabaseSessionManager) -> AsyncGenerator[None]:
    """A function and a procedure that write, and a sequence."""
    url, schema = get_settings().database_url, quoted(get_settings().database_schema)
    insert = f"LANGUAGE plpgsql AS $$BEGIN INSERT INTO {schema}.users (email) VALUES ('x'); END$$"
    made = [
        f"FUNCTION {schema}.register(email text) RETURNS void {insert}",
        f"PROCEDURE {schema}.refresh() {insert}",
        f"SEQUENCE {schema}.counter",
    ]
    for each in made:
        await on_server(url, f"CREATE {each}")
    yield
    for name in ("FUNCTION {}.register", "PROCEDURE {}.refresh", "SEQUENCE {}.counter"):
        await on_server(url, f"DROP {name.format(schema)}")


async def test_a_statement_may_go_back_to_a_savepoint(database: DatabaseSessionManager) -> None:
    async with database.session() as session:
        for statement in ("SAVEPOINT here", "ROLLBACK TO here", "rollback work to savepoint here"):
            await session.execute(text(statement))
        await add_user(session)
    assert await stored() == 1


@pytest.mark.parametrize(
    ("options", "parameters"), [({}, [(1,), (2,)]), ({"no_parameters": True}, None)], ids=["many", "none"]
)
async def test_a_read_session_refuses_a_write_however_it_is_executed(
    database: DatabaseSessionManager, options: dict[str, bool], parameters: list[tuple[int]] | None
) -> None:
    delete_users = "DELETE FROM users" + (" WHERE id = $1" if parameters else "")
    async with database.read_session() as session:
        connection = await (await session.connection()).execution_options(**options)
        with pytest.raises(ReadOnlySessionError):
            await connection.exec_driver_sql(delete_users, parameters)


async def test_a_read_session_does_not_lose_a_change_without_a_word(database: DatabaseSessionManager) -> None:
    async with database.session() as session:
        await add_user(session)
    with pytest.raises(ChangedObjectError, match="SessionDep"):
        async with database.read_session() as reader:
            (await reader.scalars(select(User))).one().full_name = "Ada"
    assert open_now() == NOTHING


async def test_a_change_to_what_a_read_session_loaded_fails_before_the_commit(
    database: DatabaseSessionManager,
) -> None:
    async def change() -> None:
        async with database.read_session() as reader:
            ada = (await reader.scalars(select(User))).one()
            async with database.session() as session:
                await add_user(session, "grace@example.com")
                ada.full_name = "Ada"

    async with database.session() as session:
        await add_user(session)
    with pytest.raises(ReadOnlySessionError):
        await change()
    assert await stored() == 1
    assert open_now() == NOTHING


async def test_there_is_no_autoflush(database: DatabaseSessionManager) -> None:
    async with database.session() as session:
        session.add(User(email="ada@example.com"))
        assert await session.scalar(select(func.count()).select_from(User)) == 0


async def test_a_read_session_refuses_a_flush(database: DatabaseSessionManager) -> None:
    with pytest.raises(ChangedObjectError):
        async with database.read_session() as session:
            await add_user(session)
    assert await stored() == 0


@pytest.mark.parametrize(
    "query",
    [
        select(User),
        select(User.id).limit(1).union_all(select(User.id).limit(1)),
        select(select(User).cte()),
        text(" select count(*) FROM users"),
        text("/* why */ -- and how\n(SELECT 1)"),
        text("WITH them AS (SELECT * FROM users) SELECT * FROM them"),
        text("VALUES (1)"),
        text("TABLE users"),
        text("SELECT 1 -- taken into account"),
        text(r"/* update nightly */ SELECT E'don\'t', $a$delete$a$, 'it''s into'"),
        text("SHOW search_path"),
        text("EXPLAIN SELECT 1"),
        text('WITH them AS (SELECT \'delete\' AS "insert") SELECT them."insert" FROM them'),
    ],
    ids=str,
)
async def test_a_read_session_takes_any_query(database: DatabaseSessionManager, query: Executable) -> None:
    async with database.read_session() as session:
        await session.execute(query)
        async with database.read_session() as nested:
            assert nested is session
    assert open_now() == NOTHING


async def test_columns_may_be_called_like_statements(database: DatabaseSessionManager) -> None:
    url, schema = get_settings().database_url, quoted(get_settings().database_schema)
    await on_server(url, f'CREATE TABLE {schema}.odd ("delete" int, "update" int, "into" int)')
    await on_server(url, f"INSERT INTO {schema}.odd VALUES (1, 2, 3)")
    odd = table("odd", column("delete"), column("update"), column("into"))
    inner = select(odd.c["delete"], odd.c["update"].label("insert")).cte("merge")
    queries: list[Executable] = [
        select(odd),
        select(inner),
        select(select(odd.c.into.label("delete")).subquery()),
        text('SELECT d.delete, d.update, d."into" FROM odd AS d'),
    ]
    try:
        async with database.read_session() as session:
            for query in queries:
                assert (await session.execute(query)).first() is not None
    finally:
        await on_server(url, f"DROP TABLE {schema}.odd")


async def test_a_read_session_says_what_needs_a_transaction(database: DatabaseSessionManager) -> None:
    async with database.read_session() as session:
        with pytest.raises(TransactionNeededError, match="SessionDep"):
            await session.stream(select(User))
        with pytest.raises(TransactionNeededError):
            await session.scalars(select(User).execution_options(yield_per=10))
        with pytest.raises(TransactionNeededError):
            async with session.begin_nested():
                await session.execute(select(1))
    assert open_now() == NOTHING


async def with_notes(database: DatabaseSessionManager) -> None:
    async with database.session() as session:
        await add_user(session)
        session.add_all([Note(user_id=1, body="one"), Note(user_id=1, body="two")])


async def test_a_read_session_holds_no_connection_while_its_task_waits(
    database: DatabaseSessionManager,
) -> None:
    await with_notes(database)
    async with database.read_session() as session:

        def released() -> bool:
            return open_now() == {"sessions": 1, "connections": 0}

        user = await session.get_one(User, 1)
        assert released()
        await session.refresh(user)
        assert released()
        user = (await session.scalars(select(User).options(selectinload(User.notes)))).one()
        assert released()
        assert [note.body for note in user.notes] == ["one", "two"]
        note = await session.scalar(select(Note).options(joinedload(Note.user)).limit(1))
        assert released()
        assert note is not None
        assert note.user is user
        rows = await session.execute(select(Note.body).order_by(Note.id))
        assert released()
        assert rows.scalars().all() == ["one", "two"]
        await session.run_sync(lambda inner: inner.scalars(select(User)).all())
        assert released()
        with pytest.raises(DBAPIError):
            await session.execute(text("SELECT 1 / 0"))
        assert released()
    assert open_now() == NOTHING


async def test_a_lazy_load_in_a_read_session_gives_its_connection_back(
    database: DatabaseSessionManager,
) -> None:
    await with_notes(database)
    async with database.read_session() as session:
        user = await session.get_one(User, 1)
        query = select(User).options(lazyload(User.notes)).execution_options(populate_existing=True)
        await session.scalars(query)
        notes = await session.run_sync(lambda _: user.notes)
        assert len(notes) == 2
        assert open_now() == {"sessions": 1, "connections": 0}


async def test_a_read_session_that_was_begun_by_hand_keeps_its_connection(
    database: DatabaseSessionManager,
) -> None:
    async with database.read_session() as session:
        async with session.begin():
            await session.execute(select(1))
            assert open_now() == {"sessions": 1, "connections": 1}
        assert open_now() == {"sessions": 1, "connections": 0}


async def test_a_read_inside_a_unit_of_work_sees_what_it_wrote(database: DatabaseSessionManager) -> None:
    async with database.session() as session:
        await add_user(session)
        async with database.read_session() as reader:
            assert await reader.scalar(select(func.count()).select_from(User)) == 1
        assert open_now() == {"sessions": 1, "connections": 1}


async def test_a_unit_of_work_inside_a_read_takes_one_connection_between_them(
    database: DatabaseSessionManager,
) -> None:
    async with database.read_session() as reader:
        await reader.scalar(select(1))
        async with database.session() as session:
            assert session is not reader
            assert open_now() == {"sessions": 2, "connections": 0}
            await add_user(session)
            assert open_now() == {"sessions": 2, "connections": 1}
        assert await reader.scalar(select(func.count()).select_from(User)) == 1
    assert open_now() == NOTHING


async def test_a_read_inside_both_is_the_unit_of_work(database: DatabaseSessionManager) -> None:
    async with database.read_session(), database.session() as session, database.read_session() as inner:
        assert inner is session


async def test_killed_idle_connections_fail_no_one(database: DatabaseSessionManager) -> None:
    async def backend() -> int | None:
        async with database.read_session() as session:
            return await session.scalar(select(func.pg_backend_pid()))

    idle = set(await asyncio.gather(*[backend() for _ in range(5)]))
    for pid in idle:
        await on_server(get_settings().database_url, f"SELECT pg_terminate_backend({pid})")
    await asyncio.sleep(0.1)  # for the news to arrive
    fresh = set(await asyncio.gather(*[backend() for _ in range(5)]))
    assert len(fresh) == 5
    assert not idle & fresh


async def test_a_connection_left_in_a_transaction_is_replaced(database: DatabaseSessionManager) -> None:
    async with database.engine.connect() as connection:
        raw = await connection.get_raw_connection()
        assert raw.driver_connection is not None
        await raw.driver_connection.execute("BEGIN")  # behind SQLAlchemy's back: it will not roll back
    async with database.session() as session:
        await add_user(session)
    assert await stored() == 1


async def test_the_settings_reach_the_engine() -> None:
    settings = get_settings().model_copy(
        update={
            "database_pool_size": 3, "database_max_overflow": 2, "database_pool_timeout": 0.1,
            "database_pool_recycle": 77, "database_pool_pre_ping": True,
        }
    )  # fmt: skip
    manager = DatabaseSessionManager()
    manager.init_db(settings)
    pool = manager.engine.pool
    assert isinstance(pool, AsyncAdaptedQueuePool)
    try:
        assert (pool.size(), pool._max_overflow, pool.timeout()) == (3, 2, 0.1)
        assert (pool._recycle, pool._pre_ping) == (77, True)
    finally:
        await manager.close()


async def test_a_manager_that_is_not_initialised_says_what_to_call() -> None:
    manager = DatabaseSessionManager()
    with pytest.raises(DatabaseNotInitializedError, match="init_db"):
        async with manager.session():
            pass
    with pytest.raises(DatabaseNotInitializedError):
        async with manager.read_session():
            pass
    with pytest.raises(DatabaseNotInitializedError):
        await manager.close()
    with pytest.raises(DatabaseNotInitializedError):
        _ = manager.session_maker


async def test_initialising_twice_is_an_error(database: DatabaseSessionManager) -> None:
    engine = database.engine
    with pytest.raises(RuntimeError, match="close"):
        database.init_db(get_settings())
    assert database.engine is engine
