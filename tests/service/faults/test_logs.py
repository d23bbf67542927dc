"""Logs of a server that is not on a terminal: JSON, a line for each failure, nobody's data in them."""

import asyncio
import json
import sys
import uuid
from contextlib import suppress

import asyncpg
import httpx2
import pytest
from httpx2 import AsyncClient
from sqlalchemy import URL, text
from sqlalchemy.exc import DBAPIError, PendingRollbackError, StatementError
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from app.config import get_settings
from app.db import DatabaseSessionManager, driver_connection
from app.db.errors import ReadOnlySessionError
from app.users.models import User
from app.web.causes import cause_of
from service.servers import served, serving
from service.tools import run, wait_for


async def test_a_failure_is_one_line_with_its_cause_and_no_data_of_the_database(
    database: DatabaseSessionManager,
) -> None:
    failures = {
        "POST /test/not-null": "500, NotNullViolationError 23502: null value in column",
        "POST /test/wrong-type": "500, DataError 22000",
        "GET /test/sleep": "503, QueryCanceledError 57014: canceling statement due to statement timeout",
        "POST /test/killed-before-commit": "503, ",
        "POST /test/background-failure": "the response had begun, RuntimeError: Caught handled exception, "
        "but response already started. < NotNullViolationError 23502",
        "POST /test/raise": "500, ValueError: what < KeyError: 'what'",
    }
    with served(DATABASE_STATEMENT_TIMEOUT="0.5") as server:
        async with AsyncClient(base_url=server.url) as client:
            for request, cause in failures.items():
                method, path = request.split()
                request_id = uuid.uuid4().hex
                parameters = {"seconds": 5} if path == "/test/sleep" else {}
                body = "what" if path == "/test/raise" else "hunter2"
                await client.request(
                    method, path, params=parameters, json=body, headers={"x-request-id": request_id}
                )
                # Some of it happens after the response.
                await asyncio.to_thread(wait_for, lambda: f"{request}: {cause}" in server.log)  # noqa: B023 read at once
                lines = [json.loads(line) for line in server.log.splitlines()]
                [line] = [
                    line
                    for line in lines
                    if line["request_id"] == request_id and line["name"] != "uvicorn.access"
                ]
                assert f"{request}: {cause}" in line["message"]
                assert line["level"] == ("WARNING" if cause.startswith("503") else "ERROR")
            await client.post("/test/forgotten-task", json="nobody waited")
            forgotten = wait_for(lambda: next(filter(is_forgotten, server.log.splitlines()), None))
            assert json.loads(forgotten)["exc_info"].endswith("ValueError: nobody waited\n")
            assert server.tracebacks
        password = get_settings().database_url.password
        assert password is not None
        for secret in ("hunter2", password, "Traceback"):
            assert secret not in server.log


def is_forgotten(line: str) -> bool:
    return "Task exception was never retrieved" in line


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other terminals")
def test_on_a_terminal_the_logs_are_text(own_database: URL) -> None:
    with serving(environment={}, terminal=True) as server:
        assert "Application startup complete" in server.log
        assert "{" not in server.log
        assert "[-]" not in server.log  # as uvicorn, or `fastapi dev`, shows them


def test_every_line_of_several_workers_and_their_parent_is_json_with_the_same_fields(
    own_database: URL,
) -> None:
    with served("--workers", "2", "--log-config", "app/web/uvicorn.json") as server:
        httpx2.get(f"{server.url}/users")
        httpx2.post(f"{server.url}/test/raise", json="what")
        server.process.terminate()
        server.process.wait(timeout=30)
        lines = [json.loads(line) for line in server.log.splitlines()]
    for line in lines:
        assert line.keys() - {"exc_info"} == {"time", "level", "name", "message", "request_id"}
    said = " ".join(line["message"] for line in lines)
    for of_the_parent in ("Started parent process", "Stopping parent process"):
        assert of_the_parent in said
    for of_a_worker in ("Application startup complete", '"GET /users HTTP/1.1" 200', "500, ValueError: what"):
        assert of_a_worker in said


@pytest.mark.parametrize("logger", ["app.main", "uvicorn.error", "uvicorn.access"])
def test_the_level_is_that_of_all_logs(logger: str) -> None:
    said = run(
        "-c",
        "import logging, uvicorn.config; uvicorn.Config('any:one').configure_logging(); "
        "from app.web.logs import configure_logging; configure_logging('WARNING'); "
        f"logging.getLogger('{logger}').info('news'); logging.getLogger('{logger}').warning('alarm')",
    ).stderr
    assert "alarm" in said
    assert "news" not in said


@pytest.mark.parametrize(("options", "lines"), [([], 1), (["--no-access-log"], 0)])
def test_uvicorns_option_switches_the_lines_of_requests_off(options: list[str], lines: int) -> None:
    with served(*options) as server:
        assert httpx2.get(f"{server.url}/users/1").status_code == 404
        assert server.log.count("GET /users/1") == lines  # written before the answer is sent
        assert "Application startup complete" in server.log


def test_a_cycle_of_errors_has_an_end() -> None:
    first, second = ValueError(), KeyError()
    first.__context__, second.__context__ = second, first
    group = ExceptionGroup("two tasks", [first])
    second.__cause__ = group
    assert cause_of(first) == "ValueError < KeyError < ExceptionGroup: two tasks (1 sub-exception)"


def test_what_a_statement_was_given_is_not_in_its_cause() -> None:
    wrong = StatementError("'hunter2' is not among the defined values", None, None, LookupError("hunter2"))
    assert cause_of(wrong) == "StatementError: LookupError"
    assert "hunter2" not in cause_of(ReadOnlySessionError("INSERT INTO users VALUES ('hunter2')"))


async def test_what_the_driver_was_given_is_not_in_the_cause(database: DatabaseSessionManager) -> None:
    with pytest.raises(asyncpg.DataError, match="hunter2") as error:
        async with database.session() as session:
            await (await driver_connection(session)).execute("SELECT $1::uuid", "hunter2")
    assert cause_of(error.value) == "DataError 22000: invalid input for query argument $1"


async def test_an_error_that_was_caught_is_not_quoted_by_the_next(database: DatabaseSessionManager) -> None:
    async def catch() -> None:
        async with database.session() as session:
            session.add(User(email=["hunter2"]))
            with suppress(DBAPIError):
                await session.flush()

    with pytest.raises(PendingRollbackError, match="hunter2") as error:
        await catch()
    cause = cause_of(error.value)
    assert cause.startswith("PendingRollbackError: This Session's transaction has been rolled back")
    assert "hunter2" not in cause


async def test_a_message_that_quotes_what_was_sent_is_not_in_the_cause(
    database: DatabaseSessionManager,
) -> None:
    with pytest.raises(DBAPIError) as error:
        async with database.session() as session:
            await session.execute(text("SELECT to_tsquery('simple', :words)"), {"words": "hunter2 &&& ("})
    assert cause_of(error.value) == "PostgresSyntaxError 42601"
    with pytest.raises(DBAPIError) as error:
        async with database.session() as session:
            await session.execute(text("SELECT :word FROM missing"), {"word": "hunter2"})
    assert cause_of(error.value) == 'UndefinedTableError 42P01: relation "missing" does not exist'


def test_a_websocket_that_fails_is_one_line() -> None:
    with served() as server:
        uri = server.url.replace("http", "ws") + "/test/websocket"
        with connect(uri) as socket:
            socket.send("what it said")
            with pytest.raises(ConnectionClosedError):
                socket.recv()
        assert server.log.count('"ERROR"') == 1
        assert "WEBSOCKET /test/websocket: 500, ValueError: what it said" in server.log


async def test_no_error_message_holds_a_parameter(database: DatabaseSessionManager) -> None:
    async with database.read_session() as session:
        with pytest.raises(DBAPIError) as raised:
            await session.execute(text("SELECT 1 / 0, CAST(:name AS text)"), {"name": "hunter2"})
    assert "hunter2" not in str(raised.value)


async def test_the_documentation_is_off_by_default(database: DatabaseSessionManager) -> None:
    with served(DOCS="") as server:
        async with AsyncClient(base_url=server.url) as client:
            for path in ("/docs", "/redoc", "/openapi.json"):
                assert (await client.get(path)).status_code == 404
            assert (await client.get("/health/ready")).status_code == 200


async def test_the_text_of_a_trigger_is_not_in_the_cause(database: DatabaseSessionManager) -> None:
    raising = "RAISE EXCEPTION 'hunter2 is taken' USING ERRCODE = 'unique_violation'"
    with pytest.raises(DBAPIError) as error:
        async with database.session() as session:
            await session.execute(text(f"DO $$ BEGIN {raising}; END $$"))
    assert cause_of(error.value) == "UniqueViolationError 23505"


async def test_an_error_that_repeats_the_message_of_the_database_does_not_show_it(
    database: DatabaseSessionManager,
) -> None:
    async def fail(how: str) -> None:
        async with database.session() as session:
            try:
                await session.execute(text("SELECT CAST('hunter2' AS int)"))
            except DBAPIError as error:
                if how == "message":
                    raise RuntimeError(f"could not read: {error}") from error
                if how == "original" or error.orig is None:
                    raise RuntimeError(f"could not read: {error.orig}") from error.orig
                raise error.orig from None

    for how in ("message", "original", "itself"):
        with pytest.raises(Exception) as error:  # noqa: PT011 each of another kind
            await fail(how)
        cause = cause_of(error.value)
        assert "hunter2" not in cause
        assert "InvalidTextRepresentationError 22P02" in cause


def test_a_value_that_is_no_member_of_an_enum_is_not_in_the_cause() -> None:
    error = LookupError("'hunter2' is not among the defined enum values. Enum name: color.")
    assert cause_of(error) == "LookupError: a value is not among the defined enum values"
