"""How often does a request wait for PostgreSQL? A proxy between the two counts."""

import asyncio
import os
import time
from collections.abc import Callable
from functools import partial

import httpx2
from sqlalchemy import make_url

from benchmarks.database import fill
from benchmarks.measures import Effort
from benchmarks.report import Section, Target, table
from benchmarks.servers import NAMES, serving

REQUESTS = 10  # of each kind, after as many to warm up
WANTED = {"read": 1, "list": 1, "create": 3, "delete": 3}
CONTENDERS = [name for name in NAMES if name != "framework"]


def measure(_effort: Effort) -> Section:
    """Count the round trips of each kind of request."""
    counted = {contender: asyncio.run(count(contender)) for contender in CONTENDERS}
    targets = [
        Target(
            f"round trips: {kind}",
            str(wanted),
            f"{counted['service'][kind]:g}",
            counted["service"][kind] == wanted,
        )
        for kind, wanted in WANTED.items()
    ]
    rows = [[NAMES[name], *(f"{number:g}" for number in kinds.values())] for name, kinds in counted.items()]
    short = {name: f"{kinds['read']:g} and {kinds['create']:g}" for name, kinds in counted.items()}
    return Section(
        "Round trips",
        targets,
        ["How often a request waits for PostgreSQL.", table(["", *WANTED], rows)],
        columns={"round trips of a read and a write": short},
    )


async def count(contender: str) -> dict[str, float]:
    """Return the round trips of each kind of request to this contender."""
    # From the template's tests/. These read the settings, which need the DATABASE_URL that `database()` sets.
    from service.tools import proxied, text_of  # noqa: PLC0415

    async with proxied(make_url(os.environ["DATABASE_URL"])) as proxy:

        def requests() -> dict[str, float]:
            fill()
            with (
                serving(contender, DATABASE_URL=text_of(proxy.url)) as server,
                httpx2.Client(base_url=server.url) as client,
            ):
                return {kind: each(partial(send, client, kind)) for kind in WANTED}

        def each(request: Callable[[int], httpx2.Response]) -> float:
            for number in range(2 * REQUESTS):
                if number == REQUESTS:
                    time.sleep(0.2)  # some contenders go on after the response
                    proxy.round_trips = 0
                request(number).raise_for_status()
            time.sleep(0.2)
            return proxy.round_trips / REQUESTS

        return await asyncio.to_thread(requests)


def send(client: httpx2.Client, kind: str, number: int) -> httpx2.Response:
    """Send a request; the number is another each time."""
    match kind:
        case "read":
            return client.get("/users/1")
        case "list":
            return client.get("/users")
        case "create":
            return client.post("/users", json={"email": f"{number}@example.com"})
        case _:
            return client.delete(f"/users/{number + 1}")
