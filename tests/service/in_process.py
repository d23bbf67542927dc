"""Alembic in a process that has its libraries already. The `app` is that of the folder it is given."""

import multiprocessing
import os
import shlex
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

PRELOADED = ["alembic.config", "asyncpg", "pydantic_settings", "sqlalchemy.ext.asyncio", "stamina"]


def new_process(*arguments: object) -> BaseProcess:
    """Make a process of one that has imported the libraries, where there is a fork."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn").Process(target=_run, args=arguments)
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(PRELOADED)
    return forks.Process(target=_run, args=arguments)


def run_alembic(folder: Path, environment: dict[str, str], output: Path, commands: tuple[str, ...]) -> int:
    """Run commands of Alembic in the folder, up to the first that fails; return the exit status."""
    process = new_process(folder, environment, output, commands)
    process.start()
    process.join(120)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(output.read_text())
    return int(process.exitcode)


def _run(folder: Path, environment: dict[str, str], output: Path, commands: tuple[str, ...]) -> None:
    os.chdir(folder)
    os.environ.update(environment)
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True  # of models that are written again within a second
    with output.open("wb", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    from alembic.config import main  # noqa: PLC0415 loaded already, where there is a fork

    for command in commands:
        main(shlex.split(command))
