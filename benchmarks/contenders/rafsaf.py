"""rafsaf/minimal-fastapi-postgres-template: a session for each request, committed by the route.

From app/core/database_session.py (commit 0d37c0c) and app/auth/views.py (commit 34916c1): `pool_pre_ping`,
`pool_recycle=600`, `pool_timeout=30`, `expire_on_commit=False`, a session that is closed in `finally`, a read
by `session.scalar(select(...))`, a create by `add` and `commit`. The project's create looks for the email
first. Here the index does, as in the other contenders.
"""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from app.config import get_settings
from app.users.models import User
from app.users.schemas import UserCreate, UserPublic
from benchmarks.contenders.application import application, disposing
from benchmarks.contenders.routes import POOL, reading

engine = create_async_engine(
    get_settings().database_url, pool_pre_ping=True, pool_timeout=30.0, pool_recycle=600, **POOL
)
session_maker = async_sessionmaker(engine, expire_on_commit=False)


async def new_async_session() -> AsyncIterator[AsyncSession]:
    """Yield a session; close it."""
    session = session_maker()
    try:
        yield session
    finally:
        await session.close()


router = reading(new_async_session)


@router.post("/users", status_code=201, response_model=UserPublic)
async def create_user(data: UserCreate, session: Annotated[AsyncSession, Depends(new_async_session)]) -> User:
    """Create a user."""
    user = User(**data.model_dump())
    session.add(user)
    await session.commit()
    return user


app = application(router, disposing(engine))
