"""How many requests a second does one worker on one core answer, for 32 clients?"""

from contextlib import ExitStack
from statistics import median

from matplotlib.figure import Figure

from benchmarks.database import fill
from benchmarks.load import Load, load
from benchmarks.measures import Effort
from benchmarks.report import Section, Target, picture, spread, table
from benchmarks.servers import CONTENDERS, serving

WRITERS = ["service", "article", "usual", "driver"]
NAMES = {
    "service": "the rendered service",
    "article": "the article",
    "usual": "session per request, pre-ping",
    "driver": "FastAPI + asyncpg pool",
    "framework": "FastAPI, no database",
}


def measure(effort: Effort) -> Section:
    """Measure reads of one user and writes, the contenders in turn, while the others wait."""
    fill()
    reads: dict[str, list[float]] = {contender: [] for contender in CONTENDERS}
    writes: dict[str, list[float]] = {contender: [] for contender in WRITERS}
    with ExitStack() as stack:
        servers = {contender: stack.enter_context(serving(contender)) for contender in CONTENDERS}
        for number in range(-1, effort.rounds):
            for kind, found in (("read", reads), ("write", writes)):
                for contender, rates in found.items():
                    answered = load(servers[contender].url, kind, seconds=effort.seconds)
                    if number >= 0:  # the first round warms up
                        rates.append(faultless(contender, answered).rate)
    rows = [
        [NAMES[contender], spread(reads[contender]), spread(writes[contender]) if contender in writes else ""]
        for contender in CONTENDERS
    ]
    return Section(
        "Throughput",
        [
            ratio("GET /users/{id}, against the article", reads, "article", 1.7),
            ratio("GET /users/{id}, against session per request with pre-ping", reads, "usual", 1.5),
            ratio("GET /users/{id}, against FastAPI + asyncpg pool", reads, "driver", None),
            ratio("POST /users, against the article", writes, "article", 1.15),
            ratio("POST /users, against session per request with pre-ping", writes, "usual", None),
        ],
        [
            "Requests/s of one worker on one core, 32 clients: median, lowest and highest of "
            f"{effort.rounds} rounds of {effort.seconds:g} s.",
            table(["", "`GET /users/{id}`", "`POST /users`"], rows),
            picture("throughput", plot(reads, writes), "Requests a second of each contender"),
        ],
    )


def faultless(contender: str, found: Load) -> Load:
    """Return what was found.

    Raises:
        RuntimeError: not every request succeeded.
    """
    if found.unavailable or found.failed:
        raise RuntimeError(f"{contender}: not every request succeeded: {found}")
    return found


def ratio(what: str, rates: dict[str, list[float]], other: str, wanted: float | None) -> Target:
    """Compare the service with another contender: the median of the ratios within each round."""
    ratios = [mine / theirs for mine, theirs in zip(rates["service"], rates[other], strict=True)]
    met = None if wanted is None else median(ratios) >= wanted
    return Target(what, f">= {wanted} x" if wanted else "", f"{spread(ratios, 2)} x", met)


def plot(reads: dict[str, list[float]], writes: dict[str, list[float]]) -> Figure:
    """Draw a bar for each contender."""
    figure = Figure(figsize=(8, 2.6), layout="constrained")
    for axes, title, rates in zip(
        figure.subplots(1, 2), ("GET /users/{id}", "POST /users"), (reads, writes), strict=True
    ):
        names = list(reversed(rates))
        middles = [median(rates[name]) for name in names]
        around = [
            [middle - min(rates[name]) for middle, name in zip(middles, names, strict=True)],
            [max(rates[name]) - middle for middle, name in zip(middles, names, strict=True)],
        ]
        colours = ["#d1495b" if name == "service" else "#8d99ae" for name in names]
        axes.barh([NAMES[name] for name in names], middles, xerr=around, color=colours)
        axes.set_title(title)
        axes.set_xlabel("requests/s")
    return figure
