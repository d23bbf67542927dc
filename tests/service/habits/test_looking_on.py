"""What the log and pg_stat_activity say of the sessions: slow statements, idle transactions, purposes."""

import asyncio
import re
from io import BytesIO
from typing import Any

import pytest
from httpx2 import AsyncClient
from sqlalchemy import URL, insert, text
from sqlalchemy.exc import DBAPIError

from app.config import PROJECT_SLUG, get_settings
from app.db import DatabaseSessionManager, driver_connection, own_connection, sessionmanager
from app.db.errors import DirectURLNeededError, TransactionNeededError
from app.users.models import Note
from service.tools import on_server, proxied

SECRET = "ada.lovelace@example.com"
NAMES = """
    SELECT array_agg(application_name ORDER BY application_name) FROM pg_stat_activity
    WHERE datname = current_database() AND pid != pg_backend_pid()
"""
NAME = text("SELECT current_setting('application_name')")


async def again(**changes: Any) -> None:
    """Let the session manager begin anew with these settings."""
    await sessionmanager.close()
    sessionmanager.init_db(get_settings().model_copy(update=changes))


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    """What was logged of statements and transactions, with N for the seconds."""

    def look() -> list[str]:
        found = [record.message for record in caplog.records if record.name == "app.db.telemetry"]
        return [re.sub(r"[0-9.]+ s", "N s", line) for line in found]

    return look


async def test_a_slow_statement_is_logged_with_its_route_and_text_and_without_values(
    client: AsyncClient, lines: Any
) -> None:
    await again(database_statement_warning=0.01)
    assert (await client.get("/test/sleep", params={"seconds": 0.1})).status_code == 200
    assert (await client.get("/test/read-and-sleep", params={"seconds": 0.2})).status_code == 200
    logged = lines()
    for path in ("/test/sleep", "/test/read-and-sleep"):
        assert f"GET {path}: a statement took N s: SELECT pg_sleep($1)" in logged


async def test_a_slow_statement_that_fails_and_a_long_one_are_logged(
    database: DatabaseSessionManager, lines: Any
) -> None:
    await again(database_statement_warning=0.01)
    spaces = " " * 10_000
    with pytest.raises(Exception, match="division by zero"):
        async with database.session() as session:
            await session.execute(
                text(f"SELECT pg_sleep(0.05),\n1 / (SELECT :zero {spaces} ::int)"), {"zero": 0}
            )
    [line] = [line for line in lines() if "pg_sleep" in line]
    assert line == "a statement took N s: SELECT pg_sleep(0.05), 1 / (SELECT $1"


async def test_begin_and_commit_are_statements_too(database: DatabaseSessionManager, lines: Any) -> None:
    await again(database_statement_warning=1e-9)
    async with database.session() as session:
        await session.execute(text("INSERT INTO users (email) VALUES (:email)"), {"email": SECRET})
    logged = lines()
    ends = [line.partition(" s: ")[2] for line in logged]
    assert ends[-3:] == ["BEGIN;", "INSERT INTO users (email) VALUES ($1)", "COMMIT;"]
    assert not any(SECRET in line for line in logged)


async def test_a_transaction_that_waits_is_logged_with_its_route(client: AsyncClient, lines: Any) -> None:
    await again(database_idle_transaction_warning=0.2)
    assert (await client.get("/test/idle", params={"seconds": 0.3})).status_code == 200
    assert lines() == [
        "GET /test/idle: a transaction held its connection for N s without a statement. Do what takes long "
        "before the first statement, or after the commit."
    ]


async def test_a_transaction_that_the_server_ended_is_logged_too(
    client: AsyncClient, own_database: URL, lines: Any
) -> None:
    await again(database_idle_transaction_warning=0.2, database_idle_transaction_timeout=0.4)
    ended = "GET /test/idle: a transaction held its connection for N s without a statement."
    assert (await client.get("/test/idle", params={"seconds": 1.5})).status_code == 503
    assert [line.startswith(ended) for line in lines()] == [True]
    with pytest.raises(DBAPIError):
        async with sessionmanager.session() as session:
            await session.execute(text("SELECT 1"))
            await asyncio.sleep(1.5)  # and nothing but the commit after it
    assert len(lines()) == 2


async def test_many_short_waits_are_a_long_one(database: DatabaseSessionManager, lines: Any) -> None:
    await again(database_idle_transaction_warning=0.2)
    with pytest.raises(RuntimeError):
        async with database.session() as session:
            for _ in range(5):
                await session.execute(text("SELECT 1"))
                await asyncio.sleep(0.06)
            raise RuntimeError
    assert [line[:40] for line in lines()] == ["a transaction held its connection for N "]


async def test_the_waits_of_two_transactions_are_not_one(
    database: DatabaseSessionManager, lines: Any
) -> None:
    await again(database_idle_transaction_warning=2, database_pool_size=1)
    for _ in range(2):
        async with database.session() as session:
            await session.execute(text("SELECT 1"))
            await asyncio.sleep(1.2)
    assert lines() == []


async def test_what_waits_without_a_transaction_and_a_copy_are_not_idle(
    database: DatabaseSessionManager, lines: Any
) -> None:
    await again(database_idle_transaction_warning=0.2)
    for _ in range(2):  # the second time on the same connections
        async with database.read_session() as session:
            await session.execute(text("SELECT 1"))
            await asyncio.sleep(0.3)
            await session.execute(text("SELECT 1"))
        async with database.session() as session:
            await asyncio.sleep(0.3)
            await session.execute(text("SELECT pg_sleep(0.3)"))
            driver = await driver_connection(session)
            await driver.execute("SELECT 1")
            await driver.copy_from_query("SELECT pg_sleep(0.3)", output=BytesIO())
    assert lines() == []


async def test_zero_and_a_script_log_nothing(database: DatabaseSessionManager, lines: Any) -> None:
    limits = {"database_statement_warning": 0.01, "database_idle_transaction_warning": 0.01}
    settings = get_settings().model_copy(update=limits)
    for quiet in (settings.for_script(), settings.model_copy(update=dict.fromkeys(limits, 0))):
        await database.close()
        database.init_db(quiet)
        async with database.session() as session:
            await session.execute(text("SELECT pg_sleep(0.05)"))
            await asyncio.sleep(0.05)
    assert lines() == []


async def test_every_way_to_execute_is_seen(database: DatabaseSessionManager, lines: Any) -> None:
    await again(database_statement_warning=1e-9)
    async with database.session() as session:
        users = [{"email": f"{number}@example.com"} for number in range(3)]
        await session.execute(text("INSERT INTO users (email) VALUES (:email)"), users)
        await session.execute(insert(Note), [{"user_id": number, "body": "x"} for number in (1, 2, 3)])
        await (await session.connection()).exec_driver_sql("SELECT 5")
    seen = " ".join(lines())
    for statement in ("INSERT INTO users (email) VALUES ($1)", "notes (user_id, body) VALUES ", "SELECT 5"):
        assert statement in seen


async def test_without_telemetry_no_statement_is_reported(database: DatabaseSessionManager) -> None:
    async with database.session() as session:
        driver: Any = await driver_connection(session)
        assert not driver.limits.telemetry


async def test_a_server_that_freezes_is_no_error_of_the_looking_on(
    database: DatabaseSessionManager, own_database: URL
) -> None:
    async with proxied(own_database) as proxy:
        await again(database_url=proxy.url, database_statement_timeout=0.2)
        with pytest.raises(DBAPIError, match="did not answer in time"):
            async with database.session() as session:
                await session.execute(text("SELECT 1"))
                proxy.flowing.clear()  # and the COMMIT is not answered
        await database.close()
    database.init_db(get_settings())  # the fixture closes it


async def test_each_connection_says_which_service_and_purpose_it_is_for(
    database: DatabaseSessionManager, own_database: URL
) -> None:
    async with database.session() as session:
        await session.execute(text("SELECT 1"))
    async with database.read_session() as session:
        await session.execute(text("SELECT 1"))
    async with own_connection(get_settings()):
        expected = [PROJECT_SLUG, f"{PROJECT_SLUG} own connection", f"{PROJECT_SLUG} reads"]
        assert await on_server(own_database, NAMES) == expected
    for settings, purpose in (
        (get_settings().for_script(), "script"),
        (get_settings().for_migrations(), "migrations"),
    ):
        await database.close()
        database.init_db(settings)
        async with database.session() as session:
            assert await session.scalar(NAME) == f"{PROJECT_SLUG} {purpose}"


async def test_the_longest_name_keeps_its_purpose_and_the_name_of_a_url_wins(
    database: DatabaseSessionManager,
) -> None:
    assert get_settings().database_application_name == PROJECT_SLUG[:46]
    await again(database_application_name="x" * 46)
    async with database.read_session() as session:
        assert await session.scalar(NAME) == "x" * 46 + " reads"
    await database.close()
    database.init_db(
        get_settings().model_copy(update={"database_application_name": "x" * 46}).for_migrations()
    )
    async with database.session() as session:
        assert await session.scalar(NAME) == "x" * 46 + " migrations"
    url = get_settings().database_url.update_query_dict({"application_name": "its own"})
    await again(database_url=url)
    async with database.read_session() as session:
        assert await session.scalar(NAME) == "its own"


async def test_the_driver_connection_of_a_read_session_is_an_error(database: DatabaseSessionManager) -> None:
    async with database.read_session() as session:
        with pytest.raises(TransactionNeededError):
            await driver_connection(session)
    async with database.session(), database.read_session() as session:  # that of the unit of work
        assert (await driver_connection(session)).is_in_transaction()


async def test_an_own_connection_has_no_time_limits_and_is_closed(database: DatabaseSessionManager) -> None:
    with pytest.raises(RuntimeError):
        async with own_connection(get_settings()) as connection:
            assert await connection.fetchval("SELECT current_setting('statement_timeout')") == "0"
            assert await connection.fetchval("SELECT current_schema()") == get_settings().database_schema
            raise RuntimeError
    assert connection.is_closed()


async def test_an_own_connection_to_a_server_that_freezes_is_left(
    database: DatabaseSessionManager, own_database: URL
) -> None:
    async with proxied(own_database) as proxy:
        async with own_connection(
            get_settings().model_copy(update={"database_url": proxy.url})
        ) as connection:
            proxy.flowing.clear()
        assert connection.is_closed()


async def test_an_own_connection_goes_past_pgbouncer_or_is_an_error(database: DatabaseSessionManager) -> None:
    url = get_settings().database_url
    behind = {"database_pgbouncer": True, "database_url": url.set(host="never-used.invalid")}
    async with own_connection(
        get_settings().model_copy(update={**behind, "database_direct_url": url})
    ) as own:
        assert await own.fetchval("SELECT 1") == 1
    with pytest.raises(DirectURLNeededError, match="Set DATABASE_DIRECT_URL"):
        async with own_connection(get_settings().model_copy(update=behind)):
            pass
