"""The application with a few more routes, which do what its own routes have no reason to do."""

import asyncio
from contextlib import suppress
from typing import Annotated

from fastapi import Body, HTTPException
from sqlalchemy import AsyncAdaptedQueuePool, text
from sqlalchemy.exc import DBAPIError

from app.database import ReadSessionDep, SessionDep, sessionmanager
from app.main import app
from app.models import User

__all__ = ["app"]


@app.post("/test/raise-after-flush")
async def raise_after_flush(session: SessionDep) -> None:
    session.add(User(email="flushed@example.com"))
    await session.flush()
    raise HTTPException(418)


@app.post("/test/catch-and-go-on")
async def catch_and_go_on(session: SessionDep, statement: Annotated[str, Body()]) -> None:
    session.add(User(email="lost@example.com"))
    await session.flush()
    with suppress(DBAPIError):  # the mistake that the test is about
        await session.execute(text(statement))


@app.get("/test/sleep")
async def sleep(session: SessionDep, seconds: float) -> None:
    await session.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})


@app.get("/test/schema")
async def schema(session: ReadSessionDep) -> str | None:
    found: str | None = await session.scalar(text("SELECT current_schema()"))
    return found


@app.get("/test/open")
async def still_open() -> dict[str, int]:
    """Count what is open: tasks with a session, and connections that are not in the pool."""
    await asyncio.sleep(0)
    return open_now()


def open_now() -> dict[str, int]:
    """Count the tasks that have a session and the connections that are checked out."""
    pool = sessionmanager.engine.pool
    assert isinstance(pool, AsyncAdaptedQueuePool)
    return {
        "sessions": sum(len(sessions.registry.registry) for sessions in sessionmanager._registries()),
        "connections": pool.checkedout(),
    }
