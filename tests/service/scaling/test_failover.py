"""A URL of two hosts, a primary and a synchronous standby: the service goes on when they change places."""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from httpx2 import AsyncClient
from sqlalchemy import URL, text
from sqlalchemy.exc import DBAPIError

from app.config import get_settings
from app.db import DatabaseSessionManager, replica
from app.db.connect_args import quoted
from app.setting_types import parse_database_url
from dev.postgres import running_postgres
from service.databases import follow, freeze, new_home, promote, start, stop, thaw
from service.servers import Server, served
from service.tools import eventually, on_server, run, wait_for

CLIENTS = 4  # that write, and as many that read
AT_ONCE = 25  # more than either pool has connections
# The service takes a server for frozen a second after its limit for a statement.
LIMITS = {"DATABASE_CONNECT_TIMEOUT": "2", "DATABASE_STATEMENT_TIMEOUT": "2"}
PORT = text("SELECT inet_server_port()")


@dataclass
class Pair:
    """A primary and the standby that follows it."""

    primary: URL
    standby: URL
    primary_home: Path
    standby_home: Path

    def of_both(self, *, standby_first: bool = False, parameters: str = "") -> str:
        """Return a URL with both hosts."""
        urls = [self.primary, self.standby]
        hosts = ",".join(f"{url.host}:{url.port}" for url in urls[:: -1 if standby_first else 1])
        login = f"{self.primary.username}:{self.primary.password}"
        return f"postgresql://{login}@{hosts}/{self.primary.database}?sslmode=disable{parameters}"

    async def stored(self) -> set[str]:
        """Return the addresses that the new primary has, which was the standby."""
        schema = quoted(get_settings().database_schema)
        emails = await on_server(self.standby, f"SELECT array_agg(email) FROM {schema}.users")
        return set(emails or ())


@pytest.fixture(scope="module")
def origin() -> Generator[tuple[Path, str]]:
    """A migrated server, of which each test gets copies: its folder and its URL."""
    with new_home() as home, running_postgres(home / "origin", "fsync=off") as url:
        done = run("-m", "alembic", "upgrade", "head", DATABASE_URL=url)
        assert done.returncode == 0, done.stderr
        yield home / "origin", url


@pytest.fixture
def pair(origin: tuple[Path, str]) -> Generator[Pair]:
    with new_home() as home, ExitStack() as stack:
        first, second = home / "first", home / "second"
        follow(first, *origin)
        (first / "data" / "standby.signal").unlink()  # it follows nobody
        primary = stack.enter_context(running_postgres(first, "fsync=off"))
        follow(second, first, primary)
        standby = stack.enter_context(running_postgres(second, "fsync=off"))
        yield Pair(parse_database_url(primary), parse_database_url(standby), first, second)


async def make_synchronous(pair: Pair) -> None:
    """Have the primary acknowledge no commit that the standby has not."""
    await set_on_primary(pair, "synchronous_standby_names = '*'")
    state = "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
    assert await eventually(lambda: on_server(pair.primary, state))


async def set_on_primary(pair: Pair, setting: str) -> None:
    await on_server(pair.primary, f"ALTER SYSTEM SET {setting}")
    await on_server(pair.primary, "SELECT pg_reload_conf()")


@dataclass
class Load:
    """Clients of the service, and what they were answered."""

    server: Server
    client: AsyncClient
    running: bool = True
    written: Counter[int] = field(default_factory=Counter)
    read: Counter[int] = field(default_factory=Counter)
    ledger: dict[str, tuple[float, float]] = field(default_factory=dict)  # acknowledged: asked, answered

    async def write(self) -> None:
        while self.running:
            email, asked = f"{uuid.uuid4()}@example.com", time.monotonic()
            answer = await self.client.post("/users", json={"email": email})
            self.written[answer.status_code] += 1
            if answer.status_code == 201:
                self.ledger[email] = asked, time.monotonic()
            await asyncio.sleep(0.01)

    async def read_on(self) -> None:
        while self.running:
            self.read[(await self.client.get("/users")).status_code] += 1
            await asyncio.sleep(0.01)

    async def goes_on(self) -> None:
        """Wait until both reads and writes succeed again and again."""
        writes, reads = self.written[201] + 5 * CLIENTS, self.read[200] + 5 * CLIENTS

        async def both() -> bool:
            return self.written[201] >= writes and self.read[200] >= reads

        assert await eventually(both, seconds=60), (self.written, self.read, self.server.log[-3000:])


@asynccontextmanager
async def load(url: str) -> AsyncGenerator[Load]:
    """Write and read for as long as the block lasts; then nothing may be open, and nothing a surprise."""
    with served(DATABASE_URL=url, **LIMITS) as server:
        async with AsyncClient(base_url=server.url, timeout=60) as client:
            load = Load(server, client)
            async with asyncio.TaskGroup() as tasks:
                for _ in range(CLIENTS):
                    tasks.create_task(load.write())
                    tasks.create_task(load.read_on())
                try:
                    await load.goes_on()
                    yield load
                finally:
                    load.running = False
            assert set(load.written) <= {201, 503}
            assert set(load.read) <= {200, 503}
            assert (await client.get("/test/open")).raise_for_status().json() == {
                "sessions": 0,
                "connections": 0,
            }
        assert server.tracebacks == []


async def write_at_once(load: Load) -> list[Any]:
    """Write more than the pool has connections, and return the users that were written."""
    emails = [f"{uuid.uuid4()}@example.com" for _ in range(AT_ONCE)]
    answers = await asyncio.gather(*[load.client.post("/users", json={"email": email}) for email in emails])
    return [answer.json() for answer in answers if answer.status_code == 201]


async def all_succeed_at_once(load: Load) -> bool:
    """Tell whether no connection of either pool is still one to the old primary."""
    users = await write_at_once(load)
    answers = await asyncio.gather(*[load.client.get(f"/users/{user['id']}") for user in users])
    return len(users) == AT_ONCE and {answer.status_code for answer in answers} == {200}


@contextmanager
def killed(pair: Pair, load: Load) -> Generator[None]:
    """Kill the primary. The promotion comes when requests have failed already."""
    stop(pair.primary_home, "immediate")
    wait_for(lambda: load.written[503] >= CLIENTS and load.read[503] >= CLIENTS)
    yield


@contextmanager
def switched_over(pair: Pair, _load: Load) -> Generator[None]:
    """Stop the primary, which first sends everything to the standby."""
    stop(pair.primary_home, "fast")
    yield


@contextmanager
def frozen(pair: Pair, _load: Load) -> Generator[None]:
    """Freeze the primary: its connections stay open, and nothing answers."""
    processes = freeze(pair.primary_home)
    try:
        yield
    finally:
        thaw(processes)
        stop(pair.primary_home, "immediate")


async def promote_under_load(pair: Pair, load: Load) -> None:
    """Promote the standby; writes and reads go on, and what was acknowledged is there."""
    promoted = time.monotonic()
    await asyncio.to_thread(promote, pair.standby_home)
    await load.goes_on()
    first = min(answered for asked, answered in load.ledger.values() if asked > promoted)
    failed = f"{load.written[503]} writes, {load.read[503]} reads"
    print(f"First write after {first - promoted:.2f} s. 503: {failed}.")


@pytest.mark.parametrize("lose", [killed, switched_over, frozen])
async def test_a_promoted_standby_takes_over_and_nothing_acknowledged_is_lost(
    pair: Pair, lose: Callable[[Pair, Load], AbstractContextManager[None]]
) -> None:
    await make_synchronous(pair)
    with ExitStack() as stack:
        async with load(pair.of_both()) as clients:
            await asyncio.to_thread(stack.enter_context, lose(pair, clients))
            await promote_under_load(pair, clients)
            assert await eventually(lambda: all_succeed_at_once(clients))
        assert set(clients.ledger) <= await pair.stored()


async def test_writes_leave_a_primary_that_was_made_read_only(pair: Pair) -> None:
    """Its connections stay open, and reads go on there."""
    await make_synchronous(pair)
    async with load(pair.of_both()) as clients:
        await set_on_primary(pair, "default_transaction_read_only = on")
        await asyncio.to_thread(wait_for, lambda: clients.written[503])
        await promote_under_load(pair, clients)

        async def all_write() -> bool:
            return len(await write_at_once(clients)) == AT_ONCE

        assert await eventually(all_write)
    assert clients.read[503] == 0
    assert set(clients.ledger) <= await pair.stored()


@asynccontextmanager
async def manager_of(url: str, replica_url: str | None = None) -> AsyncGenerator[DatabaseSessionManager]:
    manager = DatabaseSessionManager()
    urls = {
        "database_url": parse_database_url(url),
        "database_replica_url": parse_database_url(replica_url) if replica_url else None,
    }
    manager.init_db(get_settings().model_copy(update=urls))
    try:
        yield manager
    finally:
        await manager.close()


async def reads_on(manager: DatabaseSessionManager) -> int | None:
    """Return the port of the server that is read."""
    async with manager.read_session() as session:
        port: int | None = await session.scalar(PORT)
        return port


async def test_a_standby_that_is_named_first_is_skipped(pair: Pair) -> None:
    for parameters in ("", "&target_session_attrs=read-write", "&target_session_attrs=primary"):
        async with manager_of(pair.of_both(standby_first=True, parameters=parameters)) as manager:
            async with manager.session() as session:
                assert await session.scalar(PORT) == pair.primary.port
            assert await reads_on(manager) == pair.primary.port


def test_scripts_and_migrations_reach_the_primary(pair: Pair) -> None:
    url = pair.of_both(standby_first=True)
    for command in (("app.users.clear", "1"), ("alembic", "downgrade", "base")):
        done = run("-m", *command, DATABASE_URL=url)
        assert done.returncode == 0, done.stderr


async def test_a_replica_of_several_hosts_falls_back_to_the_primary_of_several_and_is_used_again(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica, "RETRY_AFTER", 0.2)
    # Whichever of the hosts is the standby: `read-only` may be said of its connections too.
    for wanted in ("standby", "prefer-standby", "read-only"):
        of_replica = pair.of_both(parameters=f"&target_session_attrs={wanted}")
        async with manager_of(pair.of_both(standby_first=True), of_replica) as manager:
            assert await reads_on(manager) == pair.standby.port
            stop(pair.standby_home, "immediate")

            async def reads(port: int | None, manager: DatabaseSessionManager = manager) -> bool:
                with suppress(DBAPIError):  # what was on the connections that were lost
                    return await reads_on(manager) == port
                return False

            assert await eventually(lambda: reads(pair.primary.port))
            start(pair.standby_home, pair.standby.port)
            assert await eventually(lambda: reads(pair.standby.port))
