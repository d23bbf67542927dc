"""Does a worker grow?"""

from matplotlib.figure import Figure

from benchmarks.database import fill
from benchmarks.load import load
from benchmarks.measures import Effort
from benchmarks.report import Section, Target, picture
from benchmarks.servers import NAMES, serving

WARM_UP, REQUESTS = 5_000, 20_000
CONTENDERS = ["service", "article"]
LIMIT = 1.0  # MB


def measure(_effort: Effort) -> Section:
    """Follow the memory of a worker."""
    curves = {contender: follow(contender) for contender in CONTENDERS}
    growth = {contender: curve[-1][1] - curve[0][1] for contender, curve in curves.items()}
    target = Target(
        f"growth in {REQUESTS:,} requests",
        f"< {LIMIT:g} MB",
        f"{growth['service']:.1f} MB; the article {growth['article']:.1f} MB",
        growth["service"] < LIMIT,
    )
    text = (
        f"Resident memory of a worker, in the {REQUESTS:,} reads after {WARM_UP:,} to warm up. The article's "
        "registry keeps every task."
    )
    return Section(
        "Memory", [target], [text, picture("memory", plot(curves), "Memory by number of requests")]
    )


def follow(contender: str) -> list[tuple[int, float]]:
    """Return (requests, MB) from the end of the warm-up on."""
    fill()
    with serving(contender) as server:
        sent = 0
        while sent < WARM_UP:
            sent += load(server.url, "read", seconds=2).ok
        curve = [(0, server.memory)]
        while curve[-1][0] < REQUESTS:
            done = curve[-1][0] + load(server.url, "read", seconds=4).ok
            curve.append((done, server.memory))
        return curve


def plot(curves: dict[str, list[tuple[int, float]]]) -> Figure:
    """Draw a line for each contender."""
    figure = Figure(figsize=(5, 2.8), layout="constrained")
    axes = figure.subplots()
    for contender, curve in curves.items():
        requests, memory = zip(*curve, strict=True)
        axes.plot(requests, memory, "o-", label=NAMES[contender])
    axes.set(xlabel="requests", ylabel="MB", ylim=(0, None))
    axes.legend()
    return figure
