"""The application with a few more routes, which do what its own routes have no reason to do."""

import asyncio
import gc
import logging
import os
import uuid
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Annotated, Any

from fastapi import BackgroundTasks, Body, Depends, HTTPException, Request, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict
from sqlalchemy import AsyncAdaptedQueuePool, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import lazyload
from sqlalchemy.util import ScopedRegistry

from app.db import ReadSessionDep, SessionDep, get_db, sessionmanager
from app.main import app
from app.users.models import User
from app.users.schemas import UserCreate, UserPublic, UserWithNotes

__all__ = ["app"]
LAZY = select(User).options(lazyload(User.notes))  # instead of what app/users/models.py says


@app.post("/test/as-the-article-has-it", status_code=201)
async def as_the_article_has_it(data: UserCreate, session: AsyncSession = Depends(get_db)) -> None:
    session.add(User(**data.model_dump()))


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


@app.get("/test/read-and-sleep")
async def read_and_sleep(session: ReadSessionDep, seconds: float) -> None:
    await session.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})


@app.post("/test/unit")
async def unit(session: SessionDep) -> None:
    await session.execute(text("SELECT 1"))


@app.get("/test/idle")
async def idle(session: SessionDep, seconds: float) -> None:
    await session.execute(text("SELECT 1"))
    await asyncio.sleep(seconds)
    await session.execute(text("SELECT 1"))


@app.post("/test/killed-before-commit")
async def killed_before_commit(session: SessionDep) -> None:
    session.add(User(email="lost@example.com"))
    await session.flush()
    await kill(session)


@app.post("/test/killed-before-statement")
async def killed_before_statement(session: SessionDep) -> None:
    session.add(User(email="lost@example.com"))
    await session.flush()
    await kill(session)
    await session.execute(text("SELECT 1"))


@app.post("/test/killed-while-streaming")
async def killed_while_streaming(session: SessionDep) -> None:
    session.add(User(email="lost@example.com"))
    await session.flush()
    rows = await session.stream(text("SELECT pg_backend_pid() FROM generate_series(1, 1000)"))
    await terminate((await anext(aiter(rows)))[0])
    async for _ in rows:
        pass


@app.post("/test/killed-in-a-group")
async def killed_in_a_group() -> None:
    async with asyncio.TaskGroup() as tasks:
        for _ in range(2):
            tasks.create_task(add_and_be_killed())


async def add_and_be_killed() -> None:
    async with sessionmanager.session() as session:
        session.add(User(email=f"{uuid.uuid4()}@example.com"))
        await session.flush()
        await kill(session)


async def kill(session: AsyncSession) -> None:
    await terminate(await session.scalar(text("SELECT pg_backend_pid()")))


async def terminate(backend: int) -> None:
    async with sessionmanager.engine.connect() as other:
        await other.execute(text(f"SELECT pg_terminate_backend({backend}, 1000)"))


@app.post("/test/not-null")
async def not_null(session: SessionDep, name: Annotated[str, Body()]) -> None:
    await session.execute(text("INSERT INTO users (full_name) VALUES (:name)"), {"name": name})


@app.post("/test/wrong-type")
async def wrong_type(session: SessionDep, number: Annotated[str, Body()]) -> None:
    await session.execute(text("SELECT * FROM users WHERE id = :id"), {"id": number})


@app.post("/test/raise")
async def unexpected(name: Annotated[str, Body()]) -> None:
    try:
        os.environ[name]
    except KeyError as error:
        raise ValueError(name) from error


@app.post("/test/upload")
async def upload(request: Request) -> int:
    return len(await request.body())


@app.post("/test/status/{status}")
async def status(status: int, detail: Annotated[Any, Body()]) -> None:
    raise HTTPException(status, detail)


@app.post("/test/background-failure")
async def background_failure(tasks: BackgroundTasks, name: Annotated[str, Body()]) -> None:
    async def fail() -> None:
        async with sessionmanager.session() as session:
            await session.execute(text("INSERT INTO users (full_name) VALUES (:name)"), {"name": name})

    tasks.add_task(fail)


@app.post("/test/forgotten-task")
async def forgotten_task(name: Annotated[str, Body()]) -> None:
    async def fail() -> None:
        raise ValueError(name)

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    del task
    gc.collect()


@app.get("/test/leave-while-executing")
async def leave_while_executing(session: ReadSessionDep) -> None:
    """Raise while another task uses the session, which is a mistake."""

    async def fail() -> None:
        await asyncio.sleep(0.02)
        raise HTTPException(418)

    await asyncio.gather(session.execute(text("SELECT pg_sleep(0.1)")), fail())


@app.post("/test/killed-before-error")
async def killed_before_error(session: SessionDep) -> None:
    await kill(session)
    raise HTTPException(418)


@app.get("/test/slow-stream")
async def slow_stream(session: SessionDep) -> None:
    rows = await session.stream(text("SELECT pg_sleep(0.01) FROM generate_series(1, 1000)"))
    async for _ in rows:
        pass


@app.websocket("/test/websocket")
async def websocket(socket: WebSocket) -> None:
    await socket.accept()
    raise ValueError(await socket.receive_text())


@app.get("/test/gather")
async def gather(session: SessionDep) -> None:
    """Use one session in several tasks, which is a mistake."""
    await asyncio.gather(*[session.execute(text("SELECT pg_sleep(0.01)")) for _ in range(3)])


@app.get("/test/stream")
async def stream() -> StreamingResponse:
    """Stream without end, from a session that is as long."""

    async def lines() -> AsyncGenerator[str]:
        async with sessionmanager.session() as session:
            yield "first\n"
            await session.execute(text("SELECT pg_sleep(60)"))

    return StreamingResponse(lines())


@app.get("/test/ticks")
async def ticks() -> StreamingResponse:
    """Stream a line now and then, without end."""

    async def lines() -> AsyncGenerator[str]:
        while True:
            yield "tick\n"
            await asyncio.sleep(0.1)

    return StreamingResponse(lines())


@app.post("/test/export")
@app.get("/test/export")
async def export() -> StreamingResponse:
    """Stream what a query finds, row by row: the body has a session of its own, for as long as it takes."""

    async def lines() -> AsyncGenerator[str]:
        async with sessionmanager.session() as session:
            async for user in await session.stream_scalars(select(User).order_by(User.id)):
                yield f"{user.email}\n"

    return StreamingResponse(lines())


@app.post("/test/background")
async def background(tasks: BackgroundTasks) -> None:
    """Do something after the response, in a session of its own."""

    async def add_user() -> None:
        async with sessionmanager.session() as session:
            session.add(User(email="background@example.com"))

    tasks.add_task(add_user)


@app.post("/test/background-with-the-session-of-the-request")
async def background_with_the_session_of_the_request(session: SessionDep, tasks: BackgroundTasks) -> None:
    async def add_user() -> None:
        await session.execute(text("SELECT 1"))

    tasks.add_task(add_user)


# Mistakes, each of which the log must name.


@app.post("/test/lazy-in-the-route")
async def lazy_in_the_route(session: SessionDep) -> int:
    user = (await session.scalars(LAZY)).one()
    return len(user.notes)


@app.post("/test/lazy-in-the-response", response_model=UserWithNotes)
async def lazy_in_the_response(session: SessionDep) -> User:
    return (await session.scalars(LAZY)).one()


@app.post("/test/lazy-after-the-session")
async def lazy_after_the_session(session: SessionDep, tasks: BackgroundTasks) -> None:
    user = (await session.scalars(LAZY)).one()

    async def count_notes() -> None:
        len(user.notes)

    tasks.add_task(count_notes)


@app.post("/test/lazy-raises")
async def lazy_raises(session: ReadSessionDep) -> int:
    return len((await session.scalars(select(User))).one().notes)


@app.post("/test/lazy-raises-in-the-response", response_model=UserWithNotes)
async def lazy_raises_in_the_response(session: ReadSessionDep) -> User:
    return (await session.scalars(select(User))).one()


class Author(User):
    """A user of the same table, with a property that reads a relationship."""

    @property
    def note_count(self) -> int:
        return len(self.notes)


class AuthorPublic(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    note_count: int


@app.post("/test/lazy-in-a-property", response_model=AuthorPublic)
async def lazy_in_a_property(session: SessionDep) -> Author:
    return (await session.scalars(select(Author).options(lazyload(Author.notes)))).one()


@app.post("/test/expired-in-the-route")
async def expired_in_the_route(session: SessionDep) -> str:
    user = (await session.scalars(select(User))).one()
    await session.rollback()
    return user.email


@app.post("/test/expired-in-the-response", response_model=UserPublic)
async def expired_in_the_response(session: SessionDep) -> User:
    user = (await session.scalars(select(User))).one()
    session.expire(user)
    return user


@app.post("/test/no-await")
async def no_await(session: SessionDep) -> None:
    session.sync_session.execute(select(User))


@app.post("/test/misfit", response_model=UserPublic)
async def misfit(session: ReadSessionDep) -> dict[str, Any]:
    user = (await session.scalars(select(User))).one()
    return {"id": 1, "email": [user.full_name], "created_at": user.created_at}


@app.post("/test/unflushed", response_model=UserPublic)
async def unflushed(session: SessionDep) -> User:
    user = User(email="grace@example.com", full_name="hunter2")
    session.add(user)
    return user


@app.post("/test/stream-with-the-session-of-the-request")
async def stream_with_the_session_of_the_request(session: SessionDep) -> StreamingResponse:
    async def lines() -> AsyncGenerator[str]:
        yield "first\n"
        yield str(await session.scalar(select(User.email)))

    return StreamingResponse(lines())


@app.post("/test/write-in-a-read")
async def write_in_a_read(session: ReadSessionDep) -> None:
    await session.execute(update(User).values(full_name="hunter2"))


@app.post("/test/change-in-a-read")
async def change_in_a_read(session: ReadSessionDep) -> None:
    (await session.scalars(select(User))).one().email = "grace@example.com"


@app.post("/test/stream-in-a-read")
async def stream_in_a_read(session: ReadSessionDep) -> None:
    await session.stream(select(User))


@app.post("/test/commit-in-a-joined-block")
async def commit_in_a_joined_block(session: SessionDep) -> None:
    await session.execute(select(1))
    async with sessionmanager.session() as inner:
        await inner.commit()


@app.post("/test/go-on-after-a-joined-block-failed")
async def go_on_after_a_joined_block_failed(session: SessionDep) -> None:
    await session.execute(select(1))
    with suppress(KeyError):
        async with sessionmanager.session():
            raise KeyError


@app.post("/test/two-tasks-in-one-stream")
async def two_tasks_in_one_stream(session: SessionDep) -> None:
    rows = await session.stream(text("SELECT pg_sleep(0.001) FROM generate_series(1, 1000)"))
    await asyncio.gather(rows.all(), rows.all())


@app.get("/test/schema")
async def schema(session: ReadSessionDep) -> str | None:
    found: str | None = await session.scalar(text("SELECT current_schema()"))
    return found


@app.get("/test/echo")
async def echo(session: ReadSessionDep, name: str) -> list[str]:
    """Ask the server, which takes its time, for the name and the schema."""
    query = text("SELECT :name, current_schema() FROM pg_sleep(0.002)")
    return list((await session.execute(query, {"name": name})).one())


@app.get("/test/reads-replica")
async def reads_replica(session: ReadSessionDep) -> bool:
    return bool(await session.scalar(text("SELECT pg_is_in_recovery()")))


@app.get("/test/users/{user_id}")
async def read_after_write(user_id: int, session: SessionDep) -> str | None:
    """Read what this client may have written a moment ago: not on a replica, which may be behind."""
    return await session.scalar(select(User.email).where(User.id == user_id))


@app.get("/test/large")
async def large(session: SessionDep) -> PlainTextResponse:
    """Answer more than the buffers between a server and its client hold."""
    await session.execute(text("SELECT 1"))
    return PlainTextResponse("x" * 20_000_000)


@app.get("/test/hostile/{text}")
async def hostile(request: Request, text: str) -> None:
    """Log what a client sent, as a route of the owner's may, and fail because of it."""
    logging.getLogger("owner").info("%s by %s", request.url.query, request.headers.get("user-agent"))
    raise ValueError(text)


@app.get("/test/url")
async def url(request: Request) -> str:
    """Return an address of this service."""
    return str(request.url_for("read_user", user_id=1))


@app.get("/test/pools")
async def pools() -> list[str]:
    """Tell of which kind the pools are."""
    return [type(engine.pool).__name__ for engine in (sessionmanager.engine, sessionmanager.read_engine)]


@app.get("/test/telemetry")
async def telemetry() -> dict[str, int | bool]:
    """Tell what observes the engine, and whether FastAPI observes its requests."""
    listeners: Any = sessionmanager.engine.sync_engine.dialect.dispatch
    fastapi = app._native_telemetry.config
    return {"engine": len(listeners.do_connect), "fastapi": fastapi["tracing"] or fastapi["metrics"]}


@app.get("/test/open")
async def still_open() -> dict[str, int]:
    """Count what is open: tasks with a session, and connections that are not in the pool."""
    await asyncio.sleep(0)
    return open_now()


def open_now() -> dict[str, int]:
    """Count the tasks that have a session and the connections that are checked out."""
    pools = [sessionmanager.engine.pool, sessionmanager.read_engine.pool]
    registries = [sessionmanager._units.registry, sessionmanager._readers.registry]
    return {
        "sessions": sum(
            len(registry.registry) for registry in registries if isinstance(registry, ScopedRegistry)
        ),
        "connections": sum(pool.checkedout() for pool in pools if isinstance(pool, AsyncAdaptedQueuePool)),
    }
