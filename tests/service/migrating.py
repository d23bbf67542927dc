"""A copy of the project with a domain of the test's own, and a database for its migrations."""

import asyncio
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import URL

from service.in_process import run_alembic
from service.tools import PROJECT, on_server, text_of

COPIED = ("app", "migrations", "pyproject.toml")
IMPORTS = """
import enum
import uuid
from typing import Any

from sqlalchemy import *
from sqlalchemy.dialects.postgresql import *
from sqlalchemy.orm import Mapped, mapped_column, relationship
from sqlalchemy.types import UserDefinedType

from app.db import Base

"""


@dataclass
class Migrated:
    """A project, its database and its settings."""

    path: Path
    url: URL
    settings: dict[str, str] = field(default_factory=lambda: {"DATABASE_SCHEMA": "mine"})

    def models(self, text: str) -> None:
        """Write the models of the domain `shirts`."""
        (self.path / "app" / "shirts" / "models.py").write_text(IMPORTS + text)

    def run(self, *commands: str, **environment: str) -> tuple[int, str]:
        """Run commands of Alembic, up to the first that fails; return the exit status and what they said."""
        variables = {"DATABASE_URL": text_of(self.url)} | self.settings | environment
        output = self.path / "output"
        status = run_alembic(self.path, dict(os.environ) | variables, output, commands)
        return status, output.read_text()

    def alembic(self, *commands: str, **environment: str) -> str:
        """Run commands that succeed; return what they said."""
        status, said = self.run(*commands, **environment)
        assert status == 0, said
        return said

    def fails(self, *commands: str, **environment: str) -> str:
        """Run commands of which the last fails with one line; return that line."""
        status, said = self.run(*commands, **environment)
        assert status != 0, said
        assert "Traceback" not in said, said
        [line] = [line for line in said.splitlines() if line.strip().startswith("FAILED: ")]
        return line.strip().removeprefix("FAILED: ")

    def revise(self, *commands: str, drop: str = "") -> str:
        """Have Alembic write a revision of the models; return the revision, or nothing if there is none."""
        before = set(self.revisions)
        option = f"-x drop={drop} " if drop else ""
        self.alembic("upgrade head", f"{option}revision --autogenerate -m shirts", *commands)
        return "".join(path.read_text() for path in self.revisions if path not in before)

    @property
    def revisions(self) -> list[Path]:
        return sorted((self.path / "migrations" / "versions").glob("*.py"))

    def sql(self, *statements: str) -> Any:
        """Execute statements in the database; return the first value of the last."""
        result = None
        for statement in statements:
            result = asyncio.run(on_server(self.url, statement))
        return result


@contextmanager
def migrated(folder: Path, server: URL, name: str) -> Generator[Migrated]:
    """Copy the project into the folder, and create a database with nothing in it."""
    for part in COPIED:
        copy = shutil.copytree if (PROJECT / part).is_dir() else shutil.copy
        copy(PROJECT / part, folder / part)
    (folder / "app" / "shirts").mkdir()
    (folder / "app" / "shirts" / "__init__.py").touch()
    url = server.set(database=f"{server.database}_{name}")
    asyncio.run(on_server(server, f"CREATE DATABASE {url.database}"))
    try:
        yield Migrated(folder, url)
    finally:
        asyncio.run(on_server(server, f"DROP DATABASE {url.database} WITH (FORCE)"))
