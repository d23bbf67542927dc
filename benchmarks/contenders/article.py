"""The article's code: one registry of sessions for all tasks, a search_path set in every request.

The article never commits. The routes here commit, in the way that costs the fewest round trips. The pool has
100 connections, as in the article.
"""

from asyncio import current_task
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)

from app.config import get_settings
from app.users.models import User
from app.users.schemas import UserCreate, UserPublic
from benchmarks.contenders.application import application
from benchmarks.contenders.routes import reading


class DatabaseSessionManager:
    """The article's."""

    def __init__(self) -> None:
        self.engine: AsyncEngine | None = None

    def init_db(self) -> None:
        """Create the engine, the session class and the scoped session."""
        self.engine = create_async_engine(
            get_settings().database_url, pool_size=100, max_overflow=0, pool_pre_ping=False
        )
        self.session_maker = async_sessionmaker(autocommit=False, autoflush=False, bind=self.engine)
        self.session = async_scoped_session(self.session_maker, scopefunc=current_task)

    async def close(self) -> None:
        """Dispose of the engine."""
        if self.engine is None:
            raise RuntimeError("DatabaseSessionManager is not initialized")
        await self.engine.dispose()


sessionmanager = DatabaseSessionManager()


async def get_db() -> AsyncIterator[AsyncSession]:
    """Yield the session of this task, its search_path set."""
    session = sessionmanager.session()
    try:
        await session.execute(text(f'SET search_path TO "{get_settings().database_schema}"'))
        yield session
    except Exception:
        await session.rollback()
        raise
    finally:
        await session.close()


SessionDep = Annotated[AsyncSession, Depends(get_db)]


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Open and close the session manager."""
    sessionmanager.init_db()
    yield
    await sessionmanager.close()


router = reading(get_db)


@router.post("/users", status_code=201)
async def create_user(data: UserCreate, session: SessionDep) -> UserPublic:
    """Create a user."""
    user = User(**data.model_dump())
    session.add(user)
    await session.flush()
    public = UserPublic.model_validate(user)  # now: the commit makes the object expire
    await session.commit()
    return public


app = application(router, lifespan)
