"""What does telemetry cost when it is off, and when it is on?"""

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from benchmarks.database import fill
from benchmarks.measures import Effort
from benchmarks.measures.cost import against, costs, each_round
from benchmarks.report import Section, spread, table
from benchmarks.servers import serving


def measure(effort: Effort) -> Section:
    """Measure reads of the service with telemetry off, taken out, and on."""
    fill()
    with collector() as url:
        setups = {
            "off": partial(serving, "service"),
            "taken out": partial(serving, "plain"),
            "on: traces and metrics of every request": partial(
                serving, "service", OTEL_EXPORTER_OTLP_ENDPOINT=url
            ),
        }
        found = costs(setups, {"read": setups}, effort)["read"]
    off, out, on = setups
    return Section(
        "Telemetry",
        [
            against("CPU of a read, telemetry off against taken out", found, off, out, 1.03),
            against("CPU of a read, telemetry on against off", found, on, off),
        ],
        [
            each_round(effort),
            table(
                ["telemetry", "us of CPU a read", "reads/s"],
                [[name, spread(of.cpu), spread(of.rate)] for name, of in found.items()],
            ),
        ],
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
