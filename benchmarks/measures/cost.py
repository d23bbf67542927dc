"""The CPU of the server's process for each request: what differs least from one hour to the next."""

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from statistics import median

from benchmarks.load import CLIENTS, Load, load, whole
from benchmarks.measures import STARTS, Effort, cpu_of, turns
from benchmarks.report import Target, spread
from benchmarks.servers import Server


@dataclass
class Cost:
    """What each round found."""

    cpu: list[float] = field(default_factory=list)  # microseconds of the server's CPU a request
    rate: list[float] = field(default_factory=list)  # requests a second


Costs = dict[str, Cost]


def costs(
    setups: Mapping[str, Callable[[], AbstractContextManager[Server]]],
    kinds: Mapping[str, Collection[str]],
    effort: Effort,
) -> dict[str, Costs]:
    """Measure servers in turn, all of them started several times; `kinds` says who gets which load."""
    found = {kind: {name: Cost() for name in names} for kind, names in kinds.items()}
    for start in range(STARTS):
        with ExitStack() as stack:
            in_turn = list(setups) if start % 2 else list(reversed(list(setups)))
            servers = {name: stack.enter_context(setups[name]()) for name in in_turn}
            for name, counts in turns(in_turn, effort.rounds_each_start):
                for kind in (kind for kind, names in kinds.items() if name in names):
                    before = cpu_of(servers[name].pid)
                    answered = faultless(name, load(servers[name].url, kind, seconds=effort.seconds))
                    spent = cpu_of(servers[name].pid) - before
                    if counts:
                        found[kind][name].cpu.append(1e6 * spent / answered.ok)
                        found[kind][name].rate.append(answered.rate)
    return found


def faultless(name: str, found: Load) -> Load:
    """Return what was found.

    Raises:
        RuntimeError: not every request succeeded.
    """
    if found.unavailable or found.failed or not found.ok:
        raise RuntimeError(f"{name}: not every request succeeded: {found}")
    return found


def against(what: str, found: Costs, one: str, other: str, limit: float | None = None) -> Target:
    """Compare the CPU of two: the median of the ratios within each round."""
    ratios = [mine / theirs for mine, theirs in zip(found[one].cpu, found[other].cpu, strict=True)]
    met = None if limit is None else median(ratios) <= limit
    return Target(what, f"<= {limit} x" if limit else "", f"{spread(ratios, 2)} x", met)


def each_round(effort: Effort) -> str:
    """Return what the figures of a table are of."""
    return (
        f"Median, lowest and highest of {STARTS * effort.rounds_each_start} rounds of "
        f"{whole(effort.seconds)} in turn, on {STARTS} starts of each server. One worker on one core, "
        f"{CLIENTS} clients."
    )
