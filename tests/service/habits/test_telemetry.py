"""A collector on loopback receives spans and pool metrics, and no data."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from httpx2 import Client
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from app.db import DatabaseSessionManager, telemetry
from service.servers import served
from service.tools import wait_for

SECRET = "ada.lovelace@example.com"


class Collector:
    """What was received."""

    def __init__(self) -> None:
        self.url = ""
        self.bodies: list[bytes] = []
        self.spans: list[Span] = []
        self.metrics: list[Metric] = []

    def take(self, path: str, body: bytes) -> None:
        self.bodies.append(body)
        if path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        elif path == "/v1/metrics":
            for metrics in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.metrics += [metric for scope in metrics.scope_metrics for metric in scope.metrics]

    def span(self, name: str, of: Span | None = None) -> Span | None:
        """Return the first span of this name, in the trace of another."""
        traced = [span for span in self.spans if of is None or span.trace_id == of.trace_id]
        return next((span for span in traced if span.name == name), None)

    def values(self, name: str) -> dict[str, int]:
        """Return the latest values of a metric, by the state that they are of."""
        points = [point for metric in self.metrics if metric.name == name for point in metric.sum.data_points]
        return {attributes_of(point).get("db.client.connection.state", ""): point.as_int for point in points}


def attributes_of(item: Any) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in item.attributes}


@contextmanager
def collecting() -> Generator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.take(self.path, self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        collector.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def collector(database: DatabaseSessionManager) -> Generator[Collector]:
    with collecting() as collector:
        yield collector


def variables(collector: Collector) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        "OTEL_SERVICE_NAME": "tested",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_METRIC_EXPORT_INTERVAL": "100",
    }


async def test_a_request_has_a_span_and_its_statements_have_theirs(collector: Collector) -> None:
    with served(**variables(collector)) as server, Client(base_url=server.url) as client:
        assert client.get("/health/ready").status_code == 200  # SQLAlchemy's first connection asks more
        assert client.post("/users", json={"email": SECRET}).status_code == 201
        assert client.post("/users", json={"email": SECRET}).status_code == 409
        assert client.get("/users").status_code == 200
        assert client.post("/test/raise", json=SECRET).status_code == 500
        read = wait_for(lambda: collector.span("GET /users"))
        query = wait_for(lambda: collector.span("SELECT", of=read))
        write = wait_for(lambda: collector.span("POST /users"))
        commit = wait_for(lambda: collector.span("COMMIT", of=write))
        wait_for(lambda: len([span for span in collector.spans if span.name == "INSERT"]) == 2)
    assert read.start_time_unix_nano <= query.start_time_unix_nano < query.end_time_unix_nano
    assert write.start_time_unix_nano <= commit.start_time_unix_nano < commit.end_time_unix_nano
    assert commit.end_time_unix_nano <= write.end_time_unix_nano
    attributes = attributes_of(query)
    assert attributes["db.system.name"] == "postgresql"
    assert attributes["db.query.text"].startswith("SELECT ")
    insert = [span for span in collector.spans if span.name == "INSERT"][1]
    assert (insert.kind, insert.status.code) == (Span.SPAN_KIND_CLIENT, Status.STATUS_CODE_ERROR)
    failed = attributes_of(insert)
    assert (failed["error.type"], failed["db.response.status_code"]) == ("UniqueViolationError", "23505")
    # All of it was sent when the server ended.
    assert not any(b"lovelace" in body for body in collector.bodies)


async def test_the_numbers_of_the_pool_are_reported(collector: Collector) -> None:
    pool = {"DATABASE_POOL_SIZE": "2", "DATABASE_MAX_OVERFLOW": "1", "DATABASE_POOL_TIMEOUT": "1"}
    with served(**variables(collector), **pool) as server, Client(base_url=server.url, timeout=30) as client:

        def sleep(seconds: float) -> None:
            client.get("/test/sleep", params={"seconds": seconds})

        threads = [threading.Thread(target=sleep, args=[2]) for _ in range(5)]
        for thread in threads:
            thread.start()
        wait_for(lambda: collector.values("db.client.connection.count").get("used") == 3)
        wait_for(lambda: collector.values("db.client.connection.pending_requests") == {"": 2})
        for thread in threads:
            thread.join()
        wait_for(lambda: collector.values("db.client.connection.count") == {"used": 0, "idle": 2})
        wait_for(lambda: collector.values("db.client.connection.timeouts") == {"": 2})
        assert collector.values("db.client.connection.max") == {"": 3}
        threads = [threading.Thread(target=sleep, args=[0.4]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    waits = [metric for metric in collector.metrics if metric.name == "db.client.connection.wait_time"]
    [point] = waits[-1].histogram.data_points
    assert attributes_of(point) == {"db.client.connection.pool.name": "primary"}
    assert point.explicit_bounds[0] == 0.001
    assert point.count >= 7
    assert point.sum > 0.1  # seconds, of the one that waited for one of three


async def test_how_long_statements_took_is_reported(collector: Collector) -> None:
    with served(**variables(collector)) as server, Client(base_url=server.url) as client:
        assert client.post("/users", json={"email": SECRET}).status_code == 201
        assert client.post("/users", json={"email": SECRET}).status_code == 409
        assert client.get("/users").status_code == 200
    latest = [metric for metric in collector.metrics if metric.name == "db.client.operation.duration"][-1]
    assert latest.unit == "s"
    bounds = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10]  # as the convention has them
    assert latest.histogram.data_points[0].explicit_bounds == bounds
    counts = {tuple(attributes_of(point).values()): point.count for point in latest.histogram.data_points}
    assert counts["postgresql", "INSERT"] == 1
    assert counts["postgresql", "INSERT", "UniqueViolationError", "23505"] == 1
    for operation in ("SELECT", "BEGIN", "COMMIT", "ROLLBACK"):
        assert counts["postgresql", operation] >= 1  # the service asks something at its start, too
    # No text, and nothing else that differs each time.
    assert {len(key) for key in counts} == {2, 4}


async def test_metrics_alone_are_reported_too(collector: Collector) -> None:
    alone = variables(collector) | {"OTEL_TRACES_EXPORTER": "none"}
    with served(**alone) as server, Client(base_url=server.url) as client:
        assert client.get("/users").status_code == 200
    assert "db.client.operation.duration" in {metric.name for metric in collector.metrics}
    assert collector.spans == []


@pytest.mark.parametrize("text", ["/* trace 7f */ SELECT 1", "-- x\nSELECT 1", "", "(SELECT 1)"])
def test_a_comment_is_no_operation(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[dict[str, str]] = []
    monkeypatch.setattr(telemetry.duration, "record", lambda _, attributes: recorded.append(attributes))
    with telemetry.reported(text):
        pass
    assert recorded == [{"db.system.name": "postgresql", "db.operation.name": "OTHER"}]


async def test_a_collector_that_is_away_costs_no_request_and_holds_up_no_end(collector: Collector) -> None:
    away = variables(collector) | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    with served(**away) as server, Client(base_url=server.url) as client:
        assert [client.get("/users").status_code for _ in range(20)] == [200] * 20
        server.process.terminate()
        server.process.wait(timeout=60)


@pytest.mark.usefixtures("database")
async def test_without_the_variables_nothing_is_set_up() -> None:
    with served() as server, Client(base_url=server.url) as client:
        assert client.get("/test/telemetry").raise_for_status().json() == {"engine": 0, "fastapi": False}
