"""How long do requests take, up to far more clients than the pool has connections?"""

import asyncio
from random import randrange

from matplotlib.figure import Figure

from benchmarks.clients import keep_asking
from benchmarks.database import fill
from benchmarks.load import Load, load
from benchmarks.measures import Effort
from benchmarks.measures.throughput import NAMES
from benchmarks.report import Section, Target, picture, table
from benchmarks.servers import serving

CLIENTS = [32, 256, 1_000]
CONTENDERS = ["service", "article", "usual"]
SECONDS = 4
ROUNDS = 2  # the one with the lower p99 counts: what else a machine does can only add to it


def measure(_effort: Effort) -> Section:
    """Measure reads."""
    found = {
        clients: {contender: best(contender, clients) for contender in CONTENDERS} for clients in CLIENTS
    }
    targets = [
        Target(
            f"p99 of a read, {clients} clients, against the article",
            "not above, no errors but 503s",
            f"{mine.p99:.0f} ms against {loads['article'].p99:.0f} ms, errors: {errors(mine)}",
            mine.p99 <= loads["article"].p99 and not mine.failed,
        )
        for clients, loads in found.items()
        for mine in (loads["service"],)
    ]
    rows = [
        [NAMES[contender], f"{clients:,}", f"{of.rate:,.0f}", f"{of.p50:,.0f}", f"{of.p99:,.0f}", errors(of)]
        for contender in CONTENDERS
        for clients, of in ((clients, found[clients][contender]) for clients in CLIENTS)
    ]
    return Section(
        "Latency",
        targets,
        [
            "`GET /users/{id}`, milliseconds. Every client sends its next request when it has its answer: "
            "past saturation, more clients wait longer. Where a few wait for seconds while most do not, "
            "newcomers take the connections that others have waited for.",
            table(["", "clients", "requests/s", "p50", "p99", "errors"], rows),
            picture("latency", plot(found), "The 99th percentile by number of clients"),
        ],
    )


def best(contender: str, clients: int) -> Load:
    """Return the better of some rounds, each on a fresh and warmed process."""
    return min((one_round(contender, clients) for _ in range(ROUNDS)), key=lambda found: found.p99)


def one_round(contender: str, clients: int) -> Load:
    """Return what so many clients see."""
    fill()
    with serving(contender) as server:
        load(server.url, "read", seconds=1)
        return asyncio.run(keep_asking(server.url, lambda: f"/users/{randrange(1, 1_000)}", clients, SECONDS))


def errors(found: Load) -> str:
    """Return the number of errors, by kind."""
    return (
        f"{found.unavailable} x 503, {found.failed} others" if found.unavailable or found.failed else "none"
    )


def plot(found: dict[int, dict[str, Load]]) -> Figure:
    """Draw a line for each contender."""
    figure = Figure(figsize=(5, 2.8), layout="constrained")
    axes = figure.subplots()
    for contender in CONTENDERS:
        axes.plot(
            CLIENTS, [found[clients][contender].p99 for clients in CLIENTS], "o-", label=NAMES[contender]
        )
    axes.set(xscale="log", yscale="log", xlabel="clients", ylabel="p99, ms")
    axes.set_xticks(CLIENTS, [str(clients) for clients in CLIENTS])
    axes.legend()
    return figure
