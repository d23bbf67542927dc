"""What is measured: each module has a `measure` that returns its section of RESULTS.md."""

import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from psutil import Process

STARTS = 4  # of each setup, where one start differs from the next by more than what is measured


@dataclass(frozen=True)
class Effort:
    """How often and how long each thing is measured."""

    rounds: int = 8
    seconds: float = 1

    @property
    def rounds_each_start(self) -> int:
        """The rounds of each of several starts."""
        return max(1, self.rounds // STARTS)


def turns(names: Iterable[str], rounds: int) -> Iterator[tuple[str, bool]]:
    """Yield who is measured next, each of them first in every other round, and whether that counts.

    The first round does not: it warms up.
    """
    names = list(names)
    for number in range(-1, rounds):
        for name in names if number % 2 else reversed(names):
            yield name, number >= 0


def cpu_of(pid: int) -> float:
    """Return the seconds of CPU that a process has used, in all its threads."""
    if sys.platform == "linux":
        return time.clock_gettime(~pid << 3 | 2)  # see clock_getcpuclockid(3). /proc counts in steps of 10 ms
    times = Process(pid).cpu_times()
    return float(times.user + times.system)
