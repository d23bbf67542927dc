"""The routes that only read, for the contenders on SQLAlchemy: they differ in their sessions alone."""

from collections.abc import AsyncIterator, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.users.models import User
from app.users.schemas import UserPublic
from app.web import Page


def reading(get_db: Callable[[], AsyncIterator[AsyncSession]]) -> APIRouter:
    """Return a router with these routes, on the sessions of `get_db`."""
    router = APIRouter()

    @router.get("/users/{user_id}", response_model=UserPublic)
    async def read_user(user_id: int, session: Annotated[AsyncSession, Depends(get_db)]) -> User:
        user = await session.scalar(select(User).where(User.id == user_id))
        if user is None:
            raise HTTPException(404)
        return user

    @router.get("/users", response_model=Page[UserPublic])
    async def list_users(
        session: Annotated[AsyncSession, Depends(get_db)], limit: int = 50, after: int = 0
    ) -> dict[str, object]:
        query = select(User).where(User.id > after).order_by(User.id).limit(limit + 1)
        users = (await session.scalars(query)).all()
        page = users[:limit]
        return {"items": page, "next": page[-1].id if len(users) > limit else None}

    return router
