"""Does every contender do the right thing? One that does not is not worth timing."""

import time

import httpx2

from benchmarks.contenders.application import GC_THRESHOLD
from benchmarks.database import TABLE, fill, value_of
from benchmarks.load import output_of
from benchmarks.measures import Effort
from benchmarks.report import Section
from benchmarks.servers import CONTENDERS, PYTHON, serving

COMMIT = 0.3  # seconds, for the contender that commits after its response, as most templates do


def measure(_effort: Effort) -> Section:
    """Check every contender.

    Raises:
        RuntimeError: one of them answers or stores something else than it should.
    """
    expect("service", "cycles looked for", cycles("app.main"), GC_THRESHOLD)
    for contender in CONTENDERS:
        fill()
        with serving(contender) as server, httpx2.Client(base_url=server.url) as client:
            expect(contender, "read", client.get("/users/1").json()["email"], "user1@example.com")
            if contender != "framework":
                check_rows(contender, client)
    return Section(
        "Check", text=["Every contender returned, and stored, the right rows before it was timed."]
    )


def cycles(module: str) -> int:
    """Return after how many new objects Python looks for reference cycles, once a module is imported."""
    code = f"import gc, {module}; print(gc.get_threshold()[0])"
    return int(output_of([str(PYTHON), "-c", code]))


def check_rows(contender: str, client: httpx2.Client) -> None:
    """Create, read, page through, and delete."""
    created = client.post("/users", json={"email": "new@example.com", "full_name": "New"}).json()
    time.sleep(COMMIT)
    stored = f"SELECT email || full_name FROM {TABLE} WHERE id = {created['id']}"
    expect(contender, "create", value_of(stored), "new@example.comNew")
    expect(contender, "read what was created", client.get(f"/users/{created['id']}").json(), created)
    page = client.get("/users", params={"after": 2, "limit": 3}).json()
    expect(contender, "list", [user["id"] for user in page["items"]], [3, 4, 5])
    expect(contender, "next page", page["next"], 5)
    expect(contender, "delete", client.delete(f"/users/{created['id']}").status_code, 204)
    time.sleep(COMMIT)
    expect(contender, "read what was deleted", client.get(f"/users/{created['id']}").status_code, 404)
    expect(contender, "rows left", value_of(f"SELECT count(*) FROM {TABLE}"), 1_000)


def expect(contender: str, what: str, found: object, expected: object) -> None:
    """Compare.

    Raises:
        RuntimeError: they differ.
    """
    if found != expected:
        raise RuntimeError(f"{contender}, {what}: {found!r}, not {expected!r}")
