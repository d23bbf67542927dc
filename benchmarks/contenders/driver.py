"""FastAPI and the driver's own pool, SQL by hand: the practical limit."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import asyncpg
from fastapi import APIRouter, FastAPI, HTTPException

from app.config import get_settings
from app.users.schemas import UserCreate, UserPublic
from app.web import Page
from benchmarks.contenders.application import application

settings = get_settings()
COLUMNS = "id, email, full_name, created_at"
TABLE = f'"{settings.database_schema}".users'


async def keep(_connection: asyncpg.Connection) -> None:
    """Leave a returned connection as it is: single statements change nothing that a reset would undo."""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open and close the pool."""
    async with asyncpg.create_pool(
        os.environ["DATABASE_URL"],
        min_size=0,
        max_size=settings.database_read_pool_size,  # as many as the service has to read
        reset=keep,
    ) as app.state.pool:
        yield


router = APIRouter()


@router.get("/users/{user_id}", response_model=UserPublic)
async def read_user(user_id: int) -> Mapping[str, object]:
    """Return a user."""
    row = await app.state.pool.fetchrow(f"SELECT {COLUMNS} FROM {TABLE} WHERE id = $1", user_id)
    if row is None:
        raise HTTPException(404)
    return dict(row)


@router.get("/users", response_model=Page[UserPublic])
async def list_users(limit: int = 50, after: int = 0) -> dict[str, object]:
    """Return a page of users."""
    query = f"SELECT {COLUMNS} FROM {TABLE} WHERE id > $1 ORDER BY id LIMIT $2"
    users = [dict(row) for row in await app.state.pool.fetch(query, after, limit + 1)]
    page = users[:limit]
    return {"items": page, "next": page[-1]["id"] if len(users) > limit else None}


@router.post("/users", status_code=201, response_model=UserPublic)
async def create_user(data: UserCreate) -> Mapping[str, object]:
    """Create a user."""
    insert = f"INSERT INTO {TABLE} (email, full_name) VALUES ($1, $2) RETURNING {COLUMNS}"
    return dict(await app.state.pool.fetchrow(insert, data.email, data.full_name))


@router.delete("/users/{user_id}", status_code=204)
async def delete_user(user_id: int) -> None:
    """Delete a user."""
    if await app.state.pool.fetchval(f"DELETE FROM {TABLE} WHERE id = $1 RETURNING id", user_id) is None:
        raise HTTPException(404)


app = application(router, lifespan)
