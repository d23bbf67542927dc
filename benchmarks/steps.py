"""The first two steps of `python -m dev`, timed: run by the interpreter of a new project, in its folder."""

import json
import os
import time
from pathlib import Path

from alembic import command
from alembic.config import Config

from dev.postgres import running_postgres

begin = time.monotonic()
with running_postgres(Path(".postgres")) as os.environ["DATABASE_URL"]:
    running = time.monotonic()
    command.upgrade(Config(toml_file="pyproject.toml"), "head")
    migrated = time.monotonic()
print(json.dumps({"create and start the database": running - begin, "migrate": migrated - running}))
