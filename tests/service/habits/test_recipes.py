"""The recipes of docs/sessions.md do what the page says, on a real PostgreSQL."""

import asyncio
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import asyncpg
import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.sse import EventSourceResponse
from httpx2 import ASGITransport, AsyncClient, TransportError
from sqlalchemy import URL, BigInteger, Connection, Identity, NullPool, event, func, insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine
from sqlalchemy.orm import Mapped, mapped_column
from starlette.middleware.base import RequestResponseEndpoint
from websockets.asyncio.client import connect

from app.config import Settings, get_settings
from app.db import (
    DatabaseSessionManager,
    ReadSessionDep,
    SessionDep,
    SessionError,
    driver_connection,
    quoted,
    sessionmanager,
)
from app.db.connect_args import DRIVER, connect_args
from app.db.errors import DatabaseNotInitializedError
from app.main import lifespan
from app.users.models import User
from migrations import roles
from service.libraries.tools import Own, client_of, new_app, owner, stored
from service.migrating import COPIED
from service.recipes import EXAMPLES, PAGE, run_examples
from service.routes import open_now
from service.servers import Server, serving
from service.tenants import (
    LANDLORD,
    TENANTS,
    WHOSE,
    Parcel,
    TenantSession,
    interleaved,
    make_parcels,
    send,
)
from service.tools import PROJECT, eventually, on_server, proxied, text_of, wait_for

HERE = [
    "model", "after-the-commit", "outbox", "outbox-worker", "try-again", "who-asks", "hot-read", "copy",
    "listen", "events", "middleware", "documents", "row-level-security", "tenants",
]  # fmt: skip
ELSEWHERE = ["taskiq", "celery", "factory"]  # in libraries/
IN_FILES = ["policy", "migrate-tenants", "tenants-in-tests"]
events: list[tuple[str, list[str]]] = []  # what the functions of the owner did, and what was stored then
broken: set[str] = set()  # the functions that fail


async def note(what: str) -> None:
    if what in broken:
        raise ConnectionError("it is away")
    emails = select(recipes.Account.email).order_by(recipes.Account.id)
    events.append((what, await stored(emails)))


async def publish(what: str, email: str) -> None:
    await note(f"publish {what} {email}")


async def send_mail(email: str, message: str) -> None:
    await note(f"mail {email} {message}")


heard: list[str | None] = []
fails_once: list[str | None] = []  # messages which the listener's function cannot take the first time


async def refresh(message: str | None) -> None:
    heard.append(message)
    if message in fails_once:
        fails_once.remove(message)
        raise ValueError(message)


names = run_examples(*HERE, publish=publish, send_mail=send_mail, refresh=refresh)
recipes = SimpleNamespace(**names)


@pytest.fixture(autouse=True)
def tables(own_tables: None) -> None:
    """Each test has the tables of the page."""
    for record in (events, broken, heard, fails_once):
        record.clear()


def application(*routers: APIRouter) -> FastAPI:
    """The routes of the page, and some that do what the page warns of."""
    app = new_app()
    for router in (recipes.router, recipes.audited, *routers):
        app.include_router(router)
    return app


@pytest.fixture
async def client() -> AsyncGenerator[AsyncClient]:
    async with client_of(application()) as client:
        yield client


async def emails() -> list[str]:
    return await stored(select(recipes.Account.email).order_by(recipes.Account.id))


async def balances() -> list[int]:
    return await stored(select(recipes.Account.balance).order_by(recipes.Account.id))


async def accounts(database: DatabaseSessionManager, *amounts: int) -> None:
    """Open accounts with these balances. Their tokens are "token 0", "token 1" and so on."""
    async with database.session() as session:
        for number, amount in enumerate(amounts):
            token = sha256(f"token {number}".encode()).hexdigest()
            session.add(recipes.Account(email=f"{number}@example.com", balance=amount, token=token))


ADA = {"email": "ada@example.com"}


@asynccontextmanager
async def refused_at_commit(state: str) -> AsyncGenerator[None]:
    """Make PostgreSQL refuse every commit of an account with this SQLSTATE."""
    table = f"{quoted(get_settings().database_schema)}.accounts"
    async with owner() as connection:
        body = f"$$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}'; END $$"
        await connection.execute(text(f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS {body}"))
        when = f"AFTER INSERT OR UPDATE ON {table} DEFERRABLE INITIALLY DEFERRED"
        await connection.execute(
            text(f"CREATE CONSTRAINT TRIGGER refuse {when} FOR EACH ROW EXECUTE FUNCTION refuse()")
        )
    try:
        yield
    finally:
        async with owner() as connection:
            await connection.execute(text("DROP FUNCTION refuse CASCADE"))


async def test_every_example_is_tested() -> None:
    assert set(EXAMPLES) == {*HERE, *IN_FILES, *ELSEWHERE}


# After the commit


async def test_on_commit_and_background_tasks_come_after_the_commit(client: AsyncClient) -> None:
    assert (await client.post("/accounts", json=ADA)).status_code == 201
    assert events == [
        ("publish opened ada@example.com", ["ada@example.com"]),
        ("mail ada@example.com Welcome.", ["ada@example.com"]),
    ]


async def test_on_commit_comes_before_the_response_and_a_background_task_after_it() -> None:
    app = application()

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        async def send_and_note(message: Any) -> None:
            if message["type"] == "http.response.start":
                events.append(("response", []))
            await send(message)

        await app(scope, receive, send_and_note if scope["type"] == "http" else send)

    async with AsyncClient(transport=ASGITransport(noting), base_url="http://test") as client:
        await client.post("/accounts", json=ADA)
    assert [what.split()[0] for what, _ in events] == ["publish", "response", "mail"]


async def test_a_commit_that_fails_calls_neither(client: AsyncClient) -> None:
    async with refused_at_commit("23505"):
        assert (await client.post("/accounts", json=ADA)).status_code == 409
    assert (events, await emails()) == ([], [])


async def test_a_function_that_fails_on_commit_is_logged_and_the_row_is_stored(
    client: AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    broken.add("publish opened ada@example.com")
    assert (await client.post("/accounts", json=ADA)).status_code == 201
    assert await emails() == ["ada@example.com"]
    assert "on_commit: publish failed. What was committed stays." in caplog.text
    assert [what.split()[0] for what, _ in events] == ["mail"]


async def test_the_messages_of_an_outbox_are_those_of_committed_requests(client: AsyncClient) -> None:
    async with refused_at_commit("23505"):
        assert (await client.post("/accounts/with-outbox", json=ADA)).status_code == 409
    assert not await recipes.send_next()
    assert (await client.post("/accounts/with-outbox", json=ADA)).status_code == 201
    assert events == []
    assert [await recipes.send_next(), await recipes.send_next()] == [True, False]
    assert events == [("mail ada@example.com Welcome.", ["ada@example.com"])]


async def test_a_message_that_was_not_sent_stays_in_the_outbox(client: AsyncClient) -> None:
    await client.post("/accounts/with-outbox", json=ADA)
    broken.add("mail ada@example.com Welcome.")
    with pytest.raises(ConnectionError):
        await recipes.send_next()
    broken.clear()
    assert [await recipes.send_next(), await recipes.send_next()] == [True, False]


async def test_workers_of_an_outbox_send_each_message_once(client: AsyncClient) -> None:
    for number in range(20):
        await client.post("/accounts/with-outbox", json={"email": f"{number}@example.com"})

    async def work() -> int:
        sent = 0
        while await recipes.send_next():
            sent += 1
        return sent

    assert sum(await asyncio.gather(*(work() for _ in range(4)))) == 20
    assert len({what for what, _ in events}) == len(events) == 20


async def test_the_worker_of_an_outbox_sends_what_comes_until_a_mail_fails(
    client: AsyncClient, database: DatabaseSessionManager
) -> None:
    await database.close()
    worker = asyncio.create_task(recipes.main())
    await asyncio.sleep(0)  # the worker initialises the database
    try:
        for number in range(3):
            await client.post("/accounts/with-outbox", json={"email": f"{number}@example.com"})
        assert await eventually(partial(are_sent, 3))
        broken.add("mail ada@example.com Welcome.")
        await client.post("/accounts/with-outbox", json=ADA)
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(worker, 30)
        with pytest.raises(DatabaseNotInitializedError):  # the worker has closed it
            _ = database.engine
    finally:
        worker.cancel()
        database.init_db(get_settings())  # the fixture closes it
    broken.clear()
    assert await recipes.send_next()
    assert events[-1][0] == "mail ada@example.com Welcome."


async def are_sent(mails: int) -> bool:
    return len(events) == mails


# Try again


async def test_transfers_of_many_clients_lose_nothing(
    client: AsyncClient, database: DatabaseSessionManager
) -> None:
    await accounts(database, 1_000, 1_000)
    moved = Counter[tuple[int, int]]()

    async def move(source: int, target: int) -> None:
        for _ in range(25):
            body = {"source": source, "target": target, "amount": 1}
            answer = await client.post("/transfers", json=body)
            assert answer.status_code in (204, 503)
            assert answer.status_code == 204 or "Retry-After" in answer.headers
            moved[source, target] += answer.status_code == 204

    await asyncio.gather(*(move(*way) for way in [(1, 2), (1, 2), (2, 1), (1, 2)]))
    net = moved[1, 2] - moved[2, 1]
    assert moved.total() > 80
    assert await balances() == [1_000 - net, 1_000 + net]


async def test_the_last_error_is_answered_503_and_nothing_is_moved(
    client: AsyncClient, database: DatabaseSessionManager
) -> None:
    await accounts(database, 10, 10)
    body = {"source": 1, "target": 2, "amount": 1}
    begun: list[object] = []
    async with refused_at_commit("40001"):
        event.listen(database.engine.sync_engine, "begin", begun.append)
        answer = await client.post("/transfers", json=body)
    assert (answer.status_code, len(begun)) == (503, 10)
    assert "Retry-After" in answer.headers
    assert await balances() == [10, 10]


@pytest.mark.parametrize(("change", "status"), [({"target": 9}, 404), ({"amount": 11}, 409)])
async def test_what_the_work_refuses_is_not_tried_again(
    client: AsyncClient, database: DatabaseSessionManager, change: dict[str, int], status: int
) -> None:
    await accounts(database, 10, 10)
    body = {"source": 1, "target": 2, "amount": 1} | change
    assert (await client.post("/transfers", json=body)).status_code == status
    assert await balances() == [10, 10]


async def test_a_transfer_to_the_same_account_changes_nothing(
    client: AsyncClient, database: DatabaseSessionManager
) -> None:
    await accounts(database, 10)
    body = {"source": 1, "target": 1, "amount": 1}
    assert (await client.post("/transfers", json=body)).status_code == 204
    assert await balances() == [10]


async def test_run_works_beside_a_read_session_and_not_inside_a_session_that_writes(
    database: DatabaseSessionManager,
) -> None:
    await accounts(database, 10, 10)
    router = APIRouter()

    @router.post("/transfers-of-a-reader")
    async def of_a_reader(data: dict[str, int], session: ReadSessionDep) -> None:
        await session.get_one(recipes.Account, data["source"])
        await recipes.transfer(recipes.Transfer(**data))

    @router.post("/transfers-of-a-writer")
    async def of_a_writer(data: dict[str, int], session: SessionDep) -> None:
        await recipes.transfer(recipes.Transfer(**data))

    body = {"source": 1, "target": 2, "amount": 1}
    async with client_of(application(router)) as client:
        assert (await client.post("/transfers-of-a-reader", json=body)).status_code == 200
        assert (await client.post("/transfers-of-a-writer", json=body)).status_code == 500
    assert await balances() == [9, 11]


# Authentication


Me = Annotated[Any, Depends(recipes.current_account)]
BEARER = {"Authorization": "Bearer token 0"}


async def test_the_bearer_of_a_token_reads_and_changes_the_own_account(
    client: AsyncClient, database: DatabaseSessionManager
) -> None:
    await accounts(database, 0, 0)
    assert (await client.get("/me", headers=BEARER)).raise_for_status().json() == "0@example.com"
    assert (await client.put("/me", json=ADA, headers=BEARER)).status_code == 204
    assert await emails() == ["ada@example.com", "1@example.com"]


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer token 9"}])
async def test_nobody_else_does(
    client: AsyncClient, database: DatabaseSessionManager, headers: dict[str, str]
) -> None:
    await accounts(database, 0)
    assert (await client.get("/me", headers=headers)).status_code == 401
    assert (await client.put("/me", json=ADA, headers=headers)).status_code == 401
    assert await emails() == ["0@example.com"]


async def test_what_the_page_warns_of_and_what_the_log_says(
    database: DatabaseSessionManager, caplog: pytest.LogCaptureFixture
) -> None:
    await accounts(database, 0)
    router = APIRouter()

    @router.put("/reader-first")
    async def reader_first(me: Me, session: SessionDep) -> None:
        me.email = "lost@example.com"

    @router.put("/refer")
    async def refer(me: Me, session: SessionDep) -> None:
        session.add(me)  # as a relationship to it would

    @router.put("/writer-first")
    async def writer_first(session: SessionDep, me: Me) -> None:
        me.email = "ada@example.com"

    async with client_of(application(router)) as client:
        assert (await client.put("/reader-first", headers=BEARER)).status_code == 500
        assert "ChangedObjectError: An object of a read session was added, changed or deleted." in caplog.text
        assert "await session.get(User, user.id)" in caplog.text
        assert await emails() == ["0@example.com"]
        assert (await client.put("/refer", headers=BEARER)).status_code == 500
        assert "Load the object with the session that writes" in caplog.text
        assert (await client.put("/writer-first", headers=BEARER)).status_code == 200
        assert await emails() == ["ada@example.com"]


# A hot read


async def test_a_hot_read_is_one_round_trip_and_holds_nothing(
    database: DatabaseSessionManager, client: AsyncClient
) -> None:
    await accounts(database, 7)
    expected = {"id": 1, "email": "0@example.com", "balance": 7}
    async with proxied(get_settings().database_url) as proxy:
        await database.close()
        database.init_db(get_settings().model_copy(update={"database_url": proxy.url}))
        for _ in range(2):
            before = proxy.round_trips
            assert (await client.get("/accounts/1")).raise_for_status().json() == expected
        assert proxy.round_trips - before == 1
        assert (await client.get("/accounts/2")).status_code == 404
        assert open_now() == {"sessions": 0, "connections": 0}
        await database.close()
    database.init_db(get_settings())  # the fixture closes it


async def test_a_hot_read_cannot_write(database: DatabaseSessionManager) -> None:
    with pytest.raises(SessionError, match="cannot write"):
        async with database.read_engine.connect() as connection:
            await connection.execute(insert(recipes.Account).values(email="x"))


# COPY


ROWS = [(f"{number}@example.com", number) for number in range(1_000)]


async def test_copy_first_thing_in_a_route_is_in_its_transaction() -> None:
    router = APIRouter()

    @router.post("/copy/{status}")
    async def copy(status: int, session: SessionDep) -> None:
        await recipes.copy_accounts(session, ROWS)
        if status == 500:
            await recipes.copy_accounts(session, [("negative@example.com", -1)])
        if status != 200:
            raise HTTPException(status)

    async with client_of(application(router)) as client:
        for status in (418, 500):
            assert (await client.post(f"/copy/{status}")).status_code == status
            assert await emails() == []
        assert (await client.post("/copy/200")).status_code == 200
    assert await balances() == list(range(1_000))


async def test_without_a_statement_before_copy_the_rows_stay(database: DatabaseSessionManager) -> None:
    with pytest.raises(RuntimeError):
        async with database.session() as session:
            raw = await (await session.connection()).get_raw_connection()
            schema = recipes.Account.metadata.schema
            columns = ["email", "balance"]
            assert raw.driver_connection
            await raw.driver_connection.copy_records_to_table(
                "accounts", schema_name=schema, columns=columns, records=ROWS[:1]
            )
            raise RuntimeError
    assert len(await emails()) == 1


async def test_an_error_of_copy_undoes_the_unit_of_work(database: DatabaseSessionManager) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        async with database.session() as session:
            session.add(recipes.Account(email="ada@example.com"))
            await session.flush()
            await recipes.copy_accounts(session, [*ROWS, ("negative@example.com", -1)])
    assert await emails() == []


class Tag(Own):
    __tablename__ = "tags"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str]
    color: Mapped[str] = mapped_column(default="red")


async def test_copy_does_not_apply_a_default_of_a_model(database: DatabaseSessionManager) -> None:
    with pytest.raises(asyncpg.NotNullViolationError, match="color"):
        async with database.session() as session:
            driver = await driver_connection(session)
            await driver.copy_records_to_table(
                "tags", schema_name=Tag.metadata.schema, columns=["name"], records=[("x",)]
            )


# LISTEN


async def is_heard(*messages: str | None) -> bool:
    return heard == list(messages)


async def test_a_listener_hears_what_is_committed_and_connects_again(
    client: AsyncClient, own_database: URL, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(60), recipes.listening():
        assert await eventually(partial(is_heard, None))
        with pytest.raises(RuntimeError):
            async with sessionmanager.session() as session:
                await recipes.tell_news(1, session)
                raise RuntimeError
        assert (await client.post("/accounts/2/news")).status_code == 204
        assert await eventually(partial(is_heard, None, "2"))
        lost = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
        await on_server(own_database, lost)
        assert await eventually(partial(is_heard, None, "2", None))
        assert caplog.messages.count("LISTEN accounts: the connection was lost.") == 1
        assert (await client.post("/accounts/3/news")).status_code == 204
        assert await eventually(partial(is_heard, None, "2", None, "3"))
        assert open_now() == {"sessions": 0, "connections": 0}
    listeners = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
    assert await on_server(own_database, listeners) == 0


async def test_a_listener_goes_on_after_a_message_that_its_function_cannot_take(
    client: AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    fails_once.extend([None, "1"])
    async with asyncio.timeout(60), recipes.listening():
        assert await eventually(partial(is_heard, None, None))
        await client.post("/accounts/1/news")
        assert await eventually(partial(is_heard, None, None, "1", None))
        await client.post("/accounts/2/news")
        assert await eventually(partial(is_heard, None, None, "1", None, "2"))
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["None", "1"]


# Streams


def served_app() -> FastAPI:
    """The application for a process of its own."""
    router = APIRouter()

    @router.get("/wrong/{account_id}/events", response_class=EventSourceResponse)
    async def wrong_events(account_id: int, session: SessionDep) -> AsyncIterable[int]:
        for _ in range(3):
            yield await session.scalar(select(recipes.Account.balance)) or 0

    app = application(router)
    app.router.lifespan_context = lifespan
    return app


@pytest.fixture
def server() -> Generator[Server]:
    program = ("uvicorn", f"{__name__}:served_app")
    with serving("--factory", environment={}, program=program) as server:
        yield server


async def test_events_and_websockets_see_what_was_committed_meanwhile(
    database: DatabaseSessionManager, server: Server
) -> None:
    await accounts(database, 10)

    async def set_balance(account_id: int, balance: int) -> None:
        async with database.session() as session:
            (await session.get_one(recipes.Account, account_id)).balance = balance

    client = AsyncClient(base_url=server.url, timeout=30)
    async with asyncio.timeout(30), client, client.stream("GET", "/accounts/1/events") as response:
        lines = (line async for line in response.aiter_lines() if line.startswith("data:"))
        assert await anext(lines) == "data: 10"
        await set_balance(1, 20)
        assert await anext(lines) == "data: 20"
        async with database.session() as session:
            await session.delete(await session.get_one(recipes.Account, 1))
        assert [line async for line in lines] == []
    await accounts(database, 30)
    url = server.url.replace("http", "ws") + "/accounts/balances"
    async with asyncio.timeout(30), connect(url) as socket:
        for balance in (30, 40):
            await socket.send("2")
            assert await socket.recv() == str(balance)
            await set_balance(2, 40)
        await socket.send("1")
        assert await socket.recv() == "null"
    assert server.tracebacks == []


async def test_events_with_the_session_of_the_request_break_off_and_the_log_says_why(
    database: DatabaseSessionManager, server: Server
) -> None:
    await accounts(database, 10)
    async with AsyncClient(base_url=server.url, timeout=30) as client:
        with pytest.raises(TransportError):
            await client.get("/wrong/1/events")
    await asyncio.to_thread(wait_for, lambda: "permanently closed" in server.log)
    assert "In a stream or a background task, open a session()." in server.log


# Middleware


async def test_a_dependency_of_a_router_shares_the_session_of_the_route(
    client: AsyncClient, database: DatabaseSessionManager
) -> None:
    await accounts(database, 10)
    changes = select(recipes.Change.request)
    assert (await client.delete("/accounts/9")).status_code == 500  # get_one() found none
    assert await stored(changes) == []
    assert (await client.delete("/accounts/1")).status_code == 204
    assert await stored(changes) == ["DELETE /accounts/1"]
    assert await emails() == []


@pytest.mark.parametrize("status", [204, 418])
async def test_a_middleware_that_holds_a_session_has_another_one_than_the_route(
    database: DatabaseSessionManager, status: int
) -> None:
    held: list[int] = []
    router = APIRouter()

    @router.post("/held", status_code=204)
    async def route(session: SessionDep) -> None:
        session.add(recipes.Account(email="ada@example.com"))
        await session.flush()
        held.append(open_now()["connections"])
        if status != 204:
            raise HTTPException(status)

    app = application(router)

    @app.middleware("http")
    async def holding(request: Request, call_next: RequestResponseEndpoint) -> Response:
        async with database.session() as session:
            session.add(recipes.Change(request=request.url.path))
            await session.flush()
            return await call_next(request)

    async with client_of(app) as client:
        assert (await client.post("/held")).status_code == status
    assert held == [2]
    assert await stored(select(recipes.Change.request)) == ["/held"]  # also where the route failed
    assert len(await emails()) == (status == 204)


# Two roles, and rows that are somebody's


@dataclass
class TwoRoles:
    """A database with the two roles of production. The service is connected as the lesser one."""

    settings: Settings

    @property
    def environment(self) -> dict[str, str]:
        urls = {
            "DATABASE_URL": self.settings.database_url,
            "DATABASE_OWNER_URL": self.settings.database_owner_url,
        }
        return {name: text_of(url) for name, url in urls.items() if url}

    @asynccontextmanager
    async def owner(self) -> AsyncGenerator[AsyncConnection]:
        """Connect as a migration does."""
        settings = self.settings.for_migrations()
        engine = create_async_engine(DRIVER, connect_args=connect_args(settings), poolclass=NullPool)
        async with engine.begin() as connection:
            yield connection


@pytest.fixture
async def two_roles(database: DatabaseSessionManager, own_database: URL) -> AsyncGenerator[TwoRoles]:
    name = f"roles_{secrets.token_hex(6)}"
    urls = {
        role: own_database.set(database=name, username=f"{name}_{role}", password=name)
        for role in ("service", "owner")
    }
    changes = {"database_url": urls["service"], "database_owner_url": urls["owner"]}
    settings = get_settings().model_copy(update=changes)
    await on_server(own_database, f"CREATE DATABASE {name}")
    await database.close()
    try:
        await roles.run(settings, own_database.set(database=name))
        database.init_db(settings)
        yield TwoRoles(settings)
        await database.close()
    finally:
        database.init_db(get_settings())  # the fixture closes it
        await on_server(own_database, f"DROP DATABASE {name} WITH (FORCE)")
        for url in urls.values():
            await on_server(own_database, f"DROP ROLE IF EXISTS {url.username}")


@pytest.fixture
async def documents(two_roles: TwoRoles) -> TwoRoles:
    """Three documents of two accounts, behind the policy of the page."""
    policy: dict[str, Any] = {}
    exec("from alembic import op\n" + EXAMPLES["policy"], policy)

    def upgrade(connection: Connection) -> None:
        Own.metadata.create_all(connection)
        with Operations.context(MigrationContext.configure(connection)):
            policy["upgrade"]()

    async with two_roles.owner() as connection:
        await connection.run_sync(upgrade)
        for number in (1, 2):
            token = sha256(f"token {number}".encode()).hexdigest()
            row = {"email": f"{number}@example.com", "balance": 0, "token": token}
            await connection.execute(insert(recipes.Account), row)
        rows = [
            {"account_id": 1, "body": "of 1"},
            {"account_id": 2, "body": "of 2"},
            {"account_id": 1, "body": "too"},
        ]
        await connection.execute(insert(recipes.Document), rows)
    return two_roles


BODIES = select(func.array_agg(recipes.Document.body))


async def test_a_policy_shows_each_account_its_own_documents(
    documents: TwoRoles, client: AsyncClient
) -> None:
    for _ in range(3):
        for number, own in ((1, ["of 1", "too"]), (2, ["of 2"])):
            headers = {"Authorization": f"Bearer token {number}"}
            assert (await client.get("/documents", headers=headers)).raise_for_status().json() == own


async def test_without_an_account_there_is_an_error_and_no_row(documents: TwoRoles) -> None:
    for _ in range(2):  # the second time on the same connection
        with pytest.raises(DBAPIError):
            async with sessionmanager.session() as session:
                await session.scalar(BODIES)
        with pytest.raises(DBAPIError):
            async with sessionmanager.read_session() as session:
                await recipes.act_as(1, session)
                await session.scalar(BODIES)
        async with sessionmanager.session() as session:
            await recipes.act_as(1, session)
            assert len(await session.scalar(BODIES) or []) == 2
            await session.commit()
            async with suppressed(session):
                await session.scalar(BODIES)
            await recipes.act_as(2, session)
            assert await session.scalar(BODIES) == ["of 2"]


@asynccontextmanager
async def suppressed(session: AsyncSession) -> AsyncGenerator[None]:
    """Expect an error of the database, and undo it alone."""
    with pytest.raises(DBAPIError):
        async with session.begin_nested():
            yield


async def test_a_policy_refuses_to_write_for_another(documents: TwoRoles) -> None:
    with pytest.raises(DBAPIError, match="row-level security"):
        async with sessionmanager.session() as session:
            await recipes.act_as(1, session)
            session.add(recipes.Document(account_id=2, body="not mine"))


async def test_the_owner_sees_everything_unless_the_policy_is_forced(documents: TwoRoles) -> None:
    async with documents.owner() as connection:
        assert len(await connection.scalar(BODIES) or []) == 3
        await connection.execute(text("ALTER TABLE documents FORCE ROW LEVEL SECURITY"))
        with pytest.raises(DBAPIError):
            async with connection.begin_nested():
                await connection.scalar(BODIES)
        await connection.execute(select(func.set_config("app.account", "2", text("true"))))
        assert await connection.scalar(BODIES) == ["of 2"]


# A schema for each tenant


ACME, GLOBEX = TENANTS.values()
USERS = text("SELECT array_agg(email) FROM users")
OF_AN_OWNER = """
import pytest
from httpx2 import AsyncClient
from sqlalchemy import select

from app.main import app
from app.tenants import TenantSession
from app.users.models import User


@app.post("/tenant")
async def route(session: TenantSession) -> list[str]:
    session.add(User(email="ada@example.com"))
    await session.flush()
    return list(await session.scalars(select(User.email)))


@pytest.mark.parametrize("time", range(2))
async def test_a_route(acme: AsyncClient, time: int) -> None:
    assert (await acme.post("/tenant")).json() == ["ada@example.com"]
"""


@pytest.fixture
def with_tenants(tmp_path: Path) -> Path:
    """A copy of the project that has the files of the page."""
    for part in (*COPIED, "dev", "tests"):
        copy = shutil.copytree if (PROJECT / part).is_dir() else shutil.copy
        copy(PROJECT / part, tmp_path / part)
    (tmp_path / "app" / "tenants.py").write_text(EXAMPLES["tenants"], encoding="utf-8")
    (tmp_path / "migrations" / "tenants.py").write_text(EXAMPLES["migrate-tenants"], encoding="utf-8")
    return tmp_path


async def test_the_fixture_of_the_page_migrates_and_empties_the_schemas_of_tenants(
    with_tenants: Path,
) -> None:
    with (with_tenants / "tests" / "conftest.py").open("a", encoding="utf-8") as conftest:
        conftest.write(EXAMPLES["tenants-in-tests"])
    (with_tenants / "tests" / "test_tenants.py").write_text(OF_AN_OWNER, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_tenants.py"]
    done = subprocess.run(command, cwd=with_tenants, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, "2 passed" in done.stdout) == (0, True), done.stdout


@pytest.fixture
def migrated(two_roles: TwoRoles, with_tenants: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs the commands of the page in a copy of the project that has its files."""
    [commands] = re.findall(r"<!-- commands: tenants -->\n```shell\n(.*?)```\n", PAGE, re.DOTALL)
    commands = re.sub(r"uv run (python -m )?", f"{sys.executable} -m ", commands)

    def migrate(**environment: str) -> subprocess.CompletedProcess[str]:
        variables = os.environ | two_roles.environment | environment
        return subprocess.run(
            ["sh", "-e", "-c", commands], cwd=with_tenants, env=variables,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    return migrate


async def has_users(settings: TwoRoles, schema: str) -> bool:
    async with settings.owner() as connection:
        return bool(await connection.scalar(text("SELECT to_regclass(:name)"), {"name": f"{schema}.users"}))


async def test_the_owner_migrates_all_tenants_and_the_service_may_use_them(
    migrated: Callable[..., subprocess.CompletedProcess[str]], two_roles: TwoRoles
) -> None:
    async with two_roles.owner() as connection:
        await connection.execute(text(f"CREATE SCHEMA {ACME}"))
        await connection.execute(text(f"CREATE TABLE {ACME}.users (id int)"))
    done = migrated()
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, f"Not migrated: {ACME}")
    assert done.stdout.startswith(f"{ACME}: ")
    assert 'relation "users" already exists' in done.stdout
    assert await has_users(two_roles, GLOBEX)
    async with two_roles.owner() as connection:
        await connection.execute(text(f"DROP TABLE {ACME}.users"))
    done = migrated()  # the other one is up to date
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    for tenant in (ACME, GLOBEX):
        async with recipes.tenant_session(tenant) as session:
            session.add(User(email=f"ada@{tenant}.example"))
            await session.flush()
            assert list(await session.scalars(select(User.email))) == await session.scalar(USERS)
            assert await session.scalar(USERS) == [f"ada@{tenant}.example"]
    async with sessionmanager.session() as session:
        assert await session.scalar(USERS) is None


@pytest.fixture
async def parcels(two_roles: TwoRoles) -> None:
    async with two_roles.owner() as connection:
        await make_parcels(connection, TENANTS.values())


async def test_no_tenant_sees_rows_of_another_in_2_000_interleaved_requests(parcels: None) -> None:
    statuses = {(tenant, "200"): 1_000 for tenant in TENANTS.values()}
    rows = {(whose, whose): 1_001 for whose in TENANTS.values()} | {(LANDLORD, LANDLORD): 200}
    assert await interleaved(2_000) == statuses | rows


async def test_a_route_takes_the_session_of_a_tenant_by_its_host(parcels: None) -> None:
    router = APIRouter()

    @router.get("/reader-first")
    async def reader_first(reader: ReadSessionDep, session: TenantSession) -> list[str]:
        return list(await reader.scalars(WHOSE))

    @router.get("/reader-last")
    async def reader_last(session: TenantSession, reader: ReadSessionDep) -> list[str]:
        return await send(ACME, reader)

    @router.get("/writer-first")
    async def writer_first(writer: SessionDep, session: TenantSession) -> None:
        raise AssertionError

    @router.get("/writer-last")
    async def writer_last(session: TenantSession, writer: SessionDep) -> None:
        raise AssertionError

    async with client_of(application(router)) as client:
        answers = {
            path: await client.get(f"http://acme.localhost/{path}")
            for path in ("reader-first", "reader-last", "writer-first", "writer-last")
        }
        assert (await client.get("http://initech.localhost/reader-last")).status_code == 404
    assert answers["reader-first"].json() == [LANDLORD]
    assert answers["reader-last"].json() == [ACME] * 3
    assert [answers[path].status_code for path in ("writer-first", "writer-last")] == [500, 500]


async def test_a_block_inside_that_of_a_tenant_joins_it_or_is_an_error(parcels: None) -> None:
    seen: list[str] = []

    async def publish_parcel() -> None:
        seen.append("published")

    async with recipes.tenant_session(ACME) as outer:
        await send(ACME, outer)
        same = partial(recipes.tenant_session, ACME)
        for block in (sessionmanager.session, sessionmanager.read_session, same):
            async with block() as session:
                assert session is outer
        with pytest.raises(RuntimeError, match=f"Close the block before you open one of {GLOBEX}"):
            async with recipes.tenant_session(GLOBEX):
                pass
        with pytest.raises(SessionError, match="take no SessionDep"):
            await sessionmanager.run(partial(send, GLOBEX))
        sessionmanager.on_commit(publish_parcel)
        assert await send(ACME, outer, commit=True) == [ACME] * 3
        async with asyncio.TaskGroup() as tasks:
            other = tasks.create_task(landlords())
        assert (other.result(), seen) == ([LANDLORD], [])
    assert seen == ["published"]
    async with sessionmanager.session():
        with pytest.raises(RuntimeError, match=f"Close the block before you open one of {ACME}"):
            async with recipes.tenant_session(ACME):
                pass


async def landlords() -> list[str]:
    async with sessionmanager.session() as session:
        return list(await session.scalars(WHOSE))


async def test_sql_text_finds_nothing_of_the_configured_schema(
    parcels: None, two_roles: TwoRoles, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured = get_settings().database_schema
    async with two_roles.owner() as connection:
        await connection.execute(text(f"DROP TABLE {ACME}.parcels"))
    for extensions in (["public"], ["public", configured]):  # the second as with DATABASE_SCHEMA=public
        settings = get_settings().model_copy(update={"database_extension_schemas": extensions})
        monkeypatch.setitem(names, "get_settings", lambda settings=settings: settings)
        for query in (WHOSE, select(Parcel.owner)):
            with pytest.raises(DBAPIError, match="does not exist"):
                async with recipes.tenant_session(ACME) as session:
                    await session.execute(query)
    assert await landlords() == [LANDLORD]


async def test_a_block_for_a_tenant_that_raises_has_written_nothing(parcels: None) -> None:
    with pytest.raises(RuntimeError):
        async with recipes.tenant_session(ACME) as session:
            assert await send(ACME, session) == [ACME] * 3
            raise RuntimeError
    async with recipes.tenant_session(ACME) as session:
        assert list(await session.scalars(WHOSE)) == []


async def test_a_read_of_a_tenant_is_four_round_trips(
    parcels: None, two_roles: TwoRoles, monkeypatch: pytest.MonkeyPatch
) -> None:
    through = DatabaseSessionManager()
    monkeypatch.setitem(names, "sessionmanager", through)
    async with proxied(two_roles.settings.database_url) as proxy:
        through.init_db(two_roles.settings.model_copy(update={"database_url": proxy.url}))
        counts = []
        for _ in range(3):
            before = proxy.round_trips
            async with recipes.tenant_session(ACME) as session:
                assert await session.get(Parcel, 1) is None
            counts.append(proxy.round_trips - before)
        await through.close()
    assert counts[1:] == [4, 4]
