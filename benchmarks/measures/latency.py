"""How long do requests take, with far more clients than the pool has connections?"""

import asyncio
from random import randrange

from benchmarks.clients import PATIENCE, keep_asking
from benchmarks.database import fill
from benchmarks.load import Load, load
from benchmarks.measures import Effort
from benchmarks.report import Section, Target, bars, picture, table
from benchmarks.servers import NAMES, PEERS, serving

SECONDS = {32: 2, 1_000: 4}  # by number of clients
MANY = max(SECONDS)
CONTENDERS = ["service", *PEERS, "article"]
ROUNDS = 2  # the one with the lower p99 counts: what else a machine does can only add to it
LIMIT = 0.5  # of the best peer's p99

Found = dict[int, dict[str, Load]]  # by number of clients, by contender


def measure(_effort: Effort) -> Section:
    """Measure reads."""
    rounds = [{name: one_round(name) for name in CONTENDERS} for _ in range(ROUNDS)]
    found: Found = {
        clients: {name: min((of[name][clients] for of in rounds), key=p99_of) for name in CONTENDERS}
        for clients in SECONDS
    }
    rows = [
        [NAMES[name], f"{clients:,}", f"{of.rate:,.0f}", f"{of.p50:,.0f}", f"{of.p99:,.0f}", errors(of)]
        for name in CONTENDERS
        for clients, of in ((clients, found[clients][name]) for clients in SECONDS)
    ]
    many = {name: f"{of.p99:,.0f}" + failures(of) for name, of in found[MANY].items()}
    panels = {
        f"p99 of a read, {clients:,} clients, ms": {name: [of.p99] for name, of in found[clients].items()}
        for clients in SECONDS
    }
    return Section(
        "Latency",
        [target(clients, found[clients]) for clients in SECONDS],
        [
            "`GET /users/{id}`, milliseconds. Each client sends its next request when it has its answer, so "
            "more clients wait longer. Where the 99th percentile is far above the 50th, newcomers take the "
            "connections that others have waited for. A request that has no answer "
            f"{PATIENCE} s after the end has failed. The better of {ROUNDS} rounds.",
            table(["", "clients", "requests/s", "p50", "p99", "errors"], rows),
            picture("latency", bars(panels), "The 99th percentile, by contender; less is better"),
        ],
        columns={f"p99 of a read with {MANY:,} clients, ms": many},
    )


def one_round(contender: str) -> dict[int, Load]:
    """Return what so many clients see, on a fresh and warmed process."""
    fill()
    with serving(contender) as server:
        load(server.url, "read", seconds=1)
        return {
            clients: asyncio.run(
                keep_asking(server.url, lambda: f"/users/{randrange(1, 1_000)}", clients, seconds)
            )
            for clients, seconds in SECONDS.items()
        }


def target(clients: int, found: dict[str, Load]) -> Target:
    """Compare the service with the best peer. The goal is about many clients."""
    mine, best = found["service"], min(PEERS, key=lambda peer: found[peer].p99)
    ratio = mine.p99 / found[best].p99
    return Target(
        f"p99 of a read, {clients:,} clients, against the best peer: {NAMES[best]}",
        f"<= {LIMIT} x, no errors but 503s" if clients == MANY else "",
        f"{ratio:.2f} x, errors: {errors(mine)}",
        (ratio <= LIMIT and not mine.failed) if clients == MANY else None,
    )


def p99_of(found: Load) -> float:
    """Return the 99th percentile."""
    return found.p99


def failures(found: Load) -> str:
    """Return the errors in brackets, if there are any."""
    return f" ({errors(found)})" if found.unavailable or found.failed else ""


def errors(found: Load) -> str:
    """Return the number of errors, by kind."""
    kinds = {"x 503": found.unavailable, "failed": found.failed}
    return ", ".join(f"{number:,} {kind}" for kind, number in kinds.items() if number) or "none"
