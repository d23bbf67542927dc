"""The sessions of FastAPI's routes.

`scope="function"` makes FastAPI end the block before it sends the response: a commit that fails is then an
error response. `get_db` needs no scope of its own, so a plain `Depends(get_db)` is right.
"""

from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import Depends
from fastapi.exceptions import ResponseValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.errors import NotFlushedError
from app.db.sessions import sessionmanager


async def unit_of_work() -> AsyncGenerator[AsyncSession]:
    """Yield a session, and commit when the route has returned."""
    async with sessionmanager.session(join=False) as session:
        try:
            yield session
        except ResponseValidationError as error:
            if session.new and any(each["input"] is None for each in error.errors()):
                raise NotFlushedError from error
            raise


async def reading() -> AsyncGenerator[AsyncSession]:
    """Yield the session that writes, if an earlier dependency opened it, else a session that reads."""
    if unit := sessionmanager.current():
        yield unit
        return
    async with sessionmanager.read_session() as session:
        yield session


async def get_db(session: Annotated[AsyncSession, Depends(unit_of_work, scope="function")]) -> AsyncSession:
    """Return the session of a request that writes. Only for `Depends`."""
    return session


async def get_read_db(session: Annotated[AsyncSession, Depends(reading, scope="function")]) -> AsyncSession:
    """Return the session of a request that reads. Only for `Depends`."""
    return session


SessionDep = Annotated[AsyncSession, Depends(get_db)]
ReadSessionDep = Annotated[AsyncSession, Depends(get_read_db)]
