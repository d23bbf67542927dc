"""The database sessions of the service.

In a route, `session: SessionDep` commits before the response is sent; `session: ReadSessionDep` reads with
one round trip a query. Elsewhere, `async with sessionmanager.session() as session:` does what the first does.
"""

from asyncio import current_task
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_scoped_session, async_sessionmaker

from app.config import Settings
from app.engine import create_engine, create_read_engine, dispose
from app.misuse import DatabaseNotInitializedError, OutsideRequestError, UnitOfWorkOpenError
from app.replica import create_replica_engine
from app.sessions import UnitOfWork, opened, release, session_maker


class DatabaseSessionManager:
    """Owns the engine, and gives each asyncio task its own session for as long as the task needs it.

    Before `init_db` and after `close` everything else raises `DatabaseNotInitializedError`.
    """

    _engine: AsyncEngine | None = None
    _source: AsyncEngine  # of what is read: the same, or a replica's

    def init_db(self, settings: Settings) -> None:
        """Create the engine and what makes its sessions. Connects to nothing yet.

        Raises:
            RuntimeError: it was called before, and `close` was not.
        """
        if self._engine is not None:
            raise RuntimeError("The database is initialised already: call close() first.")
        self._engine = create_engine(settings)
        self._source = create_replica_engine(settings) if settings.database_replica_url else self._engine
        read_engine = create_read_engine(self._source)
        self._session_maker = session_maker(self._engine, AsyncSession)
        self._units = async_scoped_session(session_maker(self._engine, UnitOfWork), scopefunc=current_task)
        self._readers = async_scoped_session(session_maker(read_engine, AsyncSession), scopefunc=current_task)

    async def close(self) -> None:
        """Close the connections that are in the pools."""
        engine, self._engine = self.engine, None
        await dispose(engine, self._source)

    @property
    def engine(self) -> AsyncEngine:
        """The engine."""
        if self._engine is None:
            raise DatabaseNotInitializedError
        return self._engine

    @property
    def session_maker(self) -> async_sessionmaker[AsyncSession]:
        """The factory of the sessions, for one that you commit and close yourself."""
        self._check_initialized()
        return self._session_maker

    @asynccontextmanager
    async def session(self, *, join: bool = True) -> AsyncGenerator[AsyncSession]:
        """A unit of work: commits when the block succeeds, rolls back when it raises, always closes.

        A block inside another of the same task joins it: one session, one commit, at the end of the outer
        block. Another task gets a session of its own.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the commit failed; nothing was written, unless the connection
                broke while the server was committing: then nobody knows.
            RollbackOnlyError: a block that had joined failed, and its error was caught.
            UnitOfWorkOpenError: there is one to join, and `join` is false.
        """
        self._check_initialized()
        if self._units.registry.has():
            if not join:
                raise UnitOfWorkOpenError
            with self._units().join() as session:
                yield session
            return
        await release(self._readers)  # a task that holds a connection while it waits can starve the pool
        async with opened(self._units) as session:
            yield session
            await release(self._readers)  # refuses a change to what was read, while nothing is committed
            await session.end()

    @asynccontextmanager
    async def read_session(self) -> AsyncGenerator[AsyncSession]:
        """A session for queries, each of them one round trip; no transaction makes them agree.

        Inside a unit of work of the same task it is that unit's session, which sees its writes and may write.

        Raises:
            ReadOnlySessionError: when a session of its own is sent anything but a query.
        """
        self._check_initialized()
        if self._units.registry.has():
            with self._units().join() as unit_session:
                yield unit_session
            return
        if self._readers.registry.has():
            yield self._readers()
            return
        async with opened(self._readers) as session:
            yield session
            if session.new or session.dirty or session.deleted:
                await session.flush()  # refused: the change would be lost without a word

    def _check_initialized(self) -> None:
        if self._engine is None:
            raise DatabaseNotInitializedError


sessionmanager = DatabaseSessionManager()


async def function_scope() -> bool:
    """End what depends on this before the response is sent: a commit that fails is an error response.

    FastAPI's default scope, of a plain `Depends(get_db)`, would end it after; this makes FastAPI refuse it.
    """
    return True


FunctionScope = Annotated[bool, Depends(function_scope, scope="function")]


async def get_db(*, in_request: FunctionScope = False) -> AsyncGenerator[AsyncSession]:
    """Yield the session of a request that may write."""
    if not in_request:
        raise OutsideRequestError("session")
    async with sessionmanager.session(join=False) as session:
        yield session


async def get_read_db(*, in_request: FunctionScope = False) -> AsyncGenerator[AsyncSession]:
    """Yield the session of a request that only reads."""
    if not in_request:
        raise OutsideRequestError("read_session")
    async with sessionmanager.read_session() as session:
        yield session


SessionDep = Annotated[AsyncSession, Depends(get_db, scope="function")]
ReadSessionDep = Annotated[AsyncSession, Depends(get_read_db, scope="function")]
