"""What a response promises: a success is stored, an error is not, and nothing is sent twice."""

import asyncio
from collections.abc import AsyncGenerator, Generator

import pytest
from httpx2 import ASGITransport, AsyncClient, Client, ReadTimeout
from sqlalchemy import text

from app.config import get_settings
from app.db import DatabaseSessionManager, sessionmanager
from app.db.errors import DatabaseNotInitializedError
from service.routes import app, open_now
from service.servers import served
from service.tools import eventually, on_server, proxied

NOTHING = {"sessions": 0, "connections": 0}
ADA = {"email": "ada@example.com"}


async def stored(client: AsyncClient) -> int:
    return len((await client.get("/users")).raise_for_status().json()["items"])


@pytest.fixture
async def refusing(database: DatabaseSessionManager) -> AsyncGenerator[DatabaseSessionManager]:
    """A database whose users are refused when the transaction commits, long after the INSERT succeeded."""
    async with database.session() as session:
        await session.execute(
            text("""
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = NEW.full_name; END $$
            """)
        )
        await session.execute(
            text("""
            CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON users DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION refuse()
            """)
        )
    yield database
    async with database.session() as session:
        await session.execute(text("DROP FUNCTION refuse CASCADE"))


@pytest.mark.parametrize(
    ("sqlstate", "status"),
    [("23505", 409), ("23514", 409), ("40001", 503), ("40P01", 503)],
)
@pytest.mark.parametrize("path", ["/users", "/test/as-the-article-has-it"])
@pytest.mark.usefixtures("refusing")
async def test_a_commit_that_fails_is_not_a_success(
    server: str, path: str, sqlstate: str, status: int
) -> None:
    async with AsyncClient(base_url=server) as client:
        response = await client.post(path, json=ADA | {"full_name": sqlstate})
        assert response.status_code == status
        assert "refuse" not in response.text
        assert await stored(client) == 0


async def test_a_caught_error_does_not_turn_into_a_success(client: AsyncClient, server: str) -> None:
    async with AsyncClient(base_url=server) as remote:
        response = await remote.post("/test/catch-and-go-on", json="SELECT 1 / 0")
    assert response.status_code == 500
    assert await stored(client) == 0


async def test_a_request_does_not_join_a_unit_of_work_that_commits_later(
    client: AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    async with sessionmanager.session():  # as a middleware would hold it
        assert (await client.post("/users", json=ADA)).status_code == 500
    assert "UnitOfWorkOpenError" in caplog.text
    assert await stored(client) == 0


async def test_an_error_after_a_flush_leaves_nothing(client: AsyncClient) -> None:
    assert (await client.post("/test/raise-after-flush")).status_code == 418
    assert await stored(client) == 0
    assert open_now() == NOTHING


async def test_a_read_is_one_round_trip_and_a_write_three(client: AsyncClient) -> None:
    async def trips_of(method: str, path: str, json: dict[str, str] | None = None) -> int:
        before = proxy.round_trips
        await client.request(method, path, json=json)
        return proxy.round_trips - before

    async with proxied(get_settings().database_url) as proxy:
        await sessionmanager.close()
        sessionmanager.init_db(get_settings().model_copy(update={"database_url": proxy.url}))
        for _ in range(2):  # the first time also connects and prepares the statements
            create = await trips_of("POST", "/users", ADA)
            read = await trips_of("GET", "/users/1")
            page = await trips_of("GET", "/users")
            ready = await trips_of("GET", "/health/ready")
            delete = await trips_of("DELETE", "/users/1")
        assert (create, delete) == (3, 3)
        assert (read, page, ready) == (1, 1, 1)
        await sessionmanager.close()
    sessionmanager.init_db(get_settings())


async def test_a_thousand_requests_leave_nothing_open(client: AsyncClient) -> None:
    async def requests(number: int) -> None:
        for n in range(20):
            await client.post("/users", json={"email": f"user{number}.{n}@example.com"})
            await client.post("/users", json={"email": f"user{number}.{n}@example.com"})
            await client.get(f"/users/{number + 1}")
            await client.get("/users/999999")
            await client.post("/test/raise-after-flush")

    await asyncio.gather(*[requests(number) for number in range(10)])
    assert open_now() == NOTHING
    async with sessionmanager.session() as session:
        assert await session.scalar(text("SELECT count(*) FROM users")) == 200


@pytest.fixture(scope="module")
def server() -> Generator[str]:
    """A server process of the tests' application."""
    with served() as server:
        yield server.url


async def test_a_client_that_leaves_takes_its_session_along(server: str) -> None:
    async with AsyncClient(base_url=server) as client:
        await client.get("/health/ready")
        with pytest.raises(ReadTimeout):
            await client.get("/test/sleep", params={"seconds": 2}, timeout=0.3)
        assert (await client.get("/test/open")).raise_for_status().json() != NOTHING

        async def closed() -> bool:
            return bool((await client.get("/test/open")).raise_for_status().json() == NOTHING)

        assert await eventually(closed)


async def test_a_route_sees_the_configured_schema(client: AsyncClient) -> None:
    schema = get_settings().database_schema
    assert (await client.get("/test/schema")).raise_for_status().json() == schema
    async with sessionmanager.session() as session:
        await session.rollback()  # a search path set by a statement would be gone now
        assert await session.scalar(text("SELECT current_schema()")) == schema


async def test_the_lifespan_closes_the_database() -> None:
    async with app.router.lifespan_context(app):
        assert sessionmanager.engine
    with pytest.raises(DatabaseNotInitializedError):
        _ = sessionmanager.engine


def test_a_server_that_ends_leaves_no_connection() -> None:
    url = get_settings().database_url
    others = (
        f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{url.database}' AND pid != pg_backend_pid()"
    )
    before = asyncio.run(on_server(url, others))
    with served() as server, Client(base_url=server.url) as client:
        assert client.get("/health/ready").status_code == 200
        assert before < asyncio.run(on_server(url, others)) <= before + 2  # a read, the check at the start
    assert asyncio.run(on_server(url, others)) == before


async def test_without_a_database_the_service_lives_but_is_not_ready() -> None:
    settings = get_settings()
    sessionmanager.init_db(settings.model_copy(update={"database_url": settings.database_url.set(port=1)}))
    try:
        async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
            assert (await client.get("/health/live")).status_code == 200
            assert (await client.get("/health/ready")).status_code == 503
            response = await client.get("/users/1")
            assert response.status_code == 503
            assert response.headers["retry-after"] == "1"
    finally:
        await sessionmanager.close()


@pytest.mark.parametrize(
    ("holding", "late", "other"),
    [
        ("/test/sleep", ("POST", "/test/unit"), ("GET", "/users/1")),
        ("/test/read-and-sleep", ("GET", "/users/1"), ("POST", "/test/unit")),
    ],
    ids=["writes", "reads"],
)
async def test_an_exhausted_pool_answers_503_in_time_and_the_other_pool_serves(
    client: AsyncClient, holding: str, late: tuple[str, str], other: tuple[str, str]
) -> None:
    await sessionmanager.close()
    sizes = {"database_pool_size": 1, "database_max_overflow": 0, "database_read_pool_size": 1}
    sessionmanager.init_db(get_settings().model_copy(update=sizes | {"database_pool_timeout": 0.1}))
    slow, refused, served = await asyncio.gather(
        client.get(holding, params={"seconds": 0.5}), client.request(*late), client.request(*other)
    )
    assert slow.status_code == 200
    assert refused.status_code == 503
    assert served.status_code in (200, 404)
    assert (await client.request(*late)).status_code in (200, 404)
