"""How long does everything take that one waits for: the first start, every start, the tests?"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import httpx2

from benchmarks.measures import Effort
from benchmarks.report import HERE, Section, Target, spread, table
from benchmarks.servers import PROJECT, PYTHON, free_port, on_cores, wait_until_up

ROUNDS = 2
ALL_CORES = on_cores(f"0-{(os.cpu_count() or 1) - 1}")
LIMITS = {"in all": 6.0, "render": 1.0, "import the application": 1.0}  # seconds


def measure(_effort: Effort) -> Section:
    """Measure the first start, in all and in steps; every start; the tests."""
    whole = [cold_start() for _ in range(ROUNDS)]
    steps = [cold_steps() for _ in range(ROUNDS)]
    found = {"in all": whole, **{name: [each[name] for each in steps] for name in steps[0]}}
    ready = [until_ready() for _ in range(ROUNDS)]
    tests = timed([PYTHON, "-m", "pytest", "-q", "-n", "2"], PROJECT)
    targets = [
        Target(
            f"cold start: {name}",
            f"< {LIMITS[name]:g} s" if name in LIMITS else "",
            f"{median(seconds):.1f} s",
            median(seconds) < LIMITS[name] if name in LIMITS else None,
        )
        for name, seconds in found.items()
    ]
    return Section(
        "Start",
        [
            *targets,
            Target("`uvicorn app.main:app` until ready", "", f"{median(ready):.1f} s"),
            Target("tests of the rendered project, two processes", "< 20 s", f"{tests:.0f} s", tests < 20),
        ],
        [
            "From `uvx cookiecutter` to the first 201 of `uv run python -m dev`, packages in uv's cache; "
            "below it, what its steps take alone.",
            table(["", "seconds"], [[name, spread(seconds, 2)] for name, seconds in found.items()]),
        ],
    )


def cold_start() -> float:
    """Return the seconds from nothing to the first user that is stored."""
    port = free_port()
    with TemporaryDirectory() as folder:
        begin = time.monotonic()
        project = render(folder)
        with started(["uv", "run", "--quiet", "python", "-m", "dev", "--port", str(port)], project):
            url = f"http://127.0.0.1:{port}"
            wait_until_up(f"{url}/health/live", 60)
            httpx2.post(f"{url}/users", json={"email": "ada@example.com"}).raise_for_status()
            return time.monotonic() - begin


def cold_steps() -> dict[str, float]:
    """Return the seconds of each step."""
    with TemporaryDirectory() as folder:
        begin = time.monotonic()
        project = render(folder)
        rendered = time.monotonic()
        environment = timed(["uv", "sync", "--quiet"], project)
        python = project / ".venv" / "bin" / "python"
        done = subprocess.run(
            [*ALL_CORES, python, HERE / "steps.py"],
            cwd=project,
            env=clean() | {"PYTHONPATH": str(project)},
            stdout=subprocess.PIPE,
            check=True,
        )
        load: list[str | Path] = [python, "-c", "import app.main"]
        return {
            "render": rendered - begin,
            "make the environment": environment,
            **json.loads(done.stdout),
            "import the application the first time, which compiles it": timed(load, project, **os.environ),
            "import the application": timed(load, project, **os.environ),
        }


def until_ready() -> float:
    """Return the seconds from the README's command for production to a readiness probe that succeeds."""
    port = free_port()
    begin = time.monotonic()
    command = [str(PROJECT / ".venv/bin/uvicorn"), "app.main:app", "--log-config", "app/web/uvicorn.json"]
    with started([*command, "--port", str(port)], PROJECT, **os.environ):
        wait_until_up(f"http://127.0.0.1:{port}/health/live")
        httpx2.get(f"http://127.0.0.1:{port}/health/ready").raise_for_status()
        return time.monotonic() - begin


def render(folder: str) -> Path:
    """Render the template as its README says."""
    command = ["uvx", "cookiecutter", str(HERE.parent), "--no-input", "--output-dir", folder]
    subprocess.run([*ALL_CORES, *command], env=clean(), stdout=subprocess.DEVNULL, check=True)
    return Path(folder) / "my-service"


def timed(command: list[str | Path], folder: Path, **environment: str) -> float:
    """Run a command and return its seconds."""
    begin = time.monotonic()
    subprocess.run(
        [*ALL_CORES, *command], cwd=folder, env=environment or clean(), stdout=subprocess.DEVNULL, check=True
    )
    return time.monotonic() - begin


@contextmanager
def started(command: list[str], folder: Path, **environment: str) -> Generator[None]:
    """Keep a command running for as long as the block lasts."""
    process = subprocess.Popen(
        [*ALL_CORES, *command], cwd=folder, env=environment or clean(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=60)


def clean() -> dict[str, str]:
    """Return the environment without what is meant for this run."""
    ours = ("DATABASE_URL", "PYTHONPATH", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in ours}
