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
    """Read users at random (`kind` is read), or create users (write), for so many seconds."""
    argument = USERS if kind == "read" else secrets.token_hex(8)
    if WRK is None:
        return with_locust(url, kind, argument, seconds)
    options = ["--threads", "1", "--connections", CLIENTS, "--duration", f"{seconds:.0f}s"]
    options += ["--timeout", "60s", "--script", str(HERE / "load.lua")]
    return Load(**json.loads(output_of([WRK, *options, url, "--", kind, argument]).splitlines()[-1]))


def with_locust(url: str, kind: str, argument: str, seconds: float) -> Load:
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
    options += ["--run-time", f"{seconds:.0f}s", "--host", url, "--locustfile", str(HERE / "locustfile.py")]
    return Load(**json.loads(output_of([*LOCUST, *options], KIND=kind, ARGUMENT=argument)))


def output_of(command: list[str], **environment: str) -> str:
    """Run a command, with these variables besides those of this process, and return what it printed."""
    environment = {**os.environ, **environment}
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
