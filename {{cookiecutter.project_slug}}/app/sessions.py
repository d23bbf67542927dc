"""One session for each asyncio task: made when the task first asks for it, gone when its block ends."""

from asyncio import current_task
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import NoReturn, Self, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_scoped_session, async_sessionmaker

from app.misuse import CommitInsideError, RollbackOnlyError

Session = TypeVar("Session", bound=AsyncSession)


class UnitOfWork(AsyncSession):
    """A session that is committed when its block ends, and not before: what raises has written nothing."""

    joined = 0  # how many blocks inside its own are using it
    rollback_only = False

    def begin(self) -> NoReturn:
        """Raise `CommitInsideError`: it is begun."""
        raise CommitInsideError("begin()")

    async def commit(self) -> NoReturn:
        """Raise `CommitInsideError`: its block commits."""
        raise CommitInsideError("commit()")

    async def rollback(self) -> None:
        """Undo everything; where a joined block does so, the block that it joined cannot succeed any more."""
        self.rollback_only = self.rollback_only or self.joined > 0
        await super().rollback()

    @contextmanager
    def join(self) -> Generator[Self]:
        """Share the session with a block inside its own. If that fails, the whole unit of work does."""
        self.joined += 1
        try:
            yield self
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
        await super().commit()


def session_maker(engine: AsyncEngine, class_: type[Session]) -> async_sessionmaker[Session]:
    """Return a factory of sessions on this engine."""
    return async_sessionmaker(
        engine,
        class_=class_,
        autoflush=False,
        expire_on_commit=False,  # what was committed can be read, without a query, to make the response
        close_resets_only=False,  # a closed session raises: reopened, it would leak its connection
    )


@asynccontextmanager
async def opened(sessions: async_scoped_session[Session]) -> AsyncGenerator[Session]:
    """Open the session of this task; close it, and forget it, however the block ends."""
    task = current_task()
    try:
        async with sessions() as session:
            yield session
    finally:
        # Not `sessions.remove()`: that would look for the task it runs in, and a generator that was
        # abandoned is ended in another.
        sessions.registry.registry.pop(task, None)


async def release(sessions: async_scoped_session[AsyncSession]) -> None:
    """Return the connection of this task's session, if it has one, to the pool.

    Raises:
        ReadOnlySessionError: an object of a read session was changed.
    """
    if sessions.registry.has():
        await sessions().commit()
