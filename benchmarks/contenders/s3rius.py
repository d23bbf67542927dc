"""s3rius' fastapi_template 6.1.2 (PyPI): a session for each request, committed in `finally`, behind a DAO.

From a project rendered with `--db postgresql --orm sqlalchemy --dummy`: the engine without options, the
session factory in the application's state, `expire_on_commit=False`, a commit and a close in `finally`, a DAO
that is a dependency over the session. A create there answers nothing. Here each create answers the row, so it
flushes.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from app.config import get_settings
from app.users.models import User
from app.users.schemas import UserCreate, UserPublic
from benchmarks.contenders.application import application
from benchmarks.contenders.routes import POOL, untimed


async def get_db_session(request: Request) -> AsyncIterator[AsyncSession]:
    """Yield a session; commit and close it whatever happened."""
    session: AsyncSession = request.app.state.db_session_factory()
    try:
        yield session
    finally:
        await session.commit()
        await session.close()


class UserDAO:
    """Reads and writes users."""

    def __init__(self, session: Annotated[AsyncSession, Depends(get_db_session)]) -> None:
        self.session = session

    async def get(self, user_id: int) -> User | None:
        """Return a user."""
        found = await self.session.execute(select(User).where(User.id == user_id))
        return found.scalars().first()

    async def create(self, data: UserCreate) -> User:
        """Add a user."""
        user = User(**data.model_dump())
        self.session.add(user)
        await self.session.flush()
        return user


DAO = Annotated[UserDAO, Depends()]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Put the engine and the session factory into the application's state."""
    app.state.db_engine = create_async_engine(get_settings().database_url, **POOL)
    app.state.db_session_factory = async_sessionmaker(app.state.db_engine, expire_on_commit=False)
    yield
    await app.state.db_engine.dispose()


router = untimed(get_db_session)


@router.get("/users/{user_id}", response_model=UserPublic)
async def read_user(user_id: int, dao: DAO) -> User:
    """Return a user."""
    user = await dao.get(user_id)
    if user is None:
        raise HTTPException(404)
    return user


@router.post("/users", status_code=201, response_model=UserPublic)
async def create_user(data: UserCreate, dao: DAO) -> User:
    """Create a user."""
    return await dao.create(data)


app = application(router, lifespan)
