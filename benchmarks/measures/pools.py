"""How many connections should a worker keep?"""

from statistics import median

from matplotlib.figure import Figure

from benchmarks.database import fill
from benchmarks.load import Load, load
from benchmarks.measures import Effort
from benchmarks.report import Section, picture, table
from benchmarks.servers import serving

SIZES = [5, 10, 20, 50]
SECONDS, ROUNDS = 2, 1


def measure(_effort: Effort) -> Section:
    """Measure reads and writes with pools of several sizes, in turn."""
    reads: dict[int, list[Load]] = {size: [] for size in SIZES}
    writes: dict[int, list[Load]] = {size: [] for size in SIZES}
    for _ in range(ROUNDS):
        for size in SIZES:
            fill()
            sizes = {"DATABASE_POOL_SIZE": str(size), "DATABASE_READ_POOL_SIZE": str(size)}
            with serving("service", **sizes) as server:
                load(server.url, "read", seconds=1)
                reads[size].append(load(server.url, "read", seconds=SECONDS))
                writes[size].append(load(server.url, "write", seconds=SECONDS))
    rows = [
        [
            str(size),
            *(f"{rate(kind[size]):,.0f}" for kind in (reads, writes)),
            *(f"{p99(kind[size]):.0f}" for kind in (reads, writes)),
        ]
        for size in SIZES
    ]
    return Section(
        "Pool size",
        text=[
            "32 clients, one worker. The worker is the limit, not the pools. Reads have a pool, writes have "
            "another. Here both have the same size. The default of each is 10. That leaves room for slower "
            "queries. Both together take about a fifth of a stock server.",
            table(["size of each", "reads/s", "writes/s", "p99 of a read, ms", "p99 of a write, ms"], rows),
            picture("pools", plot(reads, writes), "Requests a second by pool size"),
        ],
    )


def rate(rounds: list[Load]) -> float:
    """Return the median rate."""
    return median(found.rate for found in rounds)


def p99(rounds: list[Load]) -> float:
    """Return the median of the 99th percentiles."""
    return median(found.p99 for found in rounds)


def plot(reads: dict[int, list[Load]], writes: dict[int, list[Load]]) -> Figure:
    """Draw a line for reads and one for writes."""
    figure = Figure(figsize=(5, 2.8), layout="constrained")
    axes = figure.subplots()
    for name, rounds in (("GET /users/{id}", reads), ("POST /users", writes)):
        axes.plot(SIZES, [rate(rounds[size]) for size in SIZES], "o-", label=name)
    axes.set(xlabel="connections in each pool", ylabel="requests/s", ylim=(0, None))
    axes.legend()
    return figure
