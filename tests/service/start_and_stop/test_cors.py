"""CORS_ORIGINS: whose pages may call the service."""

from collections.abc import Generator
from uuid import uuid4

import pytest
from httpx2 import Client, Response

from service.servers import served

PAGE, OTHER = "https://pages.example", "https://evil.example"
ALLOWED = "access-control-allow-origin"


@pytest.fixture(scope="module")
def client(own_database: object) -> Generator[Client]:
    """A client of a server that pages of two origins may call."""
    origins = f"{PAGE}, https://others.example"
    with served(CORS_ORIGINS=origins) as server, Client(base_url=server.url) as client:
        yield client


def preflight(client: Client, origin: str) -> Response:
    """Ask as a browser does before it sends the request of a page."""
    asked = {"Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "content-type"}
    return client.options("/users/1", headers={"Origin": origin} | asked)


def test_a_page_of_an_allowed_origin_may_ask(client: Client) -> None:
    answer = preflight(client, PAGE)
    assert (answer.status_code, answer.headers[ALLOWED]) == (200, PAGE)
    assert "PATCH" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "content-type"
    assert answer.headers["access-control-allow-credentials"] == "true"


def test_a_page_of_another_origin_may_not(client: Client) -> None:
    answer = preflight(client, OTHER)
    assert answer.status_code == 400
    assert ALLOWED not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/users", 200),
        ("GET", "/users/1", 404),
        ("POST", "/users", 422),
        ("GET", "/nothing", 404),
        ("POST", "/test/raise", 500),
    ],
)
def test_a_page_of_an_allowed_origin_sees_every_answer(
    client: Client, method: str, path: str, status: int
) -> None:
    answer = client.request(method, path, json="x", headers={"Origin": PAGE})
    assert (answer.status_code, answer.headers[ALLOWED]) == (status, PAGE)
    assert answer.headers["access-control-expose-headers"] == "X-Request-ID"
    assert len(answer.headers["x-request-id"]) == len(uuid4().hex)
    assert "Origin" in answer.headers["vary"]
    refused = client.request(method, path, json="x", headers={"Origin": OTHER})
    assert (refused.status_code, ALLOWED in refused.headers) == (status, False)


def test_pages_of_all_origins_may_call_without_cookies(own_database: object) -> None:
    with served(CORS_ORIGINS="*") as server, Client(base_url=server.url) as client:
        answer = client.get("/users", headers={"Origin": OTHER})
        assert answer.headers[ALLOWED] == "*"
        assert "access-control-allow-credentials" not in answer.headers


def test_without_the_setting_no_page_may(own_database: object) -> None:
    with served() as server, Client(base_url=server.url) as client:
        assert ALLOWED not in client.get("/users", headers={"Origin": PAGE}).headers
        assert preflight(client, PAGE).status_code == 405
