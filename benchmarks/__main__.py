"""`uv run python -m benchmarks`: render a project, measure it, write RESULTS.md beside this file.

It ends within a quarter of an hour. Names of measures limit it to those, and then it prints the
results instead of writing them: `uv run python -m benchmarks throughput`.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from cookiecutter.main import cookiecutter

TEMPLATE = Path(__file__).parents[1]
LIBRARIES = ["matplotlib>=3.10,<4", "psutil>=7,<8", "trustme>=1.2,<2"]  # of the measures
# Of the contenders, which run in the project's own environment: benavlabs.py and fullstack.py.
PEERS_LIBRARIES = ["fastcrud==0.23.0", "psycopg[binary]>=3.3,<4"]
# The database is the project's own, and without bytecode every start would compile everything again.
NOT_FOR_THE_PROJECT = {"DATABASE_URL", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE"}


def main(arguments: list[str]) -> int:
    """Run the measures in the environment of a new project; return the exit status."""
    environment = {name: value for name, value in os.environ.items() if name not in NOT_FOR_THE_PROJECT}
    environment["PYTHONPATH"] = os.pathsep.join([str(TEMPLATE), str(TEMPLATE / "tests")])
    with TemporaryDirectory() as folder:
        config = {"replay_dir": f"{folder}/replay", "cookiecutters_dir": f"{folder}/cookiecutters"}
        project = cookiecutter(str(TEMPLATE), no_input=True, output_dir=folder, default_config=config)
        uv = ["uv", "--quiet", f"--directory={project}"]
        for command in (["sync"], ["pip", "install", "--python=.venv", *PEERS_LIBRARIES]):
            subprocess.run([*uv, *command], env=environment, check=True)
        libraries = [f"--with={name}" for name in LIBRARIES]
        run = [*uv, "run", *libraries, "python", "-m", "benchmarks.run"]
        return subprocess.run(
            [*beside_the_server(), *run, *arguments], env=environment, check=False
        ).returncode


def beside_the_server() -> list[str]:
    """Return what to put before a command so that it leaves the first core to the server, if that can be."""
    cores = os.cpu_count() or 1
    return ["taskset", "--cpu-list", f"1-{cores - 1}"] if cores > 1 and shutil.which("taskset") else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
