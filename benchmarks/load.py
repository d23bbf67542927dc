"""The load: so many clients, each of which sends its next request when it has the answer to the last."""

import json
import os
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
WRK = shutil.which("wrk")
CLIENTS = "32"
USERS = "1000"  # that database.fill makes
READS = {
    "read": "/users/%d",
    "hot": "/hot/%d",
    "tenant": "/tenant/%d",
}  # the path of each kind of read, with a user's number
LOCUST = ["uv", "tool", "run", "locust>=2.43,<3"]


@dataclass(frozen=True)
class Load:
    """What was answered, and how fast. Times are milliseconds, but for `seconds`."""

    seconds: float
    ok: int
    unavailable: int  # 503
    failed: int  # any other error
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        """Successes a second."""
        return self.ok / self.seconds


def load(url: str, kind: str, *, seconds: float) -> Load:
    """Read users at random (`kind` is one of READS), or create users (write), for so many whole seconds."""
    path, argument = (READS[kind], USERS) if kind in READS else ("/users", secrets.token_hex(8))
    if WRK is None:
        return with_locust(url, path, argument, seconds)
    options = ["--threads", "1", "--connections", CLIENTS, "--duration", whole(seconds)]
    options += ["--timeout", "60s", "--script", str(HERE / "load.lua")]
    return Load(**json.loads(output_of([WRK, *options, url, "--", path, argument]).splitlines()[-1]))


def with_locust(url: str, path: str, argument: str, seconds: float) -> Load:
    """Do the same without wrk. It takes more of its core, so the fastest contenders are not told apart."""
    options = [
        "--headless",
        "--skip-log",
        "--only-summary",
        "--users",
        CLIENTS,
        "--spawn-rate",
        CLIENTS,
    ]
    options += ["--run-time", whole(seconds), "--host", url, "--locustfile", str(HERE / "locustfile.py")]
    return Load(**json.loads(output_of([*LOCUST, *options], ROUTE=path, ARGUMENT=argument)))


def whole(seconds: float) -> str:
    """Return a duration as wrk and Locust take it: a second or more."""
    return f"{max(1, round(seconds))}s"


def output_of(command: list[str], **environment: str) -> str:
    """Run a command, with these variables besides those of this process, and return what it printed."""
    environment = {**os.environ, **environment}
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
