"""What the tests run on: a PostgreSQL server of their own, or the one that TEST_DATABASE_URL names.

Each worker creates a database there, migrates it and drops it. The database in DATABASE_URL is never used:
the settings are overwritten here, before anything reads them.
"""

import asyncio
import logging
import os
import secrets
import signal
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` lets programs ignore Ctrl-C
for name in [name for name in os.environ if name.startswith("OTEL_")]:
    del os.environ[name]  # tests are not reported
os.environ.update(  # whatever was answered, and whatever is in .env
    DATABASE_URL="postgresql://nobody@never-used.invalid/nothing",
    DATABASE_CONNECT_TIMEOUT="2",
    DATABASE_STATEMENT_TIMEOUT="10",
    DATABASE_LOCK_TIMEOUT="5",
    DATABASE_IDLE_TRANSACTION_TIMEOUT="30",
    DATABASE_POOL_SIZE="10",
    DATABASE_MAX_OVERFLOW="0",
    DATABASE_POOL_TIMEOUT="5",
    DATABASE_POOL_RECYCLE="1800",
    DATABASE_POOL_PRE_PING="false",
    DATABASE_PGBOUNCER="false",
    DATABASE_DIRECT_URL="none",
    DATABASE_OWNER_URL="none",
    DATABASE_READ_POOL_SIZE="10",
    CORS_ORIGINS="",
    DATABASE_REPLICA_URL="none",
    DATABASE_REPLICA_FALLBACK="true",
    MAX_BODY_SIZE="65536",
    DOCS="true",
    LOG_LEVEL="INFO",
    WEB_CONCURRENCY="1",
)

import pytest
from alembic import command
from alembic.config import Config
from httpx2 import ASGITransport, AsyncClient
from sqlalchemy import URL

from app.config import get_settings
from app.db import DatabaseSessionManager, sessionmanager
from app.db.connect_args import quoted
from app.setting_types import parse_database_url
from dev.postgres import PostgresUnavailableError, running_postgres
from service.libraries.tools import Own, owner
from service.routes import app, open_now
from service.tools import PROJECT, on_server, text_of

logging.getLogger("httpx2").setLevel("WARNING")  # a line for each request
NOT_DURABLE = ("fsync=off", "full_page_writes=off", "synchronous_commit=off")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start the server, once: the workers of xdist inherit the variable."""
    if os.environ.get("TEST_DATABASE_URL"):
        return
    stack = ExitStack()
    session.config.add_cleanup(stack.close)
    home = stack.enter_context(TemporaryDirectory(prefix="postgres-"))
    try:
        os.environ["TEST_DATABASE_URL"] = stack.enter_context(running_postgres(Path(home), *NOT_DURABLE))
    except PostgresUnavailableError as error:
        pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)
    stack.callback(os.environ.pop, "TEST_DATABASE_URL")


@pytest.fixture(scope="session", autouse=True)
def own_database() -> Generator[URL]:
    """Create, migrate and finally drop the database of this worker; DATABASE_URL names it meanwhile."""
    server = parse_database_url(os.environ["TEST_DATABASE_URL"])
    url = server.set(database=f"test_{secrets.token_hex(6)}")
    asyncio.run(on_server(server, f"CREATE DATABASE {url.database}"))
    try:
        os.environ["DATABASE_URL"] = text_of(url)
        get_settings.cache_clear()
        command.upgrade(Config(toml_file=PROJECT / "pyproject.toml"), "head")
        yield url
    finally:
        asyncio.run(on_server(server, f"DROP DATABASE {url.database} WITH (FORCE)"))


@pytest.fixture
async def database(own_database: URL) -> AsyncGenerator[DatabaseSessionManager]:
    """Initialise the session manager; afterwards empty the tables, which tests really commit to."""
    sessionmanager.init_db(get_settings())
    try:
        yield sessionmanager
    finally:
        await sessionmanager.close()
        tables = ", ".join(
            f'{quoted(get_settings().database_schema)}."{table}"' for table in ("users", "notes")
        )
        await on_server(own_database, f"TRUNCATE {tables} RESTART IDENTITY")


@pytest.fixture
async def own_tables(database: DatabaseSessionManager) -> AsyncGenerator[None]:
    """Create the tables of `Own`, as the owner of the schema. Afterwards, nothing may be open."""
    async with owner() as connection:
        await connection.run_sync(Own.metadata.create_all)
    try:
        yield
        assert open_now() == {"sessions": 0, "connections": 0}
    finally:
        async with owner() as connection:
            await connection.run_sync(Own.metadata.drop_all)


@pytest.fixture
async def client(database: DatabaseSessionManager) -> AsyncGenerator[AsyncClient]:
    """A client of the application in this process; its requests go through the real get_db."""
    async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
        yield client


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run the tests, and each test's fixtures, on asyncio."""
    return "asyncio"
