"""What does the proxy before the service cost, and what uvicorn's other parser?"""

import asyncio
from collections.abc import Generator
from contextlib import ExitStack, contextmanager

from benchmarks.clients import keep_asking
from benchmarks.load import Load
from benchmarks.measures import STARTS, Effort, cpu_of, turns
from benchmarks.measures.cost import each_round, faultless
from benchmarks.report import Section, Target, spread, table
from benchmarks.servers import Server, serving

CLIENTS = 32
ALONE = 0.1  # seconds: nginx closes a connection after 1,000 requests
SETUPS = ["httptools", "h11", "nginx"]
NAMES = {
    "httptools": "the service alone (httptools)",
    "h11": "the service alone, with `UVICORN_HTTP=h11`",
    "nginx": "behind nginx",
}
Rounds = dict[str, list[float]]


def measure(effort: Effort) -> Section:
    """Measure one service in three setups."""
    from service.proxies import NGINX  # noqa: PLC0415 it reads the settings

    if NGINX is None:
        return Section("Proxy", [], ["Not measured: this needs the program nginx."])
    found: list[Rounds] = [{name: [] for name in SETUPS} for _ in range(4)]
    service, proxy, rates, latencies = found
    for start in range(STARTS):
        with ExitStack() as stack:
            in_turn = SETUPS if start % 2 else list(reversed(SETUPS))
            setups = {name: stack.enter_context(setup(name)) for name in in_turn}
            for name, counts in turns(in_turn, effort.rounds_each_start):
                server, worker = setups[name]
                before = [cpu_of(process) for process in (server.pid, worker)]
                answered = ask(server.url, CLIENTS, effort.seconds)
                spent = [cpu_of(process) for process in (server.pid, worker)]
                alone = ask(server.url, 1, ALONE)
                if counts:
                    rates[name].append(answered.rate)
                    service[name].append(1e6 * (spent[0] - before[0]) / answered.ok)
                    proxy[name].append(1e6 * (spent[1] - before[1]) / answered.ok)
                    latencies[name].append(alone.p50)
    rows = [
        [
            NAMES[name],
            spread(service[name]),
            spread(proxy[name]) if name == "nginx" else "",
            spread(rates[name]),
            spread(latencies[name], 2),
        ]
        for name in SETUPS
    ]
    return Section(
        "Proxy",
        [
            against("h11", "CPU of the service a request, h11 against httptools", service),
            against("nginx", "CPU of the service a request, behind nginx against alone", service),
            against("h11", "p50 of a request, h11 against httptools", latencies),
            against("nginx", "p50 of a request, behind nginx against alone", latencies),
        ],
        [
            f"`GET /health/live`, which takes no database. {each_round(effort)} nginx and the load have the "
            "other cores. The latency is of one client.",
            table(["", "us of the service's CPU", "us of nginx's CPU", "requests/s", "p50, ms"], rows),
        ],
    )


def against(name: str, what: str, found: Rounds) -> Target:
    """Return how much dearer a setup is than the service alone, in each round."""
    ratios = [dear / cheap for dear, cheap in zip(found[name], found["httptools"], strict=True)]
    return Target(what, "", f"{spread(ratios, 2)} x")


@contextmanager
def setup(name: str) -> Generator[tuple[Server, int]]:
    """Serve; yield where that is and which process serves, and the process before it (or the same)."""
    from service.proxies import proxied  # noqa: PLC0415 it reads the settings

    with serving("service", "--http", "h11" if name == "h11" else "httptools") as server:
        if name != "nginx":
            yield server, server.pid
            return
        with proxied(server.url) as proxy:
            yield Server(proxy.url, server.pid), proxy.worker


def ask(url: str, clients: int, seconds: float) -> Load:
    """Let so many clients ask for what takes no database: the rest of a request is the same in each setup."""
    return faultless(url, asyncio.run(keep_asking(url, lambda: "/health/live", clients, seconds)))
