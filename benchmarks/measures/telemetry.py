"""What does telemetry cost when it is off, and when it is on?"""

from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from benchmarks.database import fill
from benchmarks.load import load
from benchmarks.measures import Effort, turns
from benchmarks.measures.throughput import faultless, ratio
from benchmarks.report import Section, spread, table
from benchmarks.servers import Server, serving


def measure(effort: Effort) -> Section:
    """Measure reads of the service with telemetry off, and then taken out, or on."""
    fill()
    free = compare({"service": serving("service"), "plain": serving("plain")}, effort)
    with collector() as url:
        on = serving("service", OTEL_EXPORTER_OTLP_ENDPOINT=url)
        dear = compare({"service": serving("service"), "on": on}, effort)
    rows = [
        ["off", spread(free["service"]), spread(dear["service"])],
        ["taken out", spread(free["plain"]), ""],
        ["on: traces and metrics of every request", "", spread(dear["on"])],
    ]
    return Section(
        "Telemetry",
        [
            ratio("telemetry off, against taken out", free, "plain", 0.97),
            ratio("telemetry off, against on", dear, "on", None),
        ],
        [
            "Reads/s of one worker on one core, 32 clients: two servers in turn, and then another two.",
            table(["telemetry", "", ""], rows),
        ],
    )


def compare(servers: dict[str, AbstractContextManager[Server]], effort: Effort) -> dict[str, list[float]]:
    """Measure two servers in turn, each of them first in every other round."""
    rates: dict[str, list[float]] = {name: [] for name in servers}
    with ExitStack() as stack:
        urls = {name: stack.enter_context(server).url for name, server in servers.items()}
        for name, counts in turns(urls, effort.rounds):
            answered = load(urls[name], "read", seconds=effort.seconds)
            if counts:
                rates[name].append(faultless(name, answered).rate)
    return rates


class Taker(BaseHTTPRequestHandler):
    """Takes everything, and keeps nothing."""

    def do_POST(self) -> None:
        """Answer 200."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing."""


@contextmanager
def collector() -> Generator[str]:
    """Take OTLP on a free port for as long as the block lasts; yield the URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Taker) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
