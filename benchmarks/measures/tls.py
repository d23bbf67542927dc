"""What does TLS cost: a read, and a connection?"""

import asyncio
import os
import time
from functools import partial
from statistics import median

import asyncpg
from alembic import command
from alembic.config import Config

from app.config import get_settings
from benchmarks.database import fill
from benchmarks.measures import Effort
from benchmarks.measures.cost import against, costs, each_round
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
        urls = {"without TLS": server.url("sslmode=disable"), "with TLS": server.url("sslmode=require")}
        try:
            os.environ["DATABASE_URL"] = urls["without TLS"]
            get_settings.cache_clear()
            command.upgrade(Config(toml_file="pyproject.toml"), "head")
            fill()
            setups = {name: partial(serving, "service", DATABASE_URL=url) for name, url in urls.items()}
            found = costs(setups, {"read": urls}, effort)["read"]
            opened = asyncio.run(connect(urls, effort.rounds))
        finally:
            os.environ["DATABASE_URL"] = kept
            get_settings.cache_clear()
    rows = [[name, spread(of.cpu), spread(of.rate), spread(opened[name], 1)] for name, of in found.items()]
    return Section(
        "TLS",
        [against("CPU of a read, with TLS against without", found, "with TLS", "without TLS")],
        [
            f"Debian's PostgreSQL {VERSIONS[-1][0]}. {each_round(effort)} The time of a connection includes "
            "SCRAM.",
            table(["", "us of CPU a read", "reads/s", "ms for a connection"], rows),
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
