"""The service with two more reads, as docs/sessions.md has them: by Core, and in the schema of a tenant."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from fastapi import HTTPException
from service.recipes import run_examples
from sqlalchemy import RowMapping, bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import get_settings
from app.db import sessionmanager
from app.main import app
from app.users.models import User
from app.users.routes import USER
from app.users.schemas import UserPublic

__all__ = ["app"]


class TenantSession(Protocol):
    """The function of the recipe."""

    def __call__(self, schema: str) -> AbstractAsyncContextManager[AsyncSession]:
        """Open a unit of work in this schema."""


COLUMNS = select(User.id, User.email, User.full_name, User.created_at).where(User.id == bindparam("id"))
SCHEMA = get_settings().database_schema  # also of the one tenant: what it costs does not depend on the name
tenant_session: TenantSession = run_examples("tenants")["tenant_session"]


@app.get("/hot/{user_id}", response_model=UserPublic)
async def read_hot(user_id: int) -> RowMapping:
    """Return a user, without a session and without an object."""
    async with sessionmanager.read_engine.connect() as connection:
        user = (await connection.execute(COLUMNS, {"id": user_id})).mappings().one_or_none()
    if user is None:
        raise HTTPException(404)
    return user


@app.get("/tenant/{user_id}", response_model=UserPublic)
async def read_of_tenant(user_id: int) -> User:
    """Return a user of the tenant."""
    async with tenant_session(SCHEMA) as session:
        user = await session.scalar(USER, {"id": user_id})
    if user is None:
        raise HTTPException(404)
    return user
