"""The proxy of `compose.yaml` and of the manifests: hostile clients are held off, everything else passes."""

import json
import os
import re
import resource
import socket
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import uvicorn
from sqlalchemy import URL
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect as websocket

from app.config import get_settings
from dev.postgres import free_port
from service.proxies import CONFIG, NGINX, Proxied, connected, proxied
from service.servers import Server, served
from service.tools import wait_for

pytestmark = pytest.mark.skipif(
    NGINX is None or sys.platform != "linux", reason="needs the program nginx, and the /proc of Linux"
)

FILES = 1_024  # that a process may have open, where nobody has changed that
HEAD = b"Host: service.example\r\n"
MEDIA_TYPE = "application/problem+json"
ID = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def server(own_database: URL) -> Generator[Server]:
    """A service that may have as few open files as a process has by default."""
    with served() as server:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (FILES, most))
        yield server


@pytest.fixture(scope="module")
def proxy(server: Server) -> Generator[Proxied]:
    with proxied(server.url) as proxy:
        yield proxy


@pytest.fixture
def many_files() -> Generator[None]:
    """Let this process have more than a thousand connections."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= most < 4 * FILES:
        pytest.skip("this process may not have enough connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4 * FILES, most))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


def memory_of(process: int) -> float:
    """Return the resident memory of a process, in MB."""
    [kilobytes] = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(kilobytes) / 1_000


def cpu_of(process: int) -> float:
    """Return the seconds of CPU that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def connections(url: str) -> int:
    """Return how many connections the server at this URL has."""
    listening = f"{int(url.rpartition(':')[2]):04X}"
    established = "01"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    return sum(line[1].endswith(f":{listening}") and line[3] == established for line in lines)


def is_cut(client: socket.socket) -> bool:
    """Tell whether the other side has closed the connection, with an answer or without."""
    client.settimeout(0)
    try:
        while client.recv(65_536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def assert_a_newcomer_is_served(proxy: Proxied) -> None:
    with proxy.client() as client:
        for path in ("/health/live", "/health/ready", "/users"):
            assert client.get(path).status_code == 200


def send_without_end(client: socket.socket, begin: bytes, more: bytes, most: int = 150_000_000) -> int:
    """Send until the connection is cut, or enough is sent; return how many bytes that was."""
    sent = 0
    with suppress(OSError):
        client.sendall(begin)
        while sent < most:
            sent += client.send(more)
    return sent


@contextmanager
def at_no_cost(*processes: int) -> Generator[None]:
    """Check that meanwhile the processes neither calculate nor grow."""
    before = [(cpu_of(process), memory_of(process)) for process in processes]
    yield
    for process, (cpu, memory) in zip(processes, before, strict=True):
        assert cpu_of(process) - cpu < 1
        assert memory_of(process) - memory < 10


@pytest.mark.parametrize(
    ("begin", "more", "status"),
    [
        (b"GET /endless HTTP/1.1\r\n" + HEAD + b"X: ", b"x" * 10_000, 431),
        (b"GET /endless HTTP/1.1\r\n" + HEAD, b"X: x\r\n" * 2_000, 431),
        (b"GET /endless", b"x" * 10_000, 414),
    ],
    ids=["line", "lines", "URL"],
)
def test_a_head_without_end_is_cut_and_the_service_never_sees_it(
    server: Server, proxy: Proxied, begin: bytes, more: bytes, status: int
) -> None:
    assert_a_newcomer_is_served(proxy)
    answer = b""
    with at_no_cost(server.process.pid, proxy.worker), proxy.connect() as client:
        assert send_without_end(client, begin, more) < 1_000_000
        with suppress(OSError):  # it was closed before everything was read
            while data := client.recv(65_536):
                answer += data
        assert answer == b"" or answer.startswith(b"HTTP/1.1 %d " % status)
    assert_a_newcomer_is_served(proxy)
    assert "/endless" not in server.log


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"", b"\r\n" * 5_000),
        (b"POST /endless HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n5;", b"x" * 10_000),
    ],
    ids=["empty lines", "extension of a chunk"],
)
def test_what_the_proxy_skips_the_service_never_sees(
    server: Server, proxy: Proxied, begin: bytes, more: bytes
) -> None:
    assert_a_newcomer_is_served(proxy)
    with at_no_cost(server.process.pid), proxy.connect() as client:
        send_without_end(client, begin, more, 20_000_000)
        assert_a_newcomer_is_served(proxy)
    assert "/endless" not in server.log


def test_clients_that_send_half_a_request_keep_nobody_out(
    server: Server, proxy: Proxied, many_files: None
) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(proxy.connect()) for _ in range(1_010)]
        for client in clients:
            client.sendall(b"GET /endless HTTP/1.1\r\n" + HEAD)
        for _ in range(3):
            assert_a_newcomer_is_served(proxy)
        assert connections(server.url) <= 1  # the newcomer's
        assert connections(proxy.url) >= 1_010  # all of them are still there
        wait_for(lambda: all(is_cut(client) for client in clients))


def test_bodies_that_stop_on_their_way_take_nothing_of_the_service(
    server: Server, proxy: Proxied, many_files: None
) -> None:
    assert_a_newcomer_is_served(proxy)
    with at_no_cost(server.process.pid, proxy.worker), ExitStack() as stack:
        clients = [stack.enter_context(proxy.connect()) for _ in range(300)]
        for client in clients:
            client.sendall(b"POST /endless HTTP/1.1\r\n" + HEAD + b"Content-Length: 65536\r\n\r\n")
            client.sendall(b" " * 65_000)
        assert_a_newcomer_is_served(proxy)
        assert connections(server.url) <= 1
        assert connections(proxy.url) >= 300
        wait_for(lambda: all(is_cut(client) for client in clients))
    assert "/endless" not in server.log


def test_a_client_that_reads_nothing_is_cut(server: Server) -> None:
    with proxied(server.url, {"send_timeout 10s": "send_timeout 2s"}) as proxy, ExitStack() as stack:
        for _ in range(5):
            client = stack.enter_context(proxy.connect())
            client.sendall(b"GET /test/large HTTP/1.1\r\n" + HEAD + b"\r\n")
        wait_for(lambda: connections(server.url) >= 5)
        wait_for(lambda: connections(server.url) == 0)
        assert connections(proxy.url) == 0


def test_a_body_that_is_larger_than_the_service_takes_is_refused_by_the_proxy(proxy: Proxied) -> None:
    largest = get_settings().max_body_size
    with proxy.client() as client:
        assert client.post("/users", content=b" " * largest).status_code == 422  # the service answered
        for size in (largest + 1, 2_000_000):
            answer = client.post("/users", content=b" " * size, headers={"X-Request-ID": ID})
            assert (answer.status_code, answer.headers["content-type"]) == (413, MEDIA_TYPE)
            assert "than the proxy takes" in answer.json()["detail"]
            assert answer.json()["request_id"] == answer.headers["x-request-id"] == ID
    wait_for(lambda: '"POST /users HTTP/1.1" 413 after 0.0' in proxy.log)


@pytest.mark.parametrize(
    "head",
    [b"\0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"TRACE / HTTP/1.1\r\n" + HEAD + b"\r\n",
     b"GET /../x HTTP/1.1\r\n" + HEAD + b"\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
     b"POST / HTTP/1.1\r\n" + HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     b"POST / HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: gzip\r\n\r\n"],
)  # fmt: skip
def test_what_is_no_request_is_refused_with_a_problem_document(proxy: Proxied, head: bytes) -> None:
    with proxy.connect() as client:
        client.sendall(head)
        answer = b"".join(iter(lambda: client.recv(65_536), b"")).decode()
    assert answer.startswith("HTTP/1.1 400 Bad Request\r\n")
    assert f"Content-Type: {MEDIA_TYPE}\r\n" in answer
    assert json.loads(answer.partition("\r\n\r\n")[2])["status"] == 400


def test_while_the_service_is_away_the_answer_is_a_problem_document() -> None:
    with proxied(f"http://127.0.0.1:{free_port()}") as proxy, proxy.client() as client:
        answer = client.get("/users")
        assert (answer.status_code, answer.headers["content-type"]) == (502, MEDIA_TYPE)
        problem = answer.json()
        assert problem.pop("request_id") == answer.headers["x-request-id"]
        assert problem == {
            "type": "about:blank",
            "title": "Bad Gateway",
            "detail": "The service does not answer. Try again.",
            "status": 502,
        }
        wait_for(lambda: '"GET /users HTTP/1.1" 502 after 0.0' in proxy.log)


def test_streams_pass_without_delay(proxy: Proxied) -> None:
    with proxy.client() as client, client.stream("GET", "/test/ticks") as answer:
        lines = answer.iter_lines()
        assert [next(lines) for _ in range(5)] == ["tick"] * 5


def test_websockets_pass(proxy: Proxied) -> None:
    with websocket(f"{proxy.url.replace('http', 'ws')}/test/websocket") as client:
        client.send("hello")
        with pytest.raises(ConnectionClosedError):
            client.recv(timeout=30)
    assert client.close_code == 1011  # the route raises what it was sent


def test_the_id_of_a_request_is_the_clients_or_one_of_the_proxy(server: Server) -> None:
    with proxied(server.url, {" if=$unserved;": ";"}) as proxy, proxy.client() as client:
        assert client.get("/users", headers={"X-Request-ID": ID}).headers["x-request-id"] == ID
        ids = [f"[{ID}]\n"]
        for other in ("x", ID + "0", f"{ID}\t{ID}"):
            given = client.get("/users", headers={"X-Request-ID": other}).headers["x-request-id"]
            ids.append(f"[{given}]\n")
        wait_for(lambda: all(each in proxy.log for each in ids))


@pytest.mark.parametrize(
    ("trusted", "address"), [("127.0.0.1", "127.0.0.2"), ("127.0.0.1,127.0.0.2", "192.0.2.1")]
)
def test_the_address_is_the_clients_and_is_believed_only_of_a_proxy_that_is_trusted(
    own_database: URL, trusted: str, address: str
) -> None:
    with served(FORWARDED_ALLOW_IPS=trusted) as server, proxied(server.url) as proxy:
        with proxy.client("127.0.0.2") as client:
            client.get("/users?marked", headers={"X-Forwarded-For": "192.0.2.1"})
        wait_for(lambda: "?marked" in server.log)
        assert f'{address}:0 - \\"GET /users?marked' in server.log


@pytest.mark.parametrize(("given", "scheme"), [(None, "http"), ("https", "https"), ("gopher", "http")])
def test_the_scheme_is_the_one_that_an_outer_proxy_names(
    proxy: Proxied, given: str | None, scheme: str
) -> None:
    headers = {"Host": "service.example"} | ({"X-Forwarded-Proto": given} if given else {})
    with proxy.client() as client:
        assert (
            client.get("/test/url", headers=headers).raise_for_status().json()
            == f"{scheme}://service.example/users/1"
        )


def test_the_log_of_the_proxy_shows_nothing_raw(proxy: Proxied) -> None:
    for harm in (b"\xc2\x9b31m", b"\x1b[31m", b"\xff"):
        with proxy.connect() as client:
            client.sendall(
                b"POST /marked" + harm + b" HTTP/1.1\r\n" + HEAD + b"Content-Length: 2000000\r\n\r\n"
            )
            assert client.recv(65_536).startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 400 "))
    wait_for(lambda: proxy.log.count("/marked") == 3)
    assert [line for line in proxy.log.splitlines() if not line.isprintable()] == []


def test_the_proxy_gives_up_idle_connections_before_the_service_does() -> None:
    """Else a request is sent into a connection that closes, and answered 502."""
    [seconds] = re.findall(r"keepalive \d+;\s+keepalive_timeout (\d+)s", CONFIG.read_text())
    assert int(seconds) < uvicorn.Config("").timeout_keep_alive


def test_the_other_parser_of_uvicorn_cuts_a_head_without_end(own_database: URL) -> None:
    """Where there is no proxy: docs/containers.md names the variable."""
    begin, more = b"GET / HTTP/1.1\r\n" + HEAD + b"X: ", b"x" * 10_000
    with served(UVICORN_HTTP="h11") as server, connected(server.url) as client:
        assert send_without_end(client, begin, more, 5_000_000) < 4_000_000
