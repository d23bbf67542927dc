"""The life of a session: one for each task, closed and forgotten however its block ends."""

import asyncio
from asyncio import current_task
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from sqlalchemy.exc import IllegalStateChangeError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session

from app.db.errors import SessionError
from app.db.unit import UnitOfWork


@asynccontextmanager
async def opened(sessions: async_scoped_session[AsyncSession]) -> AsyncGenerator[AsyncSession]:
    """Open the session of this task; close it, and forget it, however the block ends."""
    task = current_task()
    session = sessions()
    try:
        try:
            yield session
        except BaseException:
            with suppress(SQLAlchemyError, SessionError):  # the error that came first says more
                await asyncio.shield(asyncio.create_task(close(session)))
            raise
        if session.in_transaction():
            await asyncio.shield(asyncio.create_task(close(session)))
        else:
            await close(session)  # waits for nothing: no other task can add anything before
    finally:
        # Not `sessions.remove()`: the event loop ends a generator that was left half-way in another task.
        sessions.registry.registry.pop(task, None)
        if isinstance(session.sync_session, UnitOfWork):
            await session.sync_session.run_callbacks()


async def close(session: AsyncSession) -> None:
    """Close the session. If another task makes it connect just now, wait until that is over."""
    while True:
        with suppress(IllegalStateChangeError):
            return await session.close()
        await asyncio.sleep(0.01)
