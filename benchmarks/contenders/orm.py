"""FastAPI and SQLAlchemy's ORM with the service's statements and engines, and nothing besides: the floor.

A read is one round trip, and a write commits before the response. There is no limit for bodies, no request
id, no schema and no time limit. A session is not known to its task. A read session holds its connection.
Nothing is retried or checked.
"""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, HTTPException
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from app.config import get_settings
from app.users.models import User
from app.users.routes import NEW_USER, USER
from app.users.schemas import UserCreate, UserPublic
from benchmarks.contenders.application import application, disposing
from benchmarks.contenders.routes import POOL, untimed

URL = get_settings().database_url
engines = [create_async_engine(URL, **POOL), create_async_engine(URL, isolation_level="AUTOCOMMIT", **POOL)]
units, readers = (async_sessionmaker(engine, expire_on_commit=False, autoflush=False) for engine in engines)


async def get_db() -> AsyncIterator[AsyncSession]:
    """Yield a session, and commit."""
    session = units()
    try:
        yield session
        await session.commit()
    finally:
        await session.close()


async def get_read_db() -> AsyncIterator[AsyncSession]:
    """Yield a session that reads."""
    session = readers()
    try:
        yield session
    finally:
        await session.close()


router = untimed(get_db)


@router.get("/users/{user_id}", response_model=UserPublic)
async def read_user(
    user_id: int, session: Annotated[AsyncSession, Depends(get_read_db, scope="function")]
) -> User:
    """Return a user."""
    user = await session.scalar(USER, {"id": user_id})
    if user is None:
        raise HTTPException(404)
    return user


@router.post("/users", status_code=201, response_model=UserPublic)
async def create_user(
    data: UserCreate, session: Annotated[AsyncSession, Depends(get_db, scope="function")]
) -> User:
    """Create a user."""
    user: User = (await session.scalars(NEW_USER, data.model_dump())).one()
    return user


app = application(router, disposing(*engines))
