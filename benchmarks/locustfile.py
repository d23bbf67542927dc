"""Locust's side of a load: what load.lua is for wrk. ROUTE and ARGUMENT are what wrk gets after `--`."""

import json
import os
from collections import Counter
from itertools import count
from random import randint
from typing import Any

from locust import FastHttpUser, events, task
from locust.env import Environment

ROUTE, ARGUMENT = os.environ["ROUTE"], os.environ["ARGUMENT"]
numbers = count(1)
statuses: Counter[str] = Counter()


class Client(FastHttpUser):
    """Sends one request after the other."""

    @task
    def send(self) -> None:
        """Read a user, or create one."""
        if "%d" in ROUTE:
            self.client.get(ROUTE % randint(1, int(ARGUMENT)), name="read")
        else:
            self.client.post(ROUTE, json={"email": f"{ARGUMENT}.{next(numbers)}@example.com"}, name="write")


@events.request.add_listener
def count_status(response: Any, exception: Exception | None, **_: object) -> None:
    """Count an answer."""
    unavailable = getattr(response, "status_code", 0) == 503
    statuses["unavailable" if unavailable else "failed" if exception else "ok"] += 1


@events.quitting.add_listener
def report(environment: Environment, **_: object) -> None:
    """Print the results as JSON."""
    total = environment.stats.total
    seconds = (total.last_request_timestamp or 0) - total.start_time
    counts = {each: statuses[each] for each in ("ok", "unavailable", "failed")}
    times = {"p50": total.get_response_time_percentile(0.5), "p99": total.get_response_time_percentile(0.99)}
    print(json.dumps({"seconds": seconds, **counts, **times}))
