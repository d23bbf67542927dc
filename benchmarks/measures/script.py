"""What does the script cost, against the bare statement?"""

import subprocess
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from psutil import NoSuchProcess, Process

from benchmarks.database import TABLE, fill, value_of
from benchmarks.measures import Effort
from benchmarks.report import Section, Target, spread, table
from benchmarks.servers import PYTHON, on_cores

IDS = 1_000_000
ROUNDS = 1
LIMIT, MEMORY_LIMIT = 1.5, 150.0  # times, MB


def measure(_effort: Effort) -> Section:
    """Delete a million users, in turn by the script and by the driver alone."""
    with TemporaryDirectory() as folder:
        ids = Path(folder) / "ids.txt"
        ids.write_text("\n".join(map(str, range(1, IDS + 1))))
        script = ["-m", "app.users.clear", "--file", str(ids)]
        bare = ["-m", "benchmarks.contenders.bare_delete", str(ids)]
        runs = [(delete(script), delete(bare)) for _ in range(ROUNDS)]
    ratio = median(mine / theirs for (mine, _), (theirs, _) in runs)
    peak = max(memory for (_, memory), _ in runs)
    rows = [
        [name, spread([run[index][0] for run in runs], 1), spread([run[index][1] for run in runs])]
        for index, name in enumerate(("`python -m app.users.clear`", "the driver alone"))
    ]
    return Section(
        "A million ids",
        [
            Target(
                "app.users.clear, 1,000,000 ids, against the driver alone",
                f"<= {LIMIT} x",
                f"{ratio:.2f} x",
                ratio <= LIMIT,
            ),
            Target("its peak memory", f"< {MEMORY_LIMIT:.0f} MB", f"{peak:.0f} MB", peak < MEMORY_LIMIT),
        ],
        [
            "Both read the ids from a file and delete in chunks of 5,000; the times are of the whole "
            "process.",
            table(["", "seconds", "peak MB"], rows),
        ],
    )


def delete(arguments: list[str]) -> tuple[float, float]:
    """Run it on a full table and return its seconds and peak memory in MB.

    Raises:
        RuntimeError: it failed, or left rows.
    """
    fill(IDS)
    begin = time.monotonic()
    process = subprocess.Popen([*on_cores("0"), PYTHON, *arguments], stdout=subprocess.DEVNULL)
    peak = 0.0
    while process.poll() is None:
        with suppress(NoSuchProcess):
            peak = max(peak, Process(process.pid).memory_info().rss / 1e6)
        time.sleep(0.02)
    seconds = time.monotonic() - begin
    if process.returncode or value_of(f"SELECT count(*) FROM {TABLE}"):
        raise RuntimeError(f"{arguments}: exit status {process.returncode}, or rows are left")
    return seconds, peak
