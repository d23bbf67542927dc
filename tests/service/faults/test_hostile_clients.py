"""Clients that mean harm, at a socket: what they send costs them an answer, and the service nothing."""

import re
import socket
import sys
from collections.abc import Generator
from contextlib import ExitStack, suppress

import httpx2
import pytest
from httpx2 import AsyncClient
from sqlalchemy import URL

from app.db import DatabaseSessionManager
from service.servers import Server, served, serving
from service.tools import wait_for

HEAD = b"Host: service.example\r\nConnection: close\r\n"
POST = b"POST %s HTTP/1.1\r\n" + HEAD + b"Content-Type: application/json\r\n%s\r\n"
NOTHING = {"sessions": 0, "connections": 0}


@pytest.fixture(scope="module", params=["httptools", "h11"])
def server(request: pytest.FixtureRequest, own_database: URL) -> Generator[Server]:
    """A server process, with each of uvicorn's parsers. Nothing that a client sends may surprise it."""
    with served("--http", request.param) as server:
        yield server
        assert server.tracebacks == []
        assert '"ERROR"' not in server.log


def connect(server: Server) -> socket.socket:
    url = httpx2.URL(server.url)
    return socket.create_connection((url.host, url.port or 80), timeout=30)


def ask(server: Server, request: bytes) -> str:
    """Send bytes; return everything that comes back until the server closes the connection."""
    with connect(server) as client:
        client.sendall(request)
        answer = b""
        with suppress(ConnectionResetError):  # it was closed before it had read everything
            while data := client.recv(65_536):
                answer += data
    return answer.decode("latin-1")


def status_of(answer: str) -> int:
    assert answer.startswith("HTTP/1.1 ")
    return int(answer.split()[1])


@pytest.mark.parametrize("path", [b"/users", b"/health/live", b"/nothing"])
@pytest.mark.parametrize(
    "length",
    [b"0" * 4_400 + b"2", b"9" * 4_401, b"9" * 30, b"-1", b"+5", b"1_0", b"0x2", b"\xb2", b"\xd9\xa2", b"",
     b"2\r\nContent-Length: 3"],
)  # fmt: skip
def test_a_length_that_is_none_is_refused(server: Server, path: bytes, length: bytes) -> None:
    answer = ask(server, POST % (path, b"Content-Length: " + length + b"\r\n") + b"{}")
    assert status_of(answer) in {400, 413}


def test_a_request_of_two_lengths_is_not_two_requests(server: Server) -> None:
    """A proxy may count the bytes of `Content-Length`, where the server reads chunks."""
    hidden = b"POST /test/raise HTTP/1.1\r\n" + HEAD + b"Content-Length: 3\r\n\r\n"
    both = b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n" % (len(hidden) + 5)
    answer = ask(server, POST % (b"/users", both) + b"0\r\n\r\n" + hidden)
    assert status_of(answer) in {400, 422}
    assert answer.count("HTTP/1.1") == 1
    assert "/test/raise" not in server.log


@pytest.mark.parametrize(
    "given",
    [
        b"x\r\n forged: 1",
        b"x\r\nX-Forged: 1",
        b"x\nX-Forged: 1",
        b"x\rX-Forged: 1",
        b"\x1b[3m",
        b"0" * 10_000,
    ],
    ids=["folded", "crlf", "lf", "cr", "escape", "long"],
)
def test_an_id_of_a_request_that_is_none_is_not_repeated(server: Server, given: bytes) -> None:
    answer = ask(server, b"GET /health/live HTTP/1.1\r\n" + HEAD + b"X-Request-ID: " + given + b"\r\n\r\n")
    assert status_of(answer) in {200, 400}
    assert "forged" not in answer.lower()
    assert "\x1b" not in answer
    assert len(answer) < 1_000
    assert len(max(server.log.splitlines(), key=len)) < 1_000


async def test_of_two_members_of_one_name_the_last_counts(
    server: Server, database: DatabaseSessionManager
) -> None:
    body = b'{"email": "first@example.com", "email": "last@example.com"}'
    answer = ask(server, POST % (b"/users", b"Content-Length: %d\r\n" % len(body)) + body)
    assert status_of(answer) == 201
    assert "first@" not in answer


def test_a_client_that_does_not_wait_for_its_answers_gets_all_of_them(server: Server) -> None:
    with connect(server) as client:
        client.sendall(b"GET /users HTTP/1.1\r\nHost: service.example\r\n\r\n" * 2_999)
        client.sendall(b"GET /users HTTP/1.1\r\n" + HEAD + b"\r\n")
        answers = b"".join(iter(lambda: client.recv(65_536), b""))
    assert answers.count(b"HTTP/1.1 200 OK") == 3_000


async def test_a_client_that_does_not_read_holds_no_connection(server: Server) -> None:
    with ExitStack() as stack:
        for _ in range(15):  # more than the pool has
            client = stack.enter_context(connect(server))
            client.sendall(b"GET /test/large HTTP/1.1\r\n" + HEAD + b"\r\n")
            assert client.recv(12) == b"HTTP/1.1 200"
        async with AsyncClient(base_url=server.url) as other:
            assert (await other.post("/test/unit")).status_code == 200
            assert (await other.get("/test/open")).json() == NOTHING


@pytest.mark.parametrize(
    ("head", "status", "content_type"),
    [
        (b"\0\r\n\r\n", 400, "text/plain; charset=utf-8"),
        (b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
         b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", 403, ""),
    ],
    ids=["garbage", "websocket"],
)  # fmt: skip
def test_what_the_server_itself_answers_is_what_the_readme_says(
    server: Server, head: bytes, status: int, content_type: str
) -> None:
    answer = ask(server, head)
    assert status_of(answer) == status
    assert f"content-type: {content_type}" in answer.lower()
    assert "x-request-id" not in answer.lower()


def test_an_unknown_path_with_a_slash_is_a_404_and_no_redirect_to_the_host_that_was_sent(
    server: Server,
) -> None:
    for path in (b"/users/", b"/users/1/", b"/health/live/", b"/docs/", b"//users"):
        answer = ask(server, b"GET " + path + b" HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        assert status_of(answer) == 404
        assert "application/problem+json" in answer
        assert "evil" not in answer


# ESC with a title, a colour, BEL, a line of its own, a C1 control, a change of the direction of writing.
HARM = "%1b%5d0;title%07%1b%5b31m%0aERROR:%20forged%0d%c2%9b%e2%80%ae%e2%80%a8%7f"
SHOWN = r"\x1b]0;title\x07\x1b[31m\nERROR: forged\r\x9b\u202e\u2028\x7f"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other terminals")
@pytest.mark.parametrize(
    "program",
    [("uvicorn", "service.routes:app"), ("fastapi", "dev", "--entrypoint", "service.routes:app")],
    ids=["uvicorn", "fastapi"],
)
def test_what_a_client_sends_is_shown_on_a_terminal_and_not_obeyed(
    own_database: URL, program: tuple[str, ...]
) -> None:
    headers = "User-Agent: a\x9b31m\u00adb\r\nX-Forwarded-For: \x9b31m\r\n".encode("latin-1")
    with serving(environment={}, terminal=True, program=program) as server:
        head = f"GET /test/hostile/{HARM}?{HARM} HTTP/1.1\r\n".encode() + HEAD + headers
        answer = ask(server, head + b"\r\n")
        assert status_of(answer) == 500
        wait_for(lambda: '" 500' in server.log)
        raw = server.log_file.read_bytes().decode().replace("\r\n", "\n")
    lines = [re.sub(r"\x1b\[\d*m", "", line) for line in raw.splitlines()]
    assert any(f"GET /test/hostile/{SHOWN}: 500, ValueError: " in line for line in lines)
    assert "ValueError: " + SHOWN.partition(r"\n")[0] in lines  # the last of the traceback, which has many
    assert any(r"by a\x9b31m\xadb [" in line for line in lines)
    assert any(line.startswith("INFO:     ") and r'\x9b31m:0 - "GET /test/' in line for line in lines)
    assert not any(line.startswith("ERROR: forged") for line in lines)
    assert [line for line in lines if not line.isprintable()] == []
