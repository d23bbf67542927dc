"""One session for each asyncio task: made when the task first asks for it, gone when its block ends."""

from asyncio import current_task
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_scoped_session, async_sessionmaker

Sessions = async_scoped_session[AsyncSession]


def scoped_sessions(engine: AsyncEngine) -> Sessions:
    """Return the sessions of all tasks on this engine, none of them made yet."""
    maker = async_sessionmaker(
        engine,
        autoflush=False,
        expire_on_commit=False,  # what was committed can be read, without a query, to make the response
        close_resets_only=False,  # a closed session raises: reopened, it would leak its connection
    )
    return async_scoped_session(maker, scopefunc=current_task)


@asynccontextmanager
async def opened(sessions: Sessions) -> AsyncGenerator[AsyncSession]:
    """Open the session of this task; close it, and forget it, however the block ends."""
    task = current_task()
    try:
        async with sessions() as session:
            yield session
    finally:
        # Not `sessions.remove()`: that would look for the task it runs in, and a generator that was
        # abandoned is ended in another.
        sessions.registry.registry.pop(task, None)


async def release(sessions: Sessions) -> None:
    """Return the connection of this task's session, if it has one, to the pool.

    Raises:
        ReadOnlySessionError: an object of a read session was changed.
    """
    if sessions.registry.has():
        await sessions().commit()
