"""benavlabs/FastAPI-boilerplate 0.19.0: a session for each request, every statement by FastCRUD.

From backend/src/infrastructure/database/session.py (commit 0612c14) and backend/src/modules/user/service.py
(commit 0049e8f): `pool_pre_ping`, `pool_recycle=-1`, `expire_on_commit=False`, a session for each request, a
read that selects the schema's columns and returns a dict, a create that adds, commits and refreshes. FastCRUD
itself does both. The project's create looks for the email first. Here the index does, as in the other
contenders.
"""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, HTTPException
from fastcrud import FastCRUD
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from app.config import get_settings
from app.users.models import User
from app.users.schemas import UserCreate, UserPublic
from benchmarks.contenders.application import application, disposing
from benchmarks.contenders.routes import POOL, untimed

engine = create_async_engine(get_settings().database_url, pool_pre_ping=True, pool_recycle=-1, **POOL)
session_maker = async_sessionmaker(bind=engine, class_=AsyncSession, expire_on_commit=False)
crud_users: FastCRUD[Any, Any, Any, Any, Any, Any] = FastCRUD(User)


async def async_session() -> AsyncIterator[AsyncSession]:
    """Yield a session; close it."""
    async with session_maker() as session:
        yield session


SessionDep = Annotated[AsyncSession, Depends(async_session)]


router = untimed(async_session)


@router.get("/users/{user_id}", response_model=UserPublic)
async def read_user(user_id: int, session: SessionDep) -> dict[str, Any]:
    """Return a user."""
    user: dict[str, Any] | None = await crud_users.get(session, schema_to_select=UserPublic, id=user_id)
    if user is None:
        raise HTTPException(404)
    return user


@router.post("/users", status_code=201, response_model=UserPublic)
async def create_user(data: UserCreate, session: SessionDep) -> dict[str, Any]:
    """Create a user."""
    user: dict[str, Any] = await crud_users.create(session, data, schema_to_select=UserPublic)
    return user


app = application(router, disposing(engine))
