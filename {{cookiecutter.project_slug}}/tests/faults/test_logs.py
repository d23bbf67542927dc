"""Logs of a server that is not on a terminal: JSON, a line for each failure, nobody's data in them."""

import json
import uuid

from httpx2 import AsyncClient

from app.config import get_settings
from app.database import DatabaseSessionManager
from tests.tools import served


async def test_a_failure_is_one_line_with_its_cause_and_nobodys_data(
    database: DatabaseSessionManager,
) -> None:
    failures = {
        "POST /test/not-null": "500, NotNullViolationError 23502: null value in column",
        "POST /test/wrong-type": "500, DataError 22000",
        "POST /test/raise": "500, ValueError: unexpected",
        "GET /test/sleep": "503, QueryCanceledError 57014: canceling statement due to statement timeout",
        "POST /test/killed-before-commit": "503, ",
    }
    with served(DATABASE_STATEMENT_TIMEOUT="0.5") as server:
        async with AsyncClient(base_url=server.url) as client:
            for request, cause in failures.items():
                method, path = request.split()
                request_id = uuid.uuid4().hex
                parameters = {"seconds": 5} if path == "/test/sleep" else {}
                await client.request(
                    method, path, params=parameters, json="hunter2", headers={"x-request-id": request_id}
                )
                lines = [json.loads(line) for line in server.log.splitlines()]
                [line] = [
                    line
                    for line in lines
                    if line["request_id"] == request_id and line["name"] != "uvicorn.access"
                ]
                assert f"{request}: {cause}" in line["message"]
                assert line["level"] == ("ERROR" if cause.startswith("500") else "WARNING")
        password = get_settings().database_url.password
        assert password is not None
        for secret in ("hunter2", password, "Traceback"):
            assert secret not in server.log


async def test_the_documentation_can_be_switched_off(database: DatabaseSessionManager) -> None:
    with served(DOCS="false") as server:
        async with AsyncClient(base_url=server.url) as client:
            for path in ("/docs", "/redoc", "/openapi.json"):
                assert (await client.get(path)).status_code == 404
            assert (await client.get("/health/ready")).status_code == 200
