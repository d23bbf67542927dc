"""Whatever is sent, the answer is a problem document that says what is wrong, never a 500."""

import json
from collections.abc import AsyncGenerator

import pytest
from httpx2 import AsyncClient

from app.config import get_settings
from app.db import DatabaseSessionManager
from service.routes import open_now
from service.servers import served

JSON = {"content-type": "application/json"}
TOO_LARGE = b"x" * 20 * get_settings().max_body_size
SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}


@pytest.mark.parametrize(
    ("status", "method", "path", "body"),
    [
        (413, "POST", "/users", b'{"email": "' + b"x" * get_settings().max_body_size + b'"}'),
        (422, "POST", "/users", b'{"email": '),
        (422, "POST", "/users", b""),
        (422, "POST", "/users", b"[]"),
        (422, "POST", "/users", b"\xff\xfe"),
        (422, "POST", "/users", b'{"email": "a@example.com", "full_name": "\\u0000"}'),
        (422, "POST", "/users", b'{"email": "a@example.com", "full_name": "\\ud800"}'),
        (422, "POST", "/users", b'{"email": "a@example.com", "full_name": NaN}'),
        (422, "POST", "/users", b'{"email": "\\u0000@example.com"}'),
        (400, "POST", "/users", b'{"email": ' + b"9" * 5_000 + b"}"),  # more digits than Python reads
        (422, "POST", "/users", b'{"email": 1e999999}'),
        (422, "POST", "/users", b'{"email": -Infinity}'),
        (400, "POST", "/users", b"[" * 60_000),
        (422, "GET", "/users/" + "9" * 10_000, b""),
        (422, "GET", "/users/9223372036854775808", b""),
        (422, "GET", "/users/0", b""),
        (422, "GET", "/users/%00", b""),
        (404, "GET", "/users/1", b""),
        (422, "GET", "/users?limit=0", b""),
        (422, "GET", "/users?limit=201", b""),
        (422, "GET", "/users?after=-1", b""),
        (422, "GET", "/users?after=" + "9" * 20, b""),
        (404, "GET", "/nothing", b""),
        (405, "PUT", "/users", b""),
    ],
)
async def test_a_bad_request_is_answered_with_a_problem(
    client: AsyncClient, status: int, method: str, path: str, body: bytes
) -> None:
    response = await client.request(method, path, content=body, headers=JSON)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers.items() >= SECURITY_HEADERS.items()
    problem = response.json()
    assert problem["status"] == status
    assert problem["request_id"] == response.headers["x-request-id"]
    assert len(response.content) < 2_000
    assert open_now()["connections"] == 0


@pytest.mark.parametrize(
    ("status", "detail", "shown"),
    [(409, "taken", {"title": "Conflict", "detail": "taken"}), (499, "x", {"title": "Error", "detail": "x"}),
     (400, {"code": 7}, {"title": "Bad Request", "errors": [{"code": 7}]})],
)  # fmt: skip
async def test_an_error_that_a_route_raises_is_a_problem(
    client: AsyncClient, status: int, detail: object, shown: dict[str, object]
) -> None:
    response = await client.post(f"/test/status/{status}", json=detail)
    assert response.status_code == status
    assert response.json().items() >= shown.items()


async def test_only_a_short_uuid_is_taken_as_the_id_of_a_request(client: AsyncClient) -> None:
    for given in [b"-" * 1_000 + b"0" * 32, b"0" * 31, b"x", b"\xa0" + b"0" * 31, b"0" + b"_0" * 15 + b"0"]:
        response = await client.get("/health/live", headers={b"x-request-id": given})
        assert response.headers["x-request-id"].encode("latin-1") != given


@pytest.mark.parametrize("path", ["/users", "/test/export"])  # which reads its body, and which does not
async def test_an_announced_body_that_is_too_large_is_refused(
    database: DatabaseSessionManager, path: str
) -> None:
    with served() as server:
        async with AsyncClient(base_url=server.url) as client:
            response = await client.post(path, content=TOO_LARGE, headers=JSON)
            assert response.status_code == 413
            assert "larger than" in response.json()["detail"]
            assert (await client.get("/users")).status_code == 200
        assert "ERROR" not in server.log  # whoever sends it does not fill the log
        assert server.tracebacks == []


@pytest.mark.parametrize(
    "length", [str(20 * get_settings().max_body_size), "0" * 4_400 + "2", "9" * 30, "-1", "1_0", "²"]
)
async def test_a_route_that_does_not_read_its_body_does_not_run_if_the_body_is_too_large(
    client: AsyncClient, length: str
) -> None:
    await client.post("/users", json={"email": "ada@example.com"})
    response = await client.request(
        "DELETE", "/users/1", headers={b"content-length": length.encode("latin-1")}
    )
    assert response.status_code == 413
    assert (await client.get("/users/1")).status_code == 200


async def test_a_body_that_turns_out_too_large_is_refused(database: DatabaseSessionManager) -> None:
    async def in_chunks() -> AsyncGenerator[bytes]:
        yield TOO_LARGE

    with served() as server:
        async with AsyncClient(base_url=server.url) as client:
            response = await client.post("/users", content=in_chunks(), headers=JSON)
            assert response.status_code == 413
            assert response.headers["content-type"] == "application/problem+json"
            assert "larger than" in response.json()["detail"]
            assert (await client.get("/users")).status_code == 200
        assert "ERROR" not in server.log
        assert server.tracebacks == []


async def test_a_validation_error_says_where_and_why(client: AsyncClient) -> None:
    response = await client.post("/users", json={"email": "secret-but-wrong"})
    assert response.status_code == 422
    [error] = response.json()["errors"]
    assert error["loc"] == ["body", "email"]
    assert "email" in error["msg"]
    assert "secret" not in json.dumps(response.json())


async def test_a_conflict_quotes_nothing_that_is_stored(client: AsyncClient) -> None:
    grace = {"email": "grace@example.com"}  # no id of a request has these letters
    await client.post("/users", json=grace)
    response = await client.post("/users", json=grace)
    assert response.status_code == 409
    assert response.json()["detail"] == "This conflicts with what is already stored."
    assert "grace" not in response.text


async def test_an_unexpected_error_is_a_500_whose_cause_is_in_the_log(
    client: AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    response = await client.post("/test/not-null", json="hunter2", headers={"x-request-id": "0" * 32})
    assert response.status_code == 500
    assert response.json()["request_id"] == "0" * 32
    assert "null" not in response.text
    assert "POST /test/not-null: 500, NotNullViolationError 23502: " in caplog.messages[0]
    assert "hunter2" not in "".join(caplog.messages)
