"""The session manager. It gives each asyncio task one session, and closes it at the end of its block."""

import asyncio
from asyncio import current_task
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

from sqlalchemy.exc import IllegalStateChangeError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_scoped_session, async_sessionmaker

from app.config import Settings
from app.db import errors
from app.db.base import import_models
from app.db.engine import create_engine, dispose
from app.db.read import ReadSession, refuse_changes
from app.db.unit import UnitOfWork, joined

OPTIONS: dict[str, Any] = {
    "autoflush": False,
    "expire_on_commit": False,  # what was committed can be read, without a query, to make the response
    "close_resets_only": False,  # a closed session raises: opened again, it would leak its connection
}


class DatabaseSessionManager:
    """Owns the engines. Without `init_db` everything else raises `DatabaseNotInitializedError`."""

    _engine: AsyncEngine | None = None
    _read_engine: AsyncEngine

    def init_db(self, settings: Settings) -> None:
        """Create the engines and the factories of their sessions. Connects to nothing yet."""
        if self._engine is not None:
            raise RuntimeError("The database is initialised already: call close() first.")
        import_models()
        self._engine, self._read_engine = create_engine(settings), create_engine(settings, read_only=True)
        units = async_sessionmaker(self._engine, sync_session_class=UnitOfWork, **OPTIONS)
        readers = async_sessionmaker(self._read_engine, sync_session_class=ReadSession, **OPTIONS)
        self._units = async_scoped_session(units, scopefunc=current_task)
        self._readers = async_scoped_session(readers, scopefunc=current_task)

    async def close(self) -> None:
        """Close the connections that are in the pools."""
        engine, self._engine = self.engine, None
        await dispose(engine, self._read_engine)

    @property
    def engine(self) -> AsyncEngine:
        """The engine of the sessions that write."""
        if self._engine is None:
            raise errors.DatabaseNotInitializedError
        return self._engine

    @property
    def read_engine(self) -> AsyncEngine:
        """The engine of the sessions that read: connections of its own, without transactions."""
        _ = self.engine  # raises if there is none
        return self._read_engine

    @property
    def session_maker(self) -> async_sessionmaker[AsyncSession]:
        """The factory of plain sessions, which you commit and close yourself."""
        return async_sessionmaker(self.engine, **OPTIONS)

    def current(self) -> AsyncSession | None:
        """Return the session of this task's unit of work, or None where none is open."""
        _ = self.engine  # raises if there is none
        return self._units() if self._units.registry.has() else None

    def has_open_unit(self, task: asyncio.Task[Any] | None) -> bool:
        """Tell whether a unit of work of this task is open: what it wrote is not committed yet."""
        return self._engine is not None and task in self._units.registry.registry

    @asynccontextmanager
    async def session(self, *, join: bool = True) -> AsyncGenerator[AsyncSession]:
        """A unit of work: commits when the block succeeds, rolls back when it raises, always closes.

        A block inside another of the same task joins it: one session, one transaction, one commit at the end
        of the outer block. Another task gets a session of its own.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the commit failed; nothing was written. If the connection broke
                during the commit, nobody knows.
            SessionError: the session was used wrongly. The message says how.
        """
        if unit := self.current():
            if not join:
                raise errors.UnitOfWorkOpenError
            with joined(unit):
                yield unit
            return
        async with opened(self._units) as session:
            yield session
            if self._readers.registry.has():
                refuse_changes(self._readers().sync_session)  # while nothing is committed
            await session.commit()
            if session.new or session.dirty or session.deleted:
                raise errors.SharedSessionError  # another task added them while this one committed

    @asynccontextmanager
    async def read_session(self) -> AsyncGenerator[AsyncSession]:
        """A session for queries. Each query is one round trip. There is no transaction.

        The session holds a connection only while a statement runs. Inside a unit of work of the same task it
        is that unit's session, which sees its writes and may write.
        """
        if unit := self.current():
            with joined(unit, reads=True):
                yield unit
        elif self._readers.registry.has():
            yield self._readers()
        else:
            async with opened(self._readers) as session:
                yield session
                refuse_changes(session.sync_session)


sessionmanager = DatabaseSessionManager()


@asynccontextmanager
async def opened(sessions: async_scoped_session[AsyncSession]) -> AsyncGenerator[AsyncSession]:
    """Open the session of this task; close it, and forget it, however the block ends."""
    task = current_task()
    session = sessions()
    try:
        try:
            yield session
        except BaseException:
            with suppress(SQLAlchemyError, errors.SessionError):  # the error that came first says more
                await asyncio.shield(asyncio.create_task(close(session)))
            raise
        if session.in_transaction():
            await asyncio.shield(asyncio.create_task(close(session)))
        else:
            await close(session)  # waits for nothing: no other task can add anything before
    finally:
        # Not `sessions.remove()`: the event loop ends a generator that was left half-way in another task.
        sessions.registry.registry.pop(task, None)


async def close(session: AsyncSession) -> None:
    """Close the session. If another task makes it connect just now, wait until that is over."""
    while True:
        with suppress(IllegalStateChangeError):
            return await session.close()
        await asyncio.sleep(0.01)
