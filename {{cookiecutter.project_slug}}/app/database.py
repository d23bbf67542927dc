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
from app.engine import create_engine, create_read_engine


class DatabaseNotInitializedError(RuntimeError):
    """The session manager was used before `init_db` or after `close`."""

    def __init__(self) -> None:
        super().__init__(
            "The database is not initialised: call sessionmanager.init_db(get_settings()) first. "
            "The application does so when it starts; a script does it itself."
        )


class DatabaseSessionManager:
    """Owns the engine, and gives each asyncio task its own session for as long as the task needs it.

    Before `init_db` and after `close` everything else raises `DatabaseNotInitializedError`.
    """

    def __init__(self) -> None:
        self._engine: AsyncEngine | None = None

    def init_db(self, settings: Settings) -> None:
        """Create the engine and what makes its sessions. Connects to nothing yet.

        Raises:
            RuntimeError: it was called before, and `close` was not.
        """
        if self._engine is not None:
            raise RuntimeError("The database is initialised already: call close() first.")
        self._engine = create_engine(settings)
        self._sessions = _scoped_sessions(self._engine)
        self._read_sessions = _scoped_sessions(create_read_engine(self._engine))

    async def close(self) -> None:
        """Close the connections that are in the pool."""
        engine, self._engine = self.engine, None
        await engine.dispose()

    @property
    def engine(self) -> AsyncEngine:
        """The engine."""
        if self._engine is None:
            raise DatabaseNotInitializedError
        return self._engine

    @property
    def session_maker(self) -> async_sessionmaker[AsyncSession]:
        """The factory of the sessions, for one that you commit and close yourself."""
        return self._registries()[0].session_factory

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[AsyncSession]:
        """A unit of work: commits when the block succeeds, rolls back when it raises, always closes.

        A block inside another of the same task joins it: one session, one commit, at the end of the outer
        block. Another task gets a session of its own.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the commit failed; nothing was written.
        """
        sessions, read_sessions = self._registries()
        if sessions.registry.has():
            yield sessions()
            return
        if read_sessions.registry.has():
            # Return its connection: tasks that hold one while they wait for another can starve the pool.
            await read_sessions().commit()
        async with _opened(sessions) as session:
            yield session
            await session.commit()

    @asynccontextmanager
    async def read_session(self) -> AsyncGenerator[AsyncSession]:
        """A session for queries, each of them one round trip; no transaction makes them agree.

        Inside a unit of work of the same task it is that unit's session, which sees its writes and may write.

        Raises:
            ReadOnlySessionError: when a session of its own is sent anything but a query.
        """
        for sessions in self._registries():
            if sessions.registry.has():
                yield sessions()
                return
        async with _opened(self._read_sessions) as session:
            yield session
            if session.new or session.dirty or session.deleted:
                await session.flush()  # refused: a change would be lost without a word

    def _registries(self) -> tuple[async_scoped_session[AsyncSession], async_scoped_session[AsyncSession]]:
        if self._engine is None:
            raise DatabaseNotInitializedError
        return self._sessions, self._read_sessions


def _scoped_sessions(engine: AsyncEngine) -> async_scoped_session[AsyncSession]:
    maker = async_sessionmaker(
        engine,
        autoflush=False,
        expire_on_commit=False,  # what was committed can be read, without a query, to make the response
        close_resets_only=False,  # a closed session raises: reopened, it would leak its connection
    )
    return async_scoped_session(maker, scopefunc=current_task)


@asynccontextmanager
async def _opened(sessions: async_scoped_session[AsyncSession]) -> AsyncGenerator[AsyncSession]:
    task = current_task()
    try:
        async with sessions() as session:
            yield session
    finally:
        # Not `sessions.remove()`: that would look for the task it runs in, and a generator that was
        # abandoned is ended in another.
        sessions.registry.registry.pop(task, None)


sessionmanager = DatabaseSessionManager()


async def get_db() -> AsyncGenerator[AsyncSession]:
    """Yield the session of a request that may write."""
    async with sessionmanager.session() as session:
        yield session


async def get_read_db() -> AsyncGenerator[AsyncSession]:
    """Yield the session of a request that only reads."""
    async with sessionmanager.read_session() as session:
        yield session


# Function scope ends the session before the response is sent: a commit that fails is an error response,
# not a success that was never stored. FastAPI's default scope would end it after.
SessionDep = Annotated[AsyncSession, Depends(get_db, scope="function")]
ReadSessionDep = Annotated[AsyncSession, Depends(get_read_db, scope="function")]
