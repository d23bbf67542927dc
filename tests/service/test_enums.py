"""Enums: stored by name, the same on SQLAlchemy 2.0 and 2.1, and migrated there and back."""

import asyncio
import enum
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path

import pytest
from sqlalchemy import ARRAY, URL, MetaData, NullPool, any_, literal, select, text
from sqlalchemy.exc import StatementError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.schema import CreateSchema

from app.db import Base
from service.tools import PROJECT, on_server, text_of

MODELS = """
import enum
import uuid
from typing import Any

from sqlalchemy import Enum, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base


class Color(enum.Enum):
    RED = "r"
    GREEN = "g"
    # MEMBER


class Shirt(Base):
    __tablename__ = "shirts"

    id: Mapped[uuid.UUID] = mapped_column(server_default=func.gen_random_uuid(), primary_key=True)
    color: Mapped[Color] = mapped_column(server_default="RED")
    lining: Mapped[Color | None]
    details: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    # COLUMN


class Hat(Base):
    __tablename__ = "hats"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    color: Mapped[Color]
"""
COPIED = ("app", "migrations", "pyproject.toml")
ALEMBIC = "import sys; from alembic.config import main; [main(each.split()) for each in sys.argv[1:]]"
Revise = Callable[..., str]


class Color(enum.Enum):
    RED = "r"
    GREEN = "g"


class Own(Base):
    """The base of the table that only these tests have."""

    __abstract__ = True
    metadata = MetaData(schema=Base.metadata.schema)


class Shirt(Own):
    __tablename__ = "shirts"

    id: Mapped[int] = mapped_column(primary_key=True)
    color: Mapped[Color]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project, for a domain and revisions that only the test has."""
    for name in COPIED:
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy
        copy(PROJECT / name, tmp_path / name)
    (tmp_path / "app" / "shirts").mkdir()
    (tmp_path / "app" / "shirts" / "__init__.py").touch()
    return tmp_path


@pytest.fixture
def revise(project: Path, own_database: URL) -> Generator[Revise]:
    """Return a function that writes the models and a revision, and returns the revision.

    It also runs Alembic's commands, all in one process. The database has nothing in it at first.
    """
    url = own_database.set(database=f"{own_database.database}_enums")
    environment = os.environ | {"DATABASE_URL": text_of(url), "PYTHONPATH": str(project)}
    versions = project / "migrations" / "versions"

    def revise(models: str, *commands: str) -> str:
        (project / "app" / "shirts" / "models.py").write_text(models)
        before = set(versions.glob("*.py"))
        done = subprocess.run(
            [sys.executable, "-c", ALEMBIC, "upgrade head", "revision --autogenerate -m shirts", *commands],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        [revision] = set(versions.glob("*.py")) - before
        return revision.read_text()

    asyncio.run(on_server(own_database, f"CREATE DATABASE {url.database}"))
    try:
        yield revise
    finally:
        asyncio.run(on_server(own_database, f"DROP DATABASE {url.database} WITH (FORCE)"))


def test_enums_are_migrated_there_and_back(revise: Revise) -> None:
    steps = ["upgrade head", "check", "downgrade -1", "upgrade head", "check"]
    tables = revise(MODELS, *steps)
    assert tables.count("sa.Enum(") == 3
    for kept in ("sa.Uuid()", "gen_random_uuid()", "postgresql.JSONB(", 'server_default="RED"', "'{}'"):
        assert kept in tables

    models = MODELS.replace("# COLUMN", "sleeves: Mapped[Color | None]")
    assert "op.add_column(" in revise(models, *steps)

    models = models.replace("# MEMBER", 'ULTRAMARINE = "u"')  # longer than the others
    assert "op." not in revise(models, *steps)  # a new member needs no change of the tables

    models = models.replace("sleeves: Mapped[Color | None]", "")
    steps += ["downgrade base", "upgrade head", "upgrade head --sql"]
    assert "op.drop_column(" in revise(models, *steps)


def test_a_revision_names_no_schema_of_an_enum_type_of_postgresql(revise: Revise) -> None:
    columns = (
        "sleeves: Mapped[Color | None] = mapped_column(Enum(Color, name='a', metadata=Base.metadata))",
        "collar: Mapped[Color | None] = mapped_column(Enum(Color, name='b', schema=Base.metadata.schema))",
    )
    revision = revise(MODELS.replace("# COLUMN", "\n    ".join(columns)), "upgrade head", "check")
    for name in ("a", "b"):
        assert f'sa.Enum("RED", "GREEN", name="{name}")' in revision


def engine_on(url: URL, path: str, schema: str) -> AsyncEngine:
    """Return an engine with a search path, whose statements name a schema instead of the configured one."""
    settings = {"server_settings": {"search_path": path}}
    engine = create_async_engine(url, connect_args=settings, poolclass=NullPool)
    return engine.execution_options(schema_translate_map={Own.metadata.schema: schema})


@pytest.fixture
async def tenant(own_database: URL) -> AsyncGenerator[AsyncEngine]:
    """An engine whose statements go to the schema of a tenant, while the search path leads to another schema.

    Both schemas have the table. It was made as the migrations do: on the search path.
    """
    schemas = ("landlord", "tenant")
    for schema in schemas:
        async with engine_on(own_database, schema, schema).begin() as connection:
            await connection.execute(CreateSchema(schema))
            await connection.run_sync(Own.metadata.create_all)
    try:
        yield engine_on(own_database, "landlord", "tenant")
    finally:
        for schema in schemas:
            await on_server(own_database, f"DROP SCHEMA {schema} CASCADE")


async def test_an_enum_is_stored_and_found_in_any_schema(tenant: AsyncEngine) -> None:
    red = [
        Shirt.color == Color.RED,
        Shirt.color.in_([Color.RED]),
        Shirt.color == any_(literal([Color.RED], ARRAY(Shirt.color.type))),
        Shirt.color == "RED",
    ]
    async with AsyncSession(tenant) as session:
        session.add_all([Shirt(id=1, color=Color.RED), Shirt(id=2, color=Color.GREEN)])
        await session.flush()
        for condition in red:
            assert (await session.execute(select(Shirt.id, Shirt.color).where(condition))).all() == [
                (1, Color.RED)
            ]
        names = await session.scalars(text("SELECT color FROM tenant.shirts ORDER BY id"))
        assert names.all() == ["RED", "GREEN"]


async def test_what_is_no_member_is_not_stored(tenant: AsyncEngine) -> None:
    async with AsyncSession(tenant) as session:
        session.add(Shirt(id=1, color="PURPLE"))
        with pytest.raises(StatementError, match="not among the defined enum values"):
            await session.flush()
