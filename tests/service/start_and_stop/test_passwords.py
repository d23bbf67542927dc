"""Passwords that change while the service runs: in a file, and as tokens."""

import asyncio
import re
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from httpx2 import ASGITransport, AsyncClient
from sqlalchemy import URL

from app.config import get_settings
from app.db import sessionmanager
from app.setting_types import parse_database_url
from dev.postgres import running_postgres
from service.databases import new_home
from service.routes import app
from service.servers import Server, served
from service.tools import PROJECT, eventually, on_server, run, text_of, wait_for

PAGE = (PROJECT / "docs/scaling.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"<!-- example: ([\w-]+) -->\n```python\n(.*?)```\n", PAGE, re.DOTALL))
REFUSED = "password authentication failed for user"
SMALL = {
    "DATABASE_POOL_SIZE": "2",
    "DATABASE_READ_POOL_SIZE": "2",
    "DATABASE_POOL_TIMEOUT": "30",
    "DATABASE_POOL_RECYCLE": "1",  # connections are opened all the time
}


@dataclass
class Role:
    """A role whose password changes, on a server of the tests' own."""

    home: Path
    admin: URL
    name: str
    old: list[str] = field(default_factory=list)
    password: str = ""

    @property
    def url(self) -> URL:
        """The URL without a password."""
        return self.admin._replace(username=self.name, password=None)

    @property
    def refused(self) -> int:
        """How often the server has refused this role's password."""
        return (self.home / "server.log").read_text().count(f'{REFUSED} "{self.name}"')

    async def change_password(self) -> None:
        self.old.append(self.password)
        self.password = secrets.token_urlsafe()
        await on_server(self.admin, f"ALTER ROLE {self.name} PASSWORD '{self.password}'")

    def write(self, file: Path, line: str = "{}") -> None:
        """Write the password into the file, which has the new content at once."""
        new = file.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(line.format(self.password))
        new.rename(file)

    async def opened_since(self, time: str) -> list[bool]:
        """Tell of each connection of the role whether it is newer."""
        of_role = f"FROM pg_stat_activity WHERE usename = '{self.name}'"
        return await on_server(self.admin, f"SELECT array_agg(backend_start > '{time}') {of_role}") or []

    async def close_connections(self) -> None:
        of_role = f"FROM pg_stat_activity WHERE usename = '{self.name}'"
        await on_server(self.admin, f"SELECT count(pg_terminate_backend(pid, 5000)) {of_role}")


@pytest.fixture(scope="module")
def server() -> Generator[tuple[Path, URL]]:
    with new_home() as home, running_postgres(home, "fsync=off") as url:
        migrated = run("-m", "alembic", "upgrade", "head", DATABASE_URL=url)
        assert migrated.returncode == 0, migrated.stderr
        yield home, parse_database_url(url)


@pytest.fixture
async def role(server: tuple[Path, URL]) -> Role:
    role = Role(*server, f"role_{secrets.token_hex(6)}")
    rights = "pg_read_all_data, pg_write_all_data"
    await on_server(role.admin, f"CREATE ROLE {role.name} LOGIN IN ROLE {rights}")
    await role.change_password()
    return role


@pytest.fixture
def passfile(role: Role, tmp_path: Path) -> Path:
    """The file that the URL names, in the format of libpq."""
    role.write(tmp_path / "pgpass", "*:*:*:*:{}\n")
    return tmp_path / "pgpass"


def environment_of(role: Role, passfile: Path, **others: str) -> dict[str, str]:
    url = role.url.update_query_dict({"passfile": str(passfile)})
    return {"DATABASE_URL": text_of(url), **SMALL, **others}


@asynccontextmanager
async def load(server: Server) -> AsyncGenerator[Counter[int]]:
    """Read and write all the time, with a few clients; count the answers."""
    statuses: Counter[int] = Counter()
    running = True

    async def use(client: AsyncClient, *, write: bool) -> None:
        while running:
            data = {"email": f"{secrets.token_hex(8)}@example.com"}
            answer = await (client.post("/users", json=data) if write else client.get("/users"))
            statuses[answer.status_code] += 1

    async with AsyncClient(base_url=server.url, timeout=30) as client, asyncio.TaskGroup() as tasks:
        for client_number in range(6):
            tasks.create_task(use(client, write=client_number % 2 == 0))
        try:
            yield statuses
        finally:
            running = False


async def seen(statuses: Counter[int], *wanted: int) -> bool:
    """Wait until there are some more answers with each of these statuses."""
    before = statuses.copy()

    async def more() -> bool:
        return all(statuses[status] >= before[status] + 10 for status in wanted)

    return await eventually(more)


async def test_a_password_that_changes_together_with_its_file_fails_no_request(
    role: Role, passfile: Path
) -> None:
    with served(**environment_of(role, passfile, DATABASE_CONNECT_TIMEOUT="20")) as server:
        async with load(server) as statuses:
            assert await seen(statuses, 200, 201)
            for late in (False, False, True):
                time, refused = await on_server(role.admin, "SELECT now()"), role.refused

                async def is_refused(before: int = refused) -> bool:
                    return role.refused >= before + 3

                async def are_new(time: str = time) -> bool:
                    connections = await role.opened_since(time)
                    return len(connections) >= 3 and all(connections)

                await role.change_password()
                assert not late or await eventually(is_refused)
                role.write(passfile, "*:*:*:*:{}\n")
                assert await eventually(are_new)
                assert await seen(statuses, 200, 201)
        log = server.log
    assert set(statuses) == {200, 201}, statuses
    assert not [password for password in [*role.old[1:], role.password] if password in log]


async def test_a_password_file_that_comes_too_late_is_503_and_heals(role: Role, passfile: Path) -> None:
    with served(**environment_of(role, passfile, DATABASE_CONNECT_TIMEOUT="0.3")) as server:
        async with load(server) as statuses, AsyncClient(base_url=server.url, timeout=30) as client:
            assert await seen(statuses, 200, 201)
            await role.change_password()
            await role.close_connections()
            assert await seen(statuses, 503)
            assert (await client.get("/health/ready")).status_code == 503
            role.write(passfile, "*:*:*:*:{}\n")

            async def is_ready() -> bool:
                return (await client.get("/health/ready")).status_code == 200

            assert await eventually(is_ready)
            assert await seen(statuses, 200, 201)
        log, tracebacks = server.log, server.tracebacks
    assert set(statuses) == {200, 201, 503}, statuses
    assert tracebacks == []
    assert f'InvalidPasswordError 28P01: {REFUSED} \\"{role.name}\\"' in log


async def test_a_wrong_password_is_503_and_named_in_one_line_without_the_password(role: Role) -> None:
    url = role.url.set(password="wr0ng-s3cret")
    with served(DATABASE_URL=text_of(url), DATABASE_CONNECT_TIMEOUT="20") as server:
        await asyncio.to_thread(wait_for, lambda: role.refused)  # by the check at the start
        async with AsyncClient(base_url=server.url, timeout=30) as client:
            for method, path in ("GET", "/users"), ("POST", "/test/unit"), ("GET", "/health/ready"):
                before, logged = role.refused, server.log.count("28P01")
                assert (await client.request(method, path)).status_code == 503
                assert role.refused == before + 1  # trying again does not mend a password in the URL
                assert server.log.count("28P01") == logged + 1
        assert server.tracebacks == []
        assert "s3cret" not in server.log
    migrated = run("-m", "alembic", "current", DATABASE_URL=text_of(url))
    [line] = (migrated.stdout + migrated.stderr).splitlines()
    assert line.startswith(f'FAILED: No connection to the database: {REFUSED} "{role.name}"')


@pytest.mark.parametrize("define", ["def", "async def"])
async def test_the_documented_function_gives_each_connection_the_token_of_now(
    role: Role, tmp_path: Path, define: str
) -> None:
    file = tmp_path / "token"
    role.write(file, "{}\n")
    example: dict[str, Any] = {}
    block = EXAMPLES["token"].replace("/run/secrets/token", str(file))
    exec(block.replace("def current_token", f"{define} current_token"), example)
    sessionmanager.init_db(get_settings().model_copy(update={"database_url": role.url}))
    example["use_tokens"]()
    try:
        async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:

            async def answers() -> list[int]:
                """Ask on new connections."""
                for engine in (sessionmanager.engine, sessionmanager.read_engine):
                    await engine.dispose()
                requests = ("GET", "/users"), ("POST", "/test/unit"), ("GET", "/health/ready")
                return [(await client.request(*request)).status_code for request in requests]

            for _ in range(2):
                assert await answers() == [200, 200, 200]
                await role.change_password()
                assert await answers() == [503, 503, 503]
                role.write(file)
    finally:
        await sessionmanager.close()


async def test_alembic_takes_a_token_from_the_environment(role: Role) -> None:
    for password, status in (role.password, 0), ("another", 255):
        done = run("-m", "alembic", "current", DATABASE_URL=text_of(role.url), PGPASSWORD=password)
        assert done.returncode == status, done.stdout + done.stderr
