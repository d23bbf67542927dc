"""One session for each asyncio task: made when the task first asks for it, gone when its block ends."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import NoReturn, Self, TypeVar

from sqlalchemy.exc import IllegalStateChangeError, PendingRollbackError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.orm import Session, SessionTransaction

from app.misuse import CommitInsideError, MisuseError, RollbackOnlyError

AnySession = TypeVar("AnySession", bound=AsyncSession)


class SyncUnitOfWork(Session):
    """What does the work of a unit of work; `run_sync` gives it to a function."""

    def begin(self, nested: bool = False) -> SessionTransaction:  # noqa: FBT001, FBT002 as SQLAlchemy has it
        """Begin a savepoint, as `begin_nested` does. Otherwise raise `CommitInsideError`: it is begun."""
        if not nested:
            raise CommitInsideError("begin()")
        return super().begin(nested=True)

    def commit(self) -> NoReturn:
        """Raise `CommitInsideError`: its block commits."""
        raise CommitInsideError("commit()")


class UnitOfWork(AsyncSession):
    """A session that is committed when its block ends, and not before: what raises has written nothing."""

    sync_session_class = SyncUnitOfWork
    joined = 0  # how many blocks inside its own are using it
    rollback_only = False

    async def rollback(self) -> None:
        """Undo everything; where a joined block does so, the block that it joined cannot succeed any more."""
        self.rollback_only = self.rollback_only or self.joined > 0
        await super().rollback()

    async def reset(self) -> None:
        """Undo everything, as `rollback` does, and forget all objects."""
        self.rollback_only = self.rollback_only or self.joined > 0
        await super().reset()

    @contextmanager
    def join(self) -> Generator[Self]:
        """Share the session with a block inside its own. If that fails, the whole unit of work does."""
        self.joined += 1
        try:
            yield self
        except GeneratorExit:  # no error: a generator was not needed to its end
            raise
        except BaseException:
            self.rollback_only = True
            raise
        finally:
            self.joined -= 1

    async def end(self) -> None:
        """Commit.

        Raises:
            RollbackOnlyError: an error of a joined block was caught.
            sqlalchemy.exc.SQLAlchemyError: the commit failed.
        """
        if self.rollback_only:
            raise RollbackOnlyError
        await self.run_sync(Session.commit)


def session_maker(engine: AsyncEngine, class_: type[AnySession]) -> async_sessionmaker[AnySession]:
    """Return a factory of sessions on this engine."""
    return async_sessionmaker(
        engine,
        class_=class_,
        autoflush=False,
        expire_on_commit=False,  # what was committed can be read, without a query, to make the response
        close_resets_only=False,  # a closed session raises: reopened, it would leak its connection
    )


@asynccontextmanager
async def opened(sessions: async_scoped_session[AnySession]) -> AsyncGenerator[AnySession]:
    """Open the session of this task; close it, and forget it, however the block ends."""
    task = asyncio.current_task()
    session = sessions()
    try:
        try:
            yield session
        except BaseException:
            with suppress(SQLAlchemyError, MisuseError):  # the error that came first says more
                await asyncio.shield(asyncio.create_task(close(session)))
            raise
        await asyncio.shield(asyncio.create_task(close(session)))
    finally:
        # Not `sessions.remove()`: that would look for the task it runs in, and a generator that was
        # abandoned is ended in another.
        sessions.registry.registry.pop(task, None)


async def close(session: AsyncSession) -> None:
    """Close the session; if another task makes it connect just now, as soon as it has, or has given up."""
    while True:
        with suppress(IllegalStateChangeError):
            return await session.close()
        await asyncio.sleep(0.01)


async def release(sessions: async_scoped_session[AsyncSession]) -> None:
    """Return the connection of this task's session, if it has one, to the pool.

    Raises:
        ReadOnlySessionError: an object of a read session was changed.
    """
    if sessions.registry.has():
        try:
            await sessions().commit()
        except PendingRollbackError:  # its connection broke, and that was caught
            await sessions().rollback()
