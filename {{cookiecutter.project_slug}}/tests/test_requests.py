"""The sessions in a request: what a response promises."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException
from fastapi.responses import JSONResponse
from httpx2 import ASGITransport, AsyncClient
from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import DatabaseSessionManager, ReadSessionDep, SessionDep, get_db
from tests.tools import Base, Thing, add_thing, application, created, open_now, stored


class ThingPublic(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str


@pytest.fixture
def app() -> FastAPI:
    """An application without routes. Each test adds the one that the test is about."""
    return application()


@pytest.fixture
async def client(app: FastAPI, database: DatabaseSessionManager) -> AsyncGenerator[AsyncClient]:
    """A client of that application, on a database with an empty table."""
    transport = ASGITransport(app)
    async with created(Base.metadata), AsyncClient(transport=transport, base_url="http://test") as client:
        yield client
        assert open_now() == (0, 0)


async def test_a_success_is_stored(app: FastAPI, client: AsyncClient) -> None:
    @app.post("/", status_code=201, response_model=ThingPublic)
    async def create(session: SessionDep) -> Thing:
        return await add_thing(session)

    created = await client.post("/")
    assert (created.status_code, created.json()) == (201, {"id": 1, "name": "lamp"})
    assert await stored() == ["lamp"]


async def test_a_commit_that_fails_is_an_error_response(app: FastAPI, client: AsyncClient) -> None:
    @app.post("/")
    async def create(session: AsyncSession = Depends(get_db)) -> None:
        await add_thing(session, "same")
        await add_thing(session, "same")  # which PostgreSQL refuses at the commit

    response = await client.post("/")
    assert response.status_code == 409
    assert "same" not in response.text
    assert await stored() == []


async def test_a_response_that_lacks_a_flush_is_an_error_that_says_so(
    app: FastAPI, client: AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    @app.post("/", response_model=ThingPublic)
    async def create(session: SessionDep) -> Thing:
        thing = Thing(name="lamp")
        session.add(thing)
        return thing

    assert (await client.post("/")).status_code == 500
    assert "await session.flush()" in caplog.text
    assert await stored() == []


async def test_a_route_that_raises_has_written_nothing_and_one_that_returns_an_error_has_committed(
    app: FastAPI, client: AsyncClient
) -> None:
    @app.post("/raise")
    async def fail(session: SessionDep) -> None:
        await add_thing(session, "raised")
        raise HTTPException(400)

    @app.post("/return")
    async def return_error(session: SessionDep) -> JSONResponse:
        await add_thing(session, "returned")
        return JSONResponse({}, 400)

    for path in ("/raise", "/return"):
        assert (await client.post(path)).status_code == 400
    assert await stored() == ["returned"]


async def test_a_read_route_cannot_write(
    app: FastAPI, client: AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    @app.post("/")
    async def create(session: ReadSessionDep) -> None:
        session.add(Thing(name="lamp"))

    assert (await client.post("/")).status_code == 500
    assert "take SessionDep" in caplog.text
    assert await stored() == []


async def test_a_dependency_and_its_route_share_one_unit_of_work(app: FastAPI, client: AsyncClient) -> None:
    async def lamp(session: SessionDep) -> AsyncGenerator[Thing]:
        thing = await add_thing(session)
        yield thing
        thing.name += " of the route"
        await session.flush()

    @app.post("/")
    async def create(thing: Annotated[Thing, Depends(lamp, scope="function")], session: SessionDep) -> None:
        thing.name = "desk"
        assert (await session.get(Thing, thing.id)) is thing

    assert (await client.post("/")).status_code == 200
    assert await stored() == ["desk of the route"]


async def test_the_session_of_a_request_is_closed_when_the_response_is_sent(
    app: FastAPI, client: AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    @app.post("/")
    async def create(session: SessionDep, tasks: BackgroundTasks) -> None:
        tasks.add_task(add_thing, session)

    assert (await client.post("/")).status_code == 200
    assert "open a session()" in caplog.text
    assert await stored() == []


async def test_many_requests_leave_nothing_open(app: FastAPI, client: AsyncClient) -> None:
    @app.post("/{name}")
    async def create(name: str, session: SessionDep) -> None:
        await add_thing(session, name)

    @app.get("/{thing_id}")
    async def read(thing_id: int, session: ReadSessionDep) -> str:
        if (thing := await session.get(Thing, thing_id)) is None:
            raise HTTPException(404)
        return thing.name

    requests = [(method, f"/{n % 60}") for n in range(100) for method in ("POST", "GET")]
    answers = await asyncio.gather(*(client.request(method, path) for method, path in requests))
    assert {answer.status_code for answer in answers} == {200, 404, 409}
    assert len(await stored()) == 60
    assert open_now() == (0, 0)
