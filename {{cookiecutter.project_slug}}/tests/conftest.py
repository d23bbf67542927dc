"""What the tests run on: a PostgreSQL server of their own, or the server that TEST_DATABASE_URL names.

Each worker of pytest-xdist creates a database and two roles there, and drops them at the end. The roles are
those of production: the migrations run as the owner of the tables, the service as a role with fewer rights.
The tests never use the database in DATABASE_URL: the settings are overwritten here, before they are read.
"""

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

for name in [name for name in os.environ if name.startswith("OTEL_")]:
    del os.environ[name]  # tests are not reported
os.environ.update(  # what tests depend on, whatever was answered and whatever is in .env
    DATABASE_URL="postgresql://nobody@never-used.invalid/nothing",
    DATABASE_OWNER_URL="none",
    DATABASE_DIRECT_URL="none",
    DATABASE_REPLICA_URL="none",
    DATABASE_PGBOUNCER="false",
    DATABASE_POOL_SIZE="10",
    DATABASE_READ_POOL_SIZE="10",
    DATABASE_POOL_TIMEOUT="5",
    CORS_ORIGINS="https://pages.example",
    LOG_LEVEL="INFO",
)

import pytest
from alembic import command
from alembic.config import Config
from httpx2 import ASGITransport, AsyncClient
from sqlalchemy import URL, NullPool
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine

from app.config import get_settings
from app.db import Base, DatabaseSessionManager, sessionmanager
from app.db.connect_args import DRIVER, connect_args
from app.main import app
from app.setting_types import parse_database_url
from dev.postgres import PostgresUnavailableError, running_postgres
from migrations import roles

logging.getLogger("httpx2").setLevel("WARNING")  # a line for each request
ALEMBIC = Config(toml_file=Path(__file__).parents[1] / "pyproject.toml")
NOT_DURABLE = ("fsync=off", "full_page_writes=off", "synchronous_commit=off")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start the server once. The workers of pytest-xdist inherit the variable."""
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


@asynccontextmanager
async def connection_to(url: URL | None = None) -> AsyncGenerator[AsyncConnection]:
    """Connect as the owner of the tables, or to another URL. Each statement commits by itself."""
    settings = get_settings().for_migrations()
    changes = {"database_lock_timeout": 10, **({"database_url": url} if url else {})}
    engine = create_async_engine(
        DRIVER,
        connect_args=connect_args(settings.model_copy(update=changes)),
        isolation_level="AUTOCOMMIT",
        poolclass=NullPool,
    )
    async with engine.connect() as connection:
        yield connection


async def execute(url: URL, *statements: str) -> None:
    """Execute statements, each in a transaction of its own."""
    async with connection_to(url) as connection:
        for statement in statements:
            await connection.exec_driver_sql(statement)


@pytest.fixture(scope="session", autouse=True)
def own_database() -> Generator[URL]:
    """Create the database of this worker and its two roles; drop them at the end. Yields the owner's URL."""
    server = parse_database_url(os.environ["TEST_DATABASE_URL"])
    name, password = f"test_{secrets.token_hex(6)}", secrets.token_hex(16)
    administrator = server.set(database=name)
    service = administrator.set(username=name, password=password)
    owner = service.set(username=f"{name}_owner")
    try:
        asyncio.run(execute(server, f"CREATE DATABASE {name}"))
        os.environ["DATABASE_URL"] = service.render_as_string(hide_password=False)
        os.environ["DATABASE_OWNER_URL"] = owner.render_as_string(hide_password=False)
        get_settings.cache_clear()
        asyncio.run(roles.run(get_settings(), administrator))
        command.upgrade(ALEMBIC, "head")
        yield owner
    finally:
        asyncio.run(execute(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        asyncio.run(execute(server, f"DROP ROLE IF EXISTS {name}, {name}_owner"))


@pytest.fixture
async def database() -> AsyncGenerator[DatabaseSessionManager]:
    """Initialise the session manager. Afterwards, empty the tables: what a test commits is really stored."""
    sessionmanager.init_db(get_settings())
    try:
        yield sessionmanager
    finally:
        await sessionmanager.close()
        async with connection_to() as owner:
            quoted = owner.dialect.identifier_preparer.format_table
            if tables := [quoted(table) for table in Base.metadata.sorted_tables]:
                await owner.exec_driver_sql(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY CASCADE")


@pytest.fixture
async def session(database: DatabaseSessionManager) -> AsyncGenerator[AsyncSession]:
    """A session of the test's own, to store rows and to look at them.

    Commit what you add before the client asks for it: the requests have sessions of their own. To see what
    a request changed, `await session.refresh(row)`.
    """
    async with database.session_maker() as session:
        yield session


@pytest.fixture
async def client(database: DatabaseSessionManager) -> AsyncGenerator[AsyncClient]:
    """A client of the application in this process. Its requests go through the real get_db."""
    async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
        yield client


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run the tests, and the fixtures of each test, on asyncio."""
    return "asyncio"
