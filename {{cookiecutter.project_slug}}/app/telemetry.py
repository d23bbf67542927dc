"""OpenTelemetry: a span for each statement, and the numbers of the pools.

FastAPI has the spans and metrics of requests, and sets up what the variables OTEL_* ask for. Where they ask
for nothing, nothing of this is called. The names are those of the conventions:
https://opentelemetry.io/docs/specs/semconv/database/
"""

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy import Engine, event

from app.driver import DriverConnection
from app.pool import FairPool

PLACEHOLDERS = ("ProxyTracerProvider", "_ProxyMeterProvider")  # for a provider that was not set
STATE = "db.client.connection.state"

Look = Callable[[CallbackOptions], list[Observation]]
Run = Callable[..., bool]

tracer = trace.get_tracer("app")
meter = metrics.get_meter("app")
wait_time = meter.create_histogram(
    "db.client.connection.wait_time",
    "s",
    "How long it took to get a connection from the pool, or to open it.",
    explicit_bucket_boundaries_advisory=[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10],
)
# Seconds for an export, of which the service does some when it ends: a collector that is away holds that up.
os.environ.setdefault("OTEL_EXPORTER_OTLP_TIMEOUT", "2")


def instrument(engine: Engine, name: str, run: Run) -> Run:
    """Observe an engine, whose pool gets this name; return what runs its statements, in spans.

    Where nothing is collected, the engine is left alone, and `run` is what is returned.
    """
    if type(metrics.get_meter_provider()).__name__ not in PLACEHOLDERS and isinstance(engine.pool, FairPool):
        observe_pool(engine.pool, name)
    if type(trace.get_tracer_provider()).__name__ in PLACEHOLDERS:
        return run
    event.listen(engine, "do_connect", trace_transactions)

    def run_in_span(execute: Callable[..., None], statement: str, *parameters_and_context: Any) -> bool:
        with span_of(statement):
            return run(execute, statement, *parameters_and_context)

    return run_in_span


@contextmanager
def span_of(statement: str) -> Generator[None]:
    """Make a span of a statement, with its text and none of its parameters."""
    operation = (statement.split(maxsplit=1) or [""])[0].rstrip(";").upper()
    attributes = {"db.system.name": "postgresql", "db.operation.name": operation, "db.query.text": statement}
    span = tracer.start_span(operation, kind=SpanKind.CLIENT, attributes=attributes)
    try:
        yield
    except BaseException as error:
        span.set_attribute("error.type", type(error).__name__)
        if state := getattr(error, "sqlstate", None):
            span.set_attribute("db.response.status_code", state)
        span.set_status(StatusCode.ERROR)
        raise
    finally:
        span.end()


class TracedConnection(DriverConnection):
    """A connection whose BEGIN, COMMIT and ROLLBACK have spans as well: a commit is what takes longest."""

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109 as asyncpg has it
        """Execute `query` and return PostgreSQL's command tag."""
        with span_of(query):
            return await super().execute(query, *args, timeout=timeout)


def trace_transactions(_dialect: Any, _record: Any, _args: Any, parameters: dict[str, Any]) -> None:
    """Make the engine's next connection a traced one."""
    parameters["connection_class"] = TracedConnection


def observe_pool(pool: FairPool, name: str) -> None:
    """Report the connections of a pool, and who waits for them."""
    named = {"db.client.connection.pool.name": name}

    def observed(look: Callable[[], int], **attributes: str) -> Look:
        return lambda _: [Observation(look(), named | attributes)]

    used = observed(pool.checkedout, **{STATE: "used"})
    idle = observed(pool.checkedin, **{STATE: "idle"})
    meter.create_observable_up_down_counter("db.client.connection.count", [used, idle], "{connection}")
    limit = observed(lambda: pool.limit)
    meter.create_observable_up_down_counter("db.client.connection.max", [limit], "{connection}")
    waiting = observed(lambda: pool.waiting)
    meter.create_observable_up_down_counter("db.client.connection.pending_requests", [waiting], "{request}")
    timeouts = observed(lambda: pool.timeouts)
    meter.create_observable_counter("db.client.connection.timeouts", [timeouts], "{timeout}")

    @event.listens_for(pool, "checkout")
    def record_wait(_connection: Any, record: Any, _proxy: Any) -> None:
        wait_time.record(record.info.pop("waited", 0.0), named)
