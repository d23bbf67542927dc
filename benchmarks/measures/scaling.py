"""What do a second worker, and a thousand times the rows, change?"""

from statistics import median

import httpx2

from benchmarks.database import fill
from benchmarks.load import load
from benchmarks.measures import Effort
from benchmarks.report import Section, Target, spread, table
from benchmarks.servers import serving

SECONDS, ROUNDS = 3, 2
WORKERS = [1, 2]
ROWS = [1_000, 100_000, 1_000_000]
PAGE = 50
PAGES = 300  # of each kind
LIMIT = 1.2


def measure(_effort: Effort) -> Section:
    """Measure workers, then rows."""
    rates: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    for _ in range(ROUNDS):
        for workers, found in rates.items():
            fill()
            with serving("service", "--workers", str(workers), cores="0-1") as server:
                load(server.url, "read", seconds=1)
                found.append(load(server.url, "read", seconds=SECONDS).rate)
    pages = {rows: first_and_last(rows) for rows in ROWS}
    gain = median(two / one for one, two in zip(rates[1], rates[2], strict=True))
    return Section(
        "Workers and rows",
        [
            Target("two workers against one, on two cores with the load and PostgreSQL", "", f"{gain:.2f} x"),
            *(
                Target(
                    f"last page against the first, {rows:,} rows",
                    f"<= {LIMIT} x",
                    f"{last / first:.2f} x",
                    last / first <= LIMIT,
                )
                for rows, (first, last) in pages.items()
            ),
        ],
        [
            "Reads/s, 32 clients. The workers may use both cores here, and share them with the load and "
            "PostgreSQL.",
            table(
                ["workers", "`GET /users/{id}`"],
                [[str(workers), spread(found)] for workers, found in rates.items()],
            ),
            f"Milliseconds for a page of {PAGE}, one client, median of {PAGES}.",
            table(
                ["rows", "first page", "last page"],
                [[f"{rows:,}", f"{first:.2f}", f"{last:.2f}"] for rows, (first, last) in pages.items()],
            ),
        ],
    )


def first_and_last(rows: int) -> tuple[float, float]:
    """Return the median milliseconds of the first page and of the last."""
    fill(rows)
    times: dict[int, list[float]] = {0: [], rows - PAGE: []}
    with serving("service") as server, httpx2.Client(base_url=server.url) as client:
        for number in range(PAGES + 50):
            for after, found in times.items():
                response = client.get("/users", params={"limit": PAGE, "after": after})
                if number >= 50:  # warm
                    found.append(response.elapsed.total_seconds() * 1000)
    first, last = times.values()
    return median(first), median(last)
