"""The measures, one after the other. `__main__.py` starts this in the environment of a rendered project."""

import argparse
import time
from collections.abc import Callable

from benchmarks.database import database
from benchmarks.measures import (
    Effort,
    check,
    latency,
    memory,
    pools,
    proxy,
    round_trips,
    scaling,
    script,
    start,
    telemetry,
    throughput,
    tls,
    ways,
)
from benchmarks.report import Section, document, write

MEASURES: dict[str, Callable[[Effort], Section]] = {
    "check": check.measure,
    "throughput": throughput.measure,
    "latency": latency.measure,
    "round_trips": round_trips.measure,
    "memory": memory.measure,
    "pools": pools.measure,
    "scaling": scaling.measure,
    "script": script.measure,
    "telemetry": telemetry.measure,
    "tls": tls.measure,
    "ways": ways.measure,
    "proxy": proxy.measure,
    "start": start.measure,
}


def main() -> None:
    """Read the command line, measure, and write or print the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument(
        "measures", nargs="*", metavar="MEASURE", help=f"one of {', '.join(MEASURES)}; without: all"
    )
    parser.add_argument("--rounds", type=int, default=Effort.rounds)
    parser.add_argument("--seconds", type=float, default=Effort.seconds, help="of each load")
    arguments = parser.parse_args()
    if unknown := set(arguments.measures) - set(MEASURES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}. Allowed: {', '.join(MEASURES)}.")
    effort = Effort(arguments.rounds, arguments.seconds)
    sections = []
    with database():
        for name in arguments.measures or MEASURES:
            begin = time.monotonic()
            sections.append(MEASURES[name](effort))
            print(f"{name}: {time.monotonic() - begin:.0f} s", flush=True)
        text = document(sections)
    if arguments.measures:
        print(text)
    else:
        write(text)


if __name__ == "__main__":
    main()
