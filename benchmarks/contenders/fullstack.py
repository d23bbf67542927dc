"""fastapi/full-stack-fastapi-template 0.10.0: functions without `async`, and psycopg, in FastAPI's threads.

From backend/app/core/db.py, backend/app/api/deps.py and backend/app/crud.py: an engine on psycopg without
options, a session for each request, a read by `session.get`, a create by `add`, `commit` and `refresh`. The
project's session is SQLModel's, which adds the method `exec` to SQLAlchemy's. Here it is SQLAlchemy's, since
the models are the same for all. The project's create looks for the email first. Here the index does.
"""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, HTTPException
from sqlalchemy import create_engine, make_url, select
from sqlalchemy.orm import Session

from app.users.models import User
from app.users.schemas import UserCreate, UserPublic
from app.web import Page, page
from benchmarks.contenders.application import application
from benchmarks.contenders.routes import POOL

engine = create_engine(make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg"), **POOL)


def get_db() -> Iterator[Session]:
    """Yield a session; close it."""
    with Session(engine) as session:
        yield session


SessionDep = Annotated[Session, Depends(get_db)]


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Dispose of the engine at the end."""
    yield
    engine.dispose()


router = APIRouter()


@router.get("/users/{user_id}", response_model=UserPublic)
def read_user(user_id: int, session: SessionDep) -> User:
    """Return a user."""
    user = session.get(User, user_id)
    if user is None:
        raise HTTPException(404)
    return user


@router.get("/users", response_model=Page[UserPublic])
def list_users(session: SessionDep, limit: int = 50, after: int = 0) -> dict[str, object]:
    """Return a page of users."""
    query = select(User).where(User.id > after).order_by(User.id).limit(limit + 1)
    return page(session.scalars(query).all(), limit)


@router.post("/users", status_code=201, response_model=UserPublic)
def create_user(data: UserCreate, session: SessionDep) -> User:
    """Create a user."""
    user = User(**data.model_dump())
    session.add(user)
    session.commit()
    session.refresh(user)
    return user


@router.delete("/users/{user_id}", status_code=204)
def delete_user(user_id: int, session: SessionDep) -> None:
    """Delete a user."""
    session.delete(read_user(user_id, session))
    session.commit()


app = application(router, lifespan)
