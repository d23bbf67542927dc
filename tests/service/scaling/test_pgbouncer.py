"""Through PgBouncer in transaction mode: the right schema, the right answers, nothing left behind."""

import asyncio
import os
import secrets
import shutil
import subprocess
from collections import Counter
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory

import pytest
from httpx2 import AsyncClient
from sqlalchemy import URL, NullPool, text
from sqlalchemy.ext.asyncio import create_async_engine

from app.config import PROJECT_SLUG, get_settings
from app.db.connect_args import connect_args
from dev.postgres import free_port
from service.servers import served
from service.tools import answers, on_server, run, text_of, wait_for

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="needs the program pgbouncer")

PGBOUNCER_ARGS = connect_args(get_settings().model_copy(update={"database_pgbouncer": True}))
SERVICES = ("first", 'Second "x"')  # their schemas
SERVER_CONNECTIONS = 2  # that PgBouncer opens for each of them, so that others often wait
REQUESTS = 2_000


@dataclass
class Service:
    """What a service that goes through PgBouncer is told."""

    schema: str
    url: URL
    direct_url: URL

    @property
    def environment(self) -> dict[str, str]:
        return {
            "DATABASE_URL": text_of(self.url),
            "DATABASE_DIRECT_URL": text_of(self.direct_url),
            "DATABASE_PGBOUNCER": "true",
            "DATABASE_SCHEMA": self.schema,
            "DATABASE_STATEMENT_TIMEOUT": "7",
        }


@contextmanager
def pgbouncer(server: URL, users: dict[str, str]) -> Generator[URL]:
    """Run PgBouncer before the server for these users and their passwords; yield its URL."""
    port = free_port()
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # as root, PgBouncer runs as somebody else
        lines = [f'"{user}" "{password}"' for user, password in users.items()]
        (folder / "users").write_text("\n".join(lines) + "\n")
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={server.host} port={server.port}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = scram-sha-256\nauth_file = {folder / 'users'}\n"
            f"pool_mode = transaction\ndefault_pool_size = {SERVER_CONNECTIONS}\n"
        )
        as_nobody = ["-u", "nobody"] if os.geteuid() == 0 else []
        assert PGBOUNCER
        process = subprocess.Popen(
            [PGBOUNCER, "-q", *as_nobody, folder / "pgbouncer.ini"], stderr=subprocess.DEVNULL
        )
        try:
            wait_for(lambda: process.poll() is not None or answers(port))
            yield server.set(host="127.0.0.1", port=port)
        finally:
            process.terminate()
            process.wait(timeout=30)


@pytest.fixture(scope="module")
def services(own_database: URL) -> Generator[list[Service]]:
    """Two services, each with a role and a schema of its own, on one database behind one PgBouncer."""
    users = {f"service_{secrets.token_hex(4)}": secrets.token_hex(8) for _ in SERVICES}
    try:
        with pgbouncer(own_database, users) as bouncer:
            pairs = zip(SERVICES, users.items(), strict=True)
            services = [
                Service(
                    schema,
                    bouncer.set(username=user, password=password),
                    own_database.set(username=user, password=password),
                )
                for schema, (user, password) in pairs
            ]
            for service in services:
                make_roles(own_database, **service.environment)
                migrated = alembic(**service.environment)
                assert migrated.returncode == 0, migrated.stderr
            yield services
    finally:
        for user in users:
            asyncio.run(on_server(own_database, f"DROP OWNED BY {user} CASCADE"))
            asyncio.run(on_server(own_database, f"DROP ROLE {user}"))


def make_roles(administrator: URL, **environment: str) -> None:
    """Make the role of a service, which migrates too."""
    done = run("-m", "migrations.roles", "--run", DATABASE_ADMIN_URL=text_of(administrator), **environment)
    assert done.returncode == 0, done.stderr


async def test_two_services_with_two_workers_each_get_nothing_but_their_own(services: list[Service]) -> None:
    statuses: Counter[tuple[str, int]] = Counter()

    async def use(client: AsyncClient, service: int, number: int) -> None:
        """Create, read, list, ask for the schema; who reads knows what the row must say."""
        schema, name = SERVICES[service], f"{service}.{number}"
        created = await client.post("/users", json={"email": f"{name}@example.com", "full_name": name})
        statuses["POST", created.status_code] += 1
        user = created.json()
        read = await client.get(f"/users/{user['id']}")
        statuses["GET", read.status_code] += 1
        assert read.json() == user
        page = (await client.get("/users", params={"limit": 5})).raise_for_status().json()["items"]
        assert all(item["full_name"].startswith(f"{service}.") for item in page)
        assert (await client.get("/test/echo", params={"name": name})).raise_for_status().json() == [
            name,
            schema,
        ]

    with (
        served("--workers", "2", **services[0].environment) as first,
        served("--workers", "2", **services[1].environment) as second,
    ):
        async with (
            AsyncClient(base_url=first.url, timeout=60) as one,
            AsyncClient(base_url=second.url, timeout=60) as two,
            asyncio.TaskGroup() as tasks,
        ):
            for number in range(REQUESTS // 8):
                tasks.create_task(use(one, 0, number))
                tasks.create_task(use(two, 1, number))
        log = first.log + second.log
        assert first.tracebacks == second.tracebacks == []
    assert "DATABASE_PGBOUNCER is set, but" not in log
    assert statuses == {("POST", 201): REQUESTS // 4, ("GET", 200): REQUESTS // 4}
    assert "prepared statement" not in log

    for service in services:
        assert await prepared_statements(service) == [0] * SERVER_CONNECTIONS


async def prepared_statements(service: Service) -> list[int]:
    """Count what is prepared on each server connection of PgBouncer's: one transaction holds one."""
    async with AsyncExitStack() as stack:
        engine = create_async_engine(service.url, connect_args=PGBOUNCER_ARGS, poolclass=NullPool)
        connections = [await stack.enter_async_context(engine.connect()) for _ in range(SERVER_CONNECTIONS)]
        backends = [await connection.scalar(text("SELECT pg_backend_pid()")) for connection in connections]
        assert len(set(backends)) == SERVER_CONNECTIONS
        count = text("SELECT count(*) FROM pg_prepared_statements WHERE name != ''")
        return [await connection.scalar(count) for connection in connections]


async def test_a_column_that_was_changed_is_read_as_what_it_is(services: list[Service]) -> None:
    service = services[0]
    owner = service.direct_url
    await on_server(owner, "CREATE TABLE changing AS SELECT 1 AS value")
    engine = create_async_engine(service.url, connect_args=PGBOUNCER_ARGS)
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT value FROM changing")) == 1
    await on_server(owner, "ALTER TABLE changing ALTER value TYPE text USING 'changed'")
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT value FROM changing")) == "changed"
    await engine.dispose()


async def test_raw_sql_has_the_schema_and_the_timeouts_of_the_settings(services: list[Service]) -> None:
    for service in services:
        engine = create_async_engine(service.url, connect_args=PGBOUNCER_ARGS, poolclass=NullPool)
        async with engine.connect() as connection:
            assert await connection.scalar(text("SELECT current_schema()")) == service.schema
            assert await connection.scalar(text("SHOW statement_timeout")) == "7s"


async def test_reads_and_writes_have_one_name_which_pgbouncer_passes_on(services: list[Service]) -> None:
    of_service = f"usename = '{services[0].url.username}' AND pid != pg_backend_pid()"
    names = f"SELECT string_agg(DISTINCT application_name, ',') FROM pg_stat_activity WHERE {of_service}"
    with served(**services[0].environment) as server:
        async with AsyncClient(base_url=server.url) as client:
            for _ in range(3):
                assert (await client.get("/users")).status_code == 200
                assert (await client.post("/test/unit")).status_code == 200
        assert await on_server(services[0].direct_url, names) == PROJECT_SLUG


async def test_a_role_without_the_settings_is_warned_of(services: list[Service]) -> None:
    environment = services[0].environment | {"DATABASE_STATEMENT_TIMEOUT": "8"}
    warning = "have the schema 'first' and the statement timeout 7000ms instead of 'first' and 8000ms"
    with served(**environment) as server:
        await asyncio.to_thread(wait_for, lambda: warning in server.log)


def test_a_script_goes_past_it(services: list[Service]) -> None:
    nowhere = {"DATABASE_URL": "postgresql://nobody@never-used.invalid/nothing"}
    done = run("-m", "app.users.clear", "1000000", **services[0].environment | nowhere)
    assert done.stdout == "0 users deleted, 1 ids unknown.\n", done.stderr


def alembic(**environment: str) -> CompletedProcess[str]:
    return run("-m", "alembic", "upgrade", "head", **environment)


def test_migrations_ask_for_the_way_past_it(services: list[Service]) -> None:
    done = alembic(**services[0].environment | {"DATABASE_DIRECT_URL": "none"})
    assert done.returncode != 0
    assert "Set DATABASE_DIRECT_URL" in done.stdout
    assert "Traceback" not in done.stderr


async def test_the_role_that_reads_is_given_the_settings_too(
    services: list[Service], own_database: URL
) -> None:
    reader = own_database.set(username=f"reader_{secrets.token_hex(4)}", password=secrets.token_hex(8))
    environment = services[0].environment | {"DATABASE_REPLICA_URL": text_of(reader)}
    try:
        await asyncio.to_thread(make_roles, own_database, **environment)
        with pgbouncer(own_database, {str(reader.username): str(reader.password)}) as bouncer:
            read = bouncer.set(username=reader.username, password=reader.password)
            engine = create_async_engine(read, connect_args=PGBOUNCER_ARGS, poolclass=NullPool)
            async with engine.connect() as connection:
                assert await connection.scalar(text("SHOW statement_timeout")) == "7s"
                assert await connection.scalar(text("SHOW default_transaction_read_only")) == "on"
                assert await connection.scalar(text("SELECT count(*) >= 0 FROM users"))
    finally:
        await on_server(own_database, f"DROP OWNED BY {reader.username}")
        await on_server(own_database, f"DROP ROLE {reader.username}")
