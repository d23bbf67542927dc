"""What does TLS cost: a read, and a connection?"""

import asyncio
import os
import time
from contextlib import ExitStack
from statistics import median

import asyncpg
from alembic import command
from alembic.config import Config

from app.config import get_settings
from benchmarks.database import fill
from benchmarks.load import load
from benchmarks.measures import STARTS, Effort, cpu_of, turns
from benchmarks.measures.throughput import faultless
from benchmarks.report import Section, Target, spread, table
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
            rates, cpu = read(urls, effort)
            opened = asyncio.run(connect(urls, effort.rounds))
        finally:
            os.environ["DATABASE_URL"] = kept
            get_settings.cache_clear()
    ratios = [tls / plain for tls, plain in zip(cpu["with TLS"], cpu["without TLS"], strict=True)]
    rows = [[name, spread(cpu[name]), spread(rates[name]), spread(opened[name], 1)] for name in urls]
    return Section(
        "TLS",
        [Target("CPU of the service a read, with TLS against without", "", f"{spread(ratios, 2)} x")],
        [
            f"Debian's PostgreSQL {VERSIONS[-1][0]}; one worker on one core, 32 clients: median, lowest and "
            f"highest of {effort.rounds} rounds of {effort.seconds:g} s in turn, on {STARTS} starts of each "
            "service. The time of a connection includes SCRAM.",
            table(["", "us of CPU a read", "reads/s", "ms for a connection"], rows),
        ],
    )


def read(urls: dict[str, str], effort: Effort) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return the reads a second, and the microseconds of the service's CPU a read, of each round."""
    rates: dict[str, list[float]] = {name: [] for name in urls}
    cpu: dict[str, list[float]] = {name: [] for name in urls}
    for start in range(STARTS):
        with ExitStack() as stack:
            in_turn = list(urls) if start % 2 else list(reversed(urls))
            servers = {
                name: stack.enter_context(serving("service", DATABASE_URL=urls[name])) for name in in_turn
            }
            for name, counts in turns(in_turn, effort.rounds // STARTS):
                before = cpu_of(servers[name].pid)
                answered = faultless(name, load(servers[name].url, "read", seconds=effort.seconds))
                if counts:
                    rates[name].append(answered.rate)
                    cpu[name].append(1e6 * (cpu_of(servers[name].pid) - before) / answered.ok)
    return rates, cpu


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
