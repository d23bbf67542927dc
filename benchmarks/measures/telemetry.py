"""What does telemetry cost when it is off, and when it is on?"""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from benchmarks.database import fill
from benchmarks.load import load
from benchmarks.measures import Effort
from benchmarks.measures.throughput import faultless, ratio
from benchmarks.report import Section, spread, table
from benchmarks.servers import serving


def measure(effort: Effort) -> Section:
    """Measure reads of the service with telemetry off, on, and taken out, in turn."""
    fill()
    rates: dict[str, list[float]] = {"service": [], "plain": [], "on": []}
    with collector() as url, ExitStack() as stack:
        servers = {
            "service": stack.enter_context(serving("service")),
            "plain": stack.enter_context(serving("plain")),
            "on": stack.enter_context(serving("service", OTEL_EXPORTER_OTLP_ENDPOINT=url)),
        }
        for number in range(-1, effort.rounds):
            for name, server in servers.items():
                answered = load(server.url, "read", seconds=effort.seconds)
                if number >= 0:  # the first round warms up
                    rates[name].append(faultless(name, answered).rate)
    names = {"service": "off", "plain": "taken out", "on": "on: traces and metrics of every request"}
    rows = [[names[name], spread(found)] for name, found in rates.items()]
    return Section(
        "Telemetry",
        [
            ratio("telemetry off, against taken out", rates, "plain", 0.97),
            ratio("telemetry off, against on", rates, "on", None),
        ],
        ["Reads/s of one worker on one core, 32 clients.", table(["telemetry", "`GET /users/{id}`"], rows)],
    )


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
