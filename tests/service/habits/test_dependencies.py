"""The session as a dependency, in every form that FastAPI has: each commits before the response."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, FastAPI, Security
from fastapi.routing import APIRoute
from fastapi.security import SecurityScopes
from httpx2 import ASGITransport, AsyncClient
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.config import get_settings
from app.db import DatabaseSessionManager, ReadSessionDep, SessionDep, get_db, get_read_db, sessionmanager
from app.users.models import User
from app.users.schemas import UserPublic
from app.web import add_middleware, add_problem_handlers
from service.routes import app as service, open_now
from service.tools import stored

NOTHING = {"sessions": 0, "connections": 0}
WAITING = 40
router = APIRouter()


class Watched:
    """An application, and how many users were stored at the moment when each of its responses began."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self.stored: list[int] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def look_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.stored.append(await stored())
            await send(message)

        await self.app(scope, receive, look_and_send)


@pytest.fixture
def app() -> FastAPI:
    """An application without routes but those of this file; a test adds what it is about."""
    app = FastAPI()
    add_middleware(app, get_settings())
    add_problem_handlers(app)
    app.include_router(router)
    return app


@pytest.fixture
def watched(app: FastAPI) -> Watched:
    return Watched(app)


@pytest.fixture
async def client(watched: Watched, database: DatabaseSessionManager) -> AsyncGenerator[AsyncClient]:
    """A client of that application, which leaves nothing open."""
    async with AsyncClient(transport=ASGITransport(watched), base_url="http://test") as client:
        yield client
    assert open_now() == NOTHING


def add_user(session: AsyncSession) -> User:
    user = User(email="ada@example.com")
    session.add(user)
    return user


@router.post("/alias", status_code=201)
async def alias(session: SessionDep) -> None:
    add_user(session)


@router.post("/as-the-article-has-it", status_code=201)
async def as_the_article_has_it(session: AsyncSession = Depends(get_db)) -> None:
    add_user(session)


async def sub(session: SessionDep) -> AsyncSession:
    return session


@router.post("/sub-dependency", status_code=201)
async def sub_dependency(session: Annotated[AsyncSession, Depends(sub)]) -> None:
    add_user(session)


async def plain_sub(session: AsyncSession = Depends(get_db)) -> AsyncSession:
    return session


@router.post("/plain-sub-dependency", status_code=201)
async def plain_sub_dependency(session: AsyncSession = Depends(plain_sub)) -> None:
    add_user(session)


async def generator(session: SessionDep) -> AsyncGenerator[AsyncSession]:
    yield session


@router.post("/generator", status_code=201)
async def of_a_generator(session: Annotated[AsyncSession, Depends(generator)]) -> None:
    add_user(session)


async def allowed(scopes: SecurityScopes, session: SessionDep) -> AsyncSession:
    assert scopes.scopes
    await session.execute(select(1))
    return session


@router.post("/security", status_code=201)
async def security(
    reader: Annotated[AsyncSession, Security(allowed, scopes=["read"])],
    writer: Annotated[AsyncSession, Security(allowed, scopes=["read", "write"])],
    session: SessionDep,
) -> None:
    assert reader is writer is session
    assert open_now() == {"sessions": 1, "connections": 1}
    add_user(session)


@router.post("/router", status_code=201, dependencies=[Depends(get_db)])
async def dependency_of_the_router(session: SessionDep) -> None:
    assert open_now()["sessions"] == 1
    add_user(session)


@pytest.mark.parametrize("path", [route.path for route in router.routes if isinstance(route, APIRoute)])
async def test_whatever_form_the_dependency_has_it_commits_before_the_response(
    client: AsyncClient, watched: Watched, path: str
) -> None:
    assert (await client.post(path)).status_code == 201
    assert watched.stored == [1]


async def test_a_generator_whose_end_uses_the_session_is_told_the_scope_that_it_needs(
    app: FastAPI, client: AsyncClient, watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    async def late(session: SessionDep) -> AsyncGenerator[AsyncSession]:
        yield session
        await session.execute(select(1))  # after the response

    @app.post("/late", status_code=201)
    async def create(session: Annotated[AsyncSession, Depends(late)]) -> None:
        add_user(session)

    assert (await client.post("/late")).status_code == 201
    assert watched.stored == [1]
    [line] = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert line.startswith("POST /late: the response had begun, ")
    assert "InvalidRequestError: This Session has been permanently closed" in line
    assert 'Depends(..., scope="function")' in line


async def test_a_generator_of_that_scope_ends_in_the_transaction_of_the_route(
    app: FastAPI, client: AsyncClient, watched: Watched
) -> None:
    async def in_time(session: SessionDep) -> AsyncGenerator[AsyncSession]:
        yield session
        assert await stored() == 0
        session.add(User(email="grace@example.com"))

    @app.post("/in-time", status_code=201)
    async def create(session: Annotated[AsyncSession, Depends(in_time, scope="function")]) -> None:
        add_user(session)

    assert (await client.post("/in-time")).status_code == 201
    assert watched.stored == [2]


async def test_an_override_of_the_dependencies_reaches_all_routes(
    database: DatabaseSessionManager, caplog: pytest.LogCaptureFixture
) -> None:
    async with database.session_maker() as session:

        def override() -> AsyncSession:
            return session

        service.dependency_overrides |= {get_db: override, get_read_db: override}
        try:
            async with AsyncClient(transport=ASGITransport(service), base_url="http://test") as client:
                created = await client.post("/users", json={"email": "ada@example.com"})
                assert created.status_code == 201
                assert (await client.get("/users")).raise_for_status().json()["items"] == [created.json()]
                article = await client.post("/test/as-the-article-has-it", json={"email": "b@example.com"})
                assert article.status_code == 201
        finally:
            service.dependency_overrides.clear()
        assert {user.email for user in session.new} == {"b@example.com"}
        assert await stored() == 0  # nobody committed
        assert open_now() == {"sessions": 0, "connections": 1}


@pytest.mark.parametrize("dependency", [get_db, get_read_db])
async def test_an_override_reaches_a_sub_dependency(
    app: FastAPI, client: AsyncClient, dependency: Callable[..., object]
) -> None:
    async with sessionmanager.session_maker() as session:

        async def reading(reader: ReadSessionDep) -> AsyncSession:
            return reader

        @app.get("/both")
        async def both(
            writer: Annotated[AsyncSession, Depends(sub)], reader: Annotated[AsyncSession, Depends(reading)]
        ) -> list[bool]:
            return [writer is session, reader is session]

        app.dependency_overrides[dependency] = lambda: session
        assert (await client.get("/both")).raise_for_status().json() == [
            dependency is get_db,
            dependency is get_read_db,
        ]


async def test_a_response_that_needs_an_id_needs_a_flush(
    app: FastAPI, client: AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    @app.post("/unflushed", status_code=201, response_model=UserPublic)
    async def unflushed(session: SessionDep) -> User:
        return add_user(session)

    @app.post("/flushed", status_code=201, response_model=UserPublic)
    async def flushed(session: SessionDep) -> User:
        user = add_user(session)
        await session.flush()
        return user

    assert (await client.post("/unflushed")).status_code == 500
    [line] = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert line.startswith("POST /unflushed: 500, NotFlushedError: ")
    assert "await session.flush()" in line
    assert await stored() == 0
    created = await client.post("/flushed")
    assert (created.status_code, created.json()["email"]) == (201, "ada@example.com")
    assert await stored() == 1


async def test_requests_that_wait_hold_no_connection(app: FastAPI, client: AsyncClient) -> None:
    await sessionmanager.close()
    small = {"database_read_pool_size": 5, "database_pool_timeout": 5}
    sessionmanager.init_db(get_settings().model_copy(update=small))
    all_have_read = asyncio.Barrier(WAITING)

    @app.get("/")
    async def read_then_wait(session: ReadSessionDep) -> int | None:
        await session.execute(select(User))
        async with asyncio.timeout(60):
            await all_have_read.wait()
        return await session.scalar(select(1))

    answers = await asyncio.gather(*[client.get("/") for _ in range(WAITING)])
    assert [answer.status_code for answer in answers] == [200] * WAITING


async def of_its_own() -> AsyncGenerator[AsyncSession]:
    """What many write first: FastAPI ends this block after the response."""
    async with sessionmanager.session() as session:
        yield session


def holding(app: ASGIApp) -> ASGIApp:
    """Hold a unit of work around every request, in the task of the request."""

    async def hold(scope: Scope, receive: Receive, send: Send) -> None:
        async with sessionmanager.session():
            await app(scope, receive, send)

    return hold


async def test_a_success_whose_commit_would_come_after_it_is_an_error(
    app: FastAPI, client: AsyncClient, watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    @app.post("/too-late", status_code=201)
    async def too_late(session: Annotated[AsyncSession, Depends(of_its_own)]) -> None:
        add_user(session)

    assert (await client.post("/too-late")).status_code == 500
    assert "UnitOfWorkOpenError: A session() block is open around this request." in caplog.text
    assert await stored() == 0


async def test_a_unit_of_work_of_a_middleware_is_no_place_for_a_success(
    app: FastAPI, client: AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    @app.post("/join", status_code=201)
    async def join() -> None:
        async with sessionmanager.session() as session:
            add_user(session)

    app.add_middleware(holding)
    add_middleware(app, get_settings())  # the outermost again
    assert (await client.post("/join")).status_code == 500
    assert "UnitOfWorkOpenError" in caplog.text
