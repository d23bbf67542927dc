"""The shape of most templates: a session for each request, committed at its end, pinged before its use."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from app.config import get_settings
from app.users.models import User
from app.users.schemas import UserCreate, UserPublic
from benchmarks.contenders.routes import reading

settings = get_settings()
engine = create_async_engine(
    settings.database_url,
    pool_size=settings.database_read_pool_size,  # as many as the service has to read
    max_overflow=0,
    pool_pre_ping=True,
)
session_maker = async_sessionmaker(engine, expire_on_commit=False)


async def get_db() -> AsyncIterator[AsyncSession]:
    """Yield a session; commit when the request is over."""
    async with session_maker() as session:
        try:
            yield session
            await session.commit()
        except Exception:
            await session.rollback()
            raise


SessionDep = Annotated[AsyncSession, Depends(get_db)]


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Dispose of the engine at the end."""
    yield
    await engine.dispose()


router = reading(get_db)


@router.post("/users", status_code=201, response_model=UserPublic)
async def create_user(data: UserCreate, session: SessionDep) -> User:
    """Create a user."""
    user = User(**data.model_dump())
    session.add(user)
    await session.flush()
    return user


@router.delete("/users/{user_id}", status_code=204)
async def delete_user(user_id: int, session: SessionDep) -> None:
    """Delete a user."""
    deleted = await session.scalar(delete(User).where(User.id == user_id).returning(User.id))
    if deleted is None:
        raise HTTPException(404)


app = FastAPI(lifespan=lifespan)
app.include_router(router)
