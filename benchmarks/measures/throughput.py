"""How much CPU does a request take in one worker, and how many requests a second does the worker answer?"""

from collections.abc import Collection
from functools import partial
from statistics import median

from benchmarks.database import fill
from benchmarks.measures import Effort
from benchmarks.measures.cost import Costs, against, costs, each_round
from benchmarks.report import Section, Target, bars, picture, spread, table
from benchmarks.servers import CONTENDERS, NAMES, PEERS, serving

# What is measured: the load's kind (see load.py), the word and route for it, and whom it is sent to.
KINDS: dict[str, tuple[str, str, Collection[str]]] = {
    "read": ("read", "`GET /users/{id}`", list(CONTENDERS)),
    "write": ("write", "`POST /users`", [name for name in CONTENDERS if name != "framework"]),
}
# Of the best peer's CPU, and of the driver's. None: reported.
PEER_LIMITS = {"read": 0.65, "write": 0.60}
DRIVER_LIMITS = {"read": 2.6, "write": None}


def measure(effort: Effort) -> Section:
    """Measure every kind of request, the contenders in turn."""
    fill()
    setups = {contender: partial(serving, contender) for contender in CONTENDERS}
    found = costs(setups, {kind: contenders for kind, (_, _, contenders) in KINDS.items()}, effort)
    rows = [
        [
            NAMES[contender],
            *(
                spread(values) if values else ""
                for kind in KINDS
                for each in (found[kind].get(contender),)
                for values in ((each.cpu, each.rate) if each else ((), ()))
            ),
        ]
        for contender in CONTENDERS
    ]
    header = [
        "",
        *(text for _, route, _ in KINDS.values() for text in (f"us: {route}", f"requests/s: {route}")),
    ]
    return Section(
        "CPU of a request",
        [target for kind in PEER_LIMITS for target in targets(kind, found[kind])],
        [
            f"Microseconds of the server's CPU for each request, and requests a second. {each_round(effort)}",
            table(header, rows),
        ],
        columns={
            f"us of CPU a {word}": {name: f"{median(each.cpu):,.0f}" for name, each in found[kind].items()}
            for kind, (word, _, _) in KINDS.items()
        },
        opening=picture(
            "throughput",
            bars(
                {
                    f"CPU of a {word}, us": {name: each.cpu for name, each in found[kind].items()}
                    for kind, (word, _, _) in KINDS.items()
                }
            ),
            "Microseconds of CPU for a read and for a write, by contender; less is better",
        ),
    )


def targets(kind: str, found: Costs) -> list[Target]:
    """Compare the service with the best peer, and with the driver and the article."""
    best = min(PEERS, key=lambda peer: median(found[peer].cpu))
    what = f"CPU of a {KINDS[kind][0]}, against"
    return [
        against(f"{what} the best peer: {NAMES[best]}", found, "service", best, PEER_LIMITS[kind]),
        against(f"{what} {NAMES['driver']}", found, "service", "driver", DRIVER_LIMITS[kind]),
        against(f"{what} {NAMES['orm']}", found, "service", "orm"),
        against(f"CPU of a {KINDS[kind][0]}: {NAMES['orm']}, against the best peer", found, "orm", best),
        against(f"{what} {NAMES['article']}", found, "service", "article"),
    ]
