"""A real streaming replica: reads go there; its loss costs what was in flight; when it is back it is used."""

import asyncio
import subprocess
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from httpx2 import AsyncClient
from sqlalchemy import URL, text

from app.config import Settings, get_settings
from app.db import DatabaseSessionManager, replica
from app.db.connect_args import of_url
from app.db.errors import ReadOnlySessionError
from app.setting_types import parse_database_url
from dev import psql
from dev.postgres import running_postgres
from dev.programs import programs
from service.databases import follow, new_home, start, stop
from service.servers import served
from service.tools import eventually, on_server, run, text_of, wait_for

CLIENTS = 8
NOT_TOLD = "s3cret"


@dataclass
class Pair:
    """A primary, and the replica that follows it, of which `home` is the folder."""

    primary: URL
    replica: URL
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"DATABASE_URL": text_of(self.primary), "DATABASE_REPLICA_URL": text_of(self.replica)}


@pytest.fixture(scope="module")
def pair() -> Generator[Pair]:
    with new_home() as home:
        first, second = home / "primary", home / "replica"
        with running_postgres(first, "fsync=off") as url:
            done = run("-m", "alembic", "upgrade", "head", DATABASE_URL=url)
            assert done.returncode == 0, done.stderr
            follow(second, first, url)
            with running_postgres(second, "fsync=off") as replica_url:
                yield Pair(parse_database_url(url), parse_database_url(replica_url), second)


async def caught_up(pair: Pair) -> None:
    """Wait until the replica has what the primary has."""
    position = await on_server(pair.primary, "SELECT pg_current_wal_lsn()::text")
    there = f"SELECT pg_last_wal_replay_lsn() >= '{position}'"
    assert await eventually(lambda: on_server(pair.replica, there))


@contextmanager
def stopped(pair: Pair) -> Generator[None]:
    """Stop the replica for as long as the block lasts."""
    stop(pair.home, "immediate")
    try:
        yield
    finally:
        start(pair.home, pair.replica.port)


@asynccontextmanager
async def client_of(pair: Pair, **environment: str) -> AsyncGenerator[AsyncClient]:
    with served(**pair.environment, **environment) as server:
        async with AsyncClient(base_url=server.url, timeout=60) as client:
            yield client
        assert server.tracebacks == []


async def reads_replica(client: AsyncClient) -> bool:
    answer: bool = (await client.get("/test/reads-replica")).raise_for_status().json()
    return answer


async def test_reads_go_to_the_replica_and_writes_to_the_primary(pair: Pair) -> None:
    async with client_of(pair) as client:
        assert await reads_replica(client)
        user = (await client.post("/users", json={"email": "written@example.com"})).raise_for_status().json()
        await caught_up(pair)
        assert (await client.get(f"/users/{user['id']}")).raise_for_status().json() == user
        assert (await client.get("/health/ready")).status_code == 200


async def test_who_must_see_what_was_just_written_takes_the_other_session(pair: Pair) -> None:
    await on_server(pair.replica, "SELECT pg_wal_replay_pause()")
    try:
        async with client_of(pair) as client:
            user = (await client.post("/users", json={"email": "just@example.com"})).raise_for_status().json()
            assert (await client.get(f"/users/{user['id']}")).status_code == 404
            assert (await client.get(f"/test/users/{user['id']}")).raise_for_status().json() == user["email"]
    finally:
        await on_server(pair.replica, "SELECT pg_wal_replay_resume()")


async def test_a_replica_that_is_lost_costs_what_was_in_flight_and_is_used_again_when_it_is_back(
    pair: Pair,
) -> None:
    statuses: Counter[int] = Counter()
    running = True

    async def read(client: AsyncClient) -> None:
        while running:
            statuses[(await client.get("/users")).status_code] += 1

    async with client_of(pair, DATABASE_POOL_SIZE=str(CLIENTS)) as client:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CLIENTS):
                tasks.create_task(read(client))
            await asyncio.to_thread(wait_for, lambda: statuses[200] >= 10 * CLIENTS)

            def lose() -> None:
                with stopped(pair):
                    before = statuses[200]
                    wait_for(lambda: statuses[200] >= before + 10 * CLIENTS)

            await asyncio.to_thread(lose)
            running = False
        assert set(statuses) <= {200, 503}
        assert statuses[503] <= CLIENTS
        assert await eventually(lambda: reads_replica(client))


async def test_a_replica_that_is_not_there_costs_no_request_and_a_log_line_a_while(pair: Pair) -> None:
    nowhere = {"DATABASE_REPLICA_URL": f"postgresql://u:{NOT_TOLD}@127.0.0.1:1/x?sslmode=disable"}
    with served(**pair.environment | nowhere) as server:
        async with AsyncClient(base_url=server.url, timeout=60) as client:
            answers = await asyncio.gather(*[client.get("/users") for _ in range(20)])
            assert [answer.status_code for answer in answers] == [200] * 20
            assert [(await client.get("/users")).status_code for _ in range(20)] == [200] * 20
        assert "The replica is away, the primary is read: CannotConnectNowError 57P03" in server.log
        # One for each connection that was being made when it was found out, at most.
        assert server.log.count("The replica is away") <= 10
        assert NOT_TOLD not in server.log


async def test_a_burst_of_connections_goes_to_a_replica_that_is_there(pair: Pair) -> None:
    async with client_of(pair) as client:
        assert await asyncio.gather(*[reads_replica(client) for _ in range(30)]) == [True] * 30


async def test_while_it_is_tried_again_and_again_no_request_fails(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica, "RETRY_AFTER", 0.2)
    monkeypatch.setattr(replica, "PATIENCE", 0.1)
    manager = DatabaseSessionManager()
    nowhere = pair.replica.set(port=1)
    urls = {"database_url": pair.primary, "database_replica_url": nowhere}
    manager.init_db(get_settings().model_copy(update=urls))

    async def read() -> None:
        for _ in range(20):
            async with manager.read_session() as session:
                assert await session.scalar(text("SELECT 1")) == 1
            await asyncio.sleep(0.1)

    await asyncio.gather(*[read() for _ in range(4)])
    await manager.close()


async def test_a_read_session_cannot_write_while_it_reads_from_the_primary(pair: Pair) -> None:
    manager = DatabaseSessionManager()
    urls = {"database_url": pair.primary, "database_replica_url": pair.replica.set(port=1)}
    manager.init_db(get_settings().model_copy(update=urls))
    try:
        async with manager.read_session() as session:
            assert not await session.scalar(text("SELECT pg_is_in_recovery()"))
            with pytest.raises(ReadOnlySessionError):
                await session.execute(text("CREATE TABLE sneaky (x int)"))
    finally:
        await manager.close()


def test_nothing_of_the_url_of_the_replica_reaches_the_primary() -> None:
    copy = parse_database_url(f"postgresql://reader:{NOT_TOLD}@copy/x?sslrootcert=system")
    primary = parse_database_url("postgresql://owner@main/db")
    of_replica = of_url(copy, get_settings(), primary=False)
    of_primary = of_url(primary, get_settings())
    assert NOT_TOLD in str(of_replica)
    assert of_replica["tls"]()
    stand_in = of_replica | of_primary  # what Fallback connects with
    assert NOT_TOLD not in str(stand_in)
    assert not stand_in["tls"]()


async def test_without_a_fallback_reads_are_answered_503_and_writes_go_on(pair: Pair) -> None:
    settings = {"DATABASE_REPLICA_FALLBACK": "false", "DATABASE_CONNECT_TIMEOUT": "0.3"}
    async with client_of(pair, **settings) as client:
        with stopped(pair):
            for _ in range(3):  # the first may be lost with its connection
                answer = await client.get("/users")
                assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
            assert (await client.post("/users", json={"email": "on@example.com"})).status_code == 201
            assert (await client.get("/health/ready")).status_code == 200
        assert (await client.get("/users")).status_code == 200


async def test_both_lost_is_503(pair: Pair) -> None:
    nowhere = {
        "DATABASE_URL": pair.environment["DATABASE_REPLICA_URL"],
        "DATABASE_CONNECT_TIMEOUT": "0.3",
    }
    with stopped(pair), served(**pair.environment | nowhere) as server:
        async with AsyncClient(base_url=server.url) as client:
            assert (await client.get("/users")).status_code == 503


async def test_the_connections_to_the_replica_are_closed_with_the_others(pair: Pair) -> None:
    manager = DatabaseSessionManager()
    urls = {"database_url": pair.primary, "database_replica_url": pair.replica}
    manager.init_db(get_settings().model_copy(update=urls))
    async with manager.read_session() as session:
        assert await session.scalar(text("SELECT pg_is_in_recovery()"))
    async with manager.session() as session:
        assert not await session.scalar(text("SELECT pg_is_in_recovery()"))
    await manager.close()
    others = (
        "SELECT count(*) = 0 FROM pg_stat_activity WHERE query LIKE '%recovery%' AND pid != pg_backend_pid()"
    )
    for url in (pair.primary, pair.replica):
        assert await eventually(partial(on_server, url, others), seconds=3)


async def test_a_standby_as_the_only_server_is_a_warning_at_the_start(pair: Pair) -> None:
    with served(DATABASE_URL=text_of(pair.replica)) as server:
        await asyncio.to_thread(wait_for, lambda: "DATABASE_URL leads to a standby" in server.log)
        assert ", standby, no TLS." in server.log
        async with AsyncClient(base_url=server.url) as client:
            assert (await client.get("/users")).status_code == 200
            assert (await client.post("/users", json={"email": "u@example.com"})).status_code == 503
    with served(DATABASE_URL=text_of(pair.primary)) as server:
        await asyncio.to_thread(wait_for, lambda: ", primary, no TLS." in server.log)
        async with AsyncClient(base_url=server.url) as client:
            assert (await client.get("/users")).status_code == 200
        assert "leads to a standby" not in server.log


def test_psql_opens_the_primary_of_several_hosts_as_the_service_does(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = f"{pair.replica.host}:{pair.replica.port},{pair.primary.host}:{pair.primary.port}"
    url = text_of(pair.primary).replace(f"{pair.primary.host}:{pair.primary.port}", both)
    standby = []
    for parameter in ("", "&target_session_attrs=any"):
        monkeypatch.setattr(psql, "get_settings", partial(Settings, database_url=f"{url}{parameter}"))
        command = [str(programs() / "psql"), "-Atc", "SELECT pg_is_in_recovery()"]
        done = subprocess.run(command, env=psql.variables(), capture_output=True, text=True, check=True)
        standby.append(done.stdout)
    assert standby == ["f\n", "t\n"]
