"""What the contenders on SQLAlchemy's asyncio share. Engines, sessions and the timed routes are their own."""

from collections.abc import AsyncIterator, Callable
from typing import Annotated, TypedDict

from fastapi import APIRouter, Depends, HTTPException
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import get_settings
from app.users.models import User
from app.users.schemas import UserPublic
from app.web import Page, page

GetSession = Callable[..., AsyncIterator[AsyncSession]]


class Pool(TypedDict):
    """Engine options."""

    pool_size: int
    max_overflow: int


# As many connections as the service has to read, whatever the project's own number is.
POOL: Pool = {"pool_size": get_settings().database_read_pool_size, "max_overflow": 0}


def untimed(get_db: GetSession) -> APIRouter:
    """Return a router with the routes whose CPU is not measured, on the sessions of `get_db`."""
    router = APIRouter()

    @router.get("/users", response_model=Page[UserPublic])
    async def list_users(
        session: Annotated[AsyncSession, Depends(get_db)], limit: int = 50, after: int = 0
    ) -> dict[str, object]:
        query = select(User).where(User.id > after).order_by(User.id).limit(limit + 1)
        return page((await session.scalars(query)).all(), limit)

    @router.delete("/users/{user_id}", status_code=204)
    async def delete_user(user_id: int, session: Annotated[AsyncSession, Depends(get_db)]) -> None:
        if await session.scalar(delete(User).where(User.id == user_id).returning(User.id)) is None:
            raise HTTPException(404)
        await session.commit()

    return router


def reading(get_db: GetSession) -> APIRouter:
    """Return a router with these routes, and a read of a user by the ORM."""
    router = untimed(get_db)

    @router.get("/users/{user_id}", response_model=UserPublic)
    async def read_user(user_id: int, session: Annotated[AsyncSession, Depends(get_db)]) -> User:
        user = await session.scalar(select(User).where(User.id == user_id))
        if user is None:
            raise HTTPException(404)
        return user

    return router
