"""CORS_ORIGINS: whose pages may call the service."""

import json
import re
import socket
from collections.abc import Generator
from urllib.parse import urlsplit
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


@pytest.mark.parametrize("parser", ["httptools", "h11"])
def test_a_preflight_that_follows_another_request_has_an_id_of_its_own(parser: str) -> None:
    """Both come in one packet: uvicorn begins with the second inside the first."""
    first, head = "0" * 32, f"Host: x\r\nOrigin: {PAGE}\r\n"
    packet = f"GET /nothing HTTP/1.1\r\n{head}X-Request-ID: {first}\r\n\r\n"
    packet += (
        f"OPTIONS /users HTTP/1.1\r\n{head}Access-Control-Request-Method: GET\r\nConnection: close\r\n\r\n"
    )
    with served("--http", parser, CORS_ORIGINS=PAGE) as server:
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port)) as client:
            client.sendall(packet.encode())
            answer = b"".join(iter(lambda: client.recv(65_536), b"")).decode().lower()
        mine, other = re.findall(r"^x-request-id: (\w+)\r$", answer, re.MULTILINE)
        assert mine == first != other
        [line] = [line for line in server.log.splitlines() if "OPTIONS /users" in line]
        assert json.loads(line)["request_id"] == other


def test_pages_of_all_origins_may_call_without_cookies(own_database: object) -> None:
    with served(CORS_ORIGINS="*") as server, Client(base_url=server.url) as client:
        answer = client.get("/users", headers={"Origin": OTHER})
        assert answer.headers[ALLOWED] == "*"
        assert "access-control-allow-credentials" not in answer.headers


def test_without_the_setting_no_page_may(own_database: object) -> None:
    with served() as server, Client(base_url=server.url) as client:
        assert ALLOWED not in client.get("/users", headers={"Origin": PAGE}).headers
        assert preflight(client, PAGE).status_code == 405
