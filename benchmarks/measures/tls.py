"""What does TLS cost: a read, and a connection?"""

import asyncio
import os
import time
from statistics import median

import asyncpg
from alembic import command
from alembic.config import Config

from app.config import get_settings
from benchmarks.database import fill
from benchmarks.measures import Effort
from benchmarks.measures.telemetry import compare
from benchmarks.measures.throughput import ratio
from benchmarks.report import Section, spread, table
from benchmarks.servers import serving

CONNECTIONS = 30  # in each round


def measure(effort: Effort) -> Section:
    """Compare connections with TLS and without, to the same server."""
    from service.tls import DEBIAN, VERSIONS, tls_server  # noqa: PLC0415 these read the settings

    if not VERSIONS:
        return Section("TLS", [], [f"Not measured: this needs Debian's PostgreSQL in {DEBIAN}."])
    kept = os.environ["DATABASE_URL"]
    with tls_server() as server:
        urls = {"service": server.url("sslmode=disable"), "tls": server.url("sslmode=require")}
        try:
            os.environ["DATABASE_URL"] = urls["service"]
            get_settings.cache_clear()
            command.upgrade(Config(toml_file="pyproject.toml"), "head")
            fill()
            reads = compare(
                {name: serving("service", DATABASE_URL=url) for name, url in urls.items()}, effort
            )
            opened = asyncio.run(connect(urls, effort.rounds))
        finally:
            os.environ["DATABASE_URL"] = kept
            get_settings.cache_clear()
    rows = [
        [name, spread(reads[which]), spread(opened[which], 1)]
        for name, which in (("without TLS", "service"), ("with TLS", "tls"))
    ]
    return Section(
        "TLS",
        [ratio("reads without TLS, against with TLS", reads, "tls", None)],
        [
            f"Debian's PostgreSQL {VERSIONS[-1][0]}; one worker on one core, 32 clients. The time of a "
            "connection includes SCRAM.",
            table(["", "reads/s", "ms for a connection"], rows),
        ],
    )


async def connect(urls: dict[str, str], rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of a connection, the median of each round."""
    milliseconds: dict[str, list[float]] = {name: [] for name in urls}
    for number in range(rounds):
        for name in list(urls) if number % 2 else reversed(urls):
            times = []
            for _ in range(CONNECTIONS):
                begin = time.perf_counter()
                connection = await asyncpg.connect(urls[name])
                times.append(1000 * (time.perf_counter() - begin))
                await connection.close()
            milliseconds[name].append(median(times))
    return milliseconds
