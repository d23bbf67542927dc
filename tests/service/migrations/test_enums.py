"""Enums: stored by name, the same on SQLAlchemy 2.0 and 2.1, and migrated there and back."""

import enum
from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path

import pytest
from sqlalchemy import ARRAY, URL, MetaData, NullPool, any_, literal, select, text
from sqlalchemy.exc import StatementError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.schema import CreateSchema

from app.db import Base
from service.migrating import migrated
from service.tools import on_server

MODELS = """
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
def revise(tmp_path: Path, own_database: URL) -> Generator[Revise]:
    """Return a function that writes the models and a revision, and returns the revision."""
    with migrated(tmp_path, own_database, "enums") as project:

        def revise(models: str, *commands: str, drop: str = "") -> str:
            project.models(models)
            return project.revise(*commands, drop=drop)

        yield revise


def test_enums_are_migrated_there_and_back(revise: Revise) -> None:
    steps = ["upgrade head", "check", "downgrade -1", "upgrade head", "check"]
    tables = revise(MODELS, *steps)
    assert tables.count("sa.Enum(") == 3
    for kept in ("sa.Uuid()", "gen_random_uuid()", "postgresql.JSONB(", 'server_default="RED"', "'{}'"):
        assert kept in tables

    models = MODELS.replace("# COLUMN", "sleeves: Mapped[Color | None]")
    assert "op.add_column(" in revise(models, *steps)

    models = models.replace("# MEMBER", 'ULTRAMARINE = "u"')  # longer than the others
    assert revise(models, *steps) == ""  # a new member needs no change of the tables

    models = models.replace("sleeves: Mapped[Color | None]", "")
    steps += ["downgrade base", "upgrade head", "upgrade head --sql"]
    assert "op.drop_column(" in revise(models, *steps, drop="shirts.sleeves")


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
