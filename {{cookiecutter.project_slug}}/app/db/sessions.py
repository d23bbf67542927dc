"""The session manager. It gives each asyncio task one session, and closes it at the end of its block."""

import asyncio
from asyncio import current_task
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker

from app.config import Settings
from app.db import errors
from app.db.base import import_models
from app.db.engines import Engines
from app.db.read import ReadSession, refuse_changes
from app.db.retry import IsolationLevel, retrying
from app.db.scope import opened
from app.db.unit import Callback, UnitOfWork, joined, unit_of

Result = TypeVar("Result")
OPTIONS: dict[str, Any] = {
    "autoflush": False,
    "expire_on_commit": False,  # what was committed can be read, without a query, to make the response
    "close_resets_only": False,  # a closed session raises: opened again, it would leak its connection
}


class DatabaseSessionManager(Engines):
    """Owns the engines. Without `init_db` everything else raises `DatabaseNotInitializedError`."""

    def init_db(self, settings: Settings) -> None:
        """Create the engines and the factories of their sessions. Connects to nothing yet."""
        import_models()
        self.create(settings)
        units = async_sessionmaker(self._engine, sync_session_class=UnitOfWork, **OPTIONS)
        readers = async_sessionmaker(self._read_engine, sync_session_class=ReadSession, **OPTIONS)
        self._units = async_scoped_session(units, scopefunc=current_task)
        self._readers = async_scoped_session(readers, scopefunc=current_task)

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

    def on_commit(self, callback: Callback) -> None:
        """Run `await callback()` when the unit of work of this task is committed and closed.

        A rollback forgets the callback, also that of a savepoint. After a commit by hand the callback runs
        at the end of the block, whatever the rest of the block does. A callback that fails is logged.

        Raises:
            NoUnitOfWorkError: no session() block is open in this task.
        """
        if (unit := self.current()) is None:
            raise errors.NoUnitOfWorkError
        unit_of(unit).register(callback)

    async def run(
        self,
        work: Callable[[AsyncSession], Awaitable[Result]],
        *,
        isolation_level: IsolationLevel | None = None,
        tries: int = 10,
    ) -> Result:
        """Run `await work(session)` as a unit of work, again after a serialization failure or a deadlock.

        Let `work` use its session alone: whatever else it does, it does at each of the tries.

        Raises:
            RunInsideError: a session() block is open in this task.
            sqlalchemy.exc.DBAPIError: the last of the tries failed, or the work failed otherwise.
        """
        if self.current():
            raise errors.RunInsideError

        async def unit() -> Result:
            async with self.session() as session:
                if isolation_level:
                    await session.connection(execution_options={"isolation_level": isolation_level})
                return await work(session)

        return await retrying(tries)(unit)

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
