"""Migrations: complete, reversible, and in the configured schema."""

import asyncio
import os
from collections.abc import Generator
from io import StringIO

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import URL, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import get_settings
from app.db import Base
from app.setting_types import parse_database_url
from tests.conftest import ALEMBIC, connection_to, execute


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> Generator[pytest.MonkeyPatch]:
    """The environment, for settings that count in one test."""
    yield monkeypatch
    monkeypatch.undo()
    get_settings.cache_clear()


@pytest.fixture
def empty_database(own_database: URL, variables: pytest.MonkeyPatch) -> Generator[None]:
    """A database with nothing in it, which the settings name."""
    server = parse_database_url(os.environ["TEST_DATABASE_URL"])
    url = own_database.set(database=f"{own_database.database}_empty")
    asyncio.run(execute(server, f"CREATE DATABASE {url.database} OWNER {url.username}"))
    variables.setenv("DATABASE_OWNER_URL", url.render_as_string(hide_password=False))
    get_settings.cache_clear()
    yield
    asyncio.run(execute(server, f"DROP DATABASE {url.database} WITH (FORCE)"))


async def tables(schema: str) -> set[str]:
    """Return the names of the tables in a schema."""
    async with connection_to() as connection:
        query = text("SELECT tablename FROM pg_tables WHERE schemaname = :schema")
        return set(await connection.scalars(query, {"schema": schema}))


def test_the_migrations_make_what_the_models_say() -> None:
    command.check(ALEMBIC)  # raises if a revision is missing


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE alembic_version",
        "DELETE FROM alembic_version",
        "CREATE TABLE mine (id int)",
        "CREATE TEMPORARY TABLE mine (id int)",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
    ],
)
async def test_the_service_changes_rows_alone(session: AsyncSession, statement: str) -> None:
    with pytest.raises(ProgrammingError) as refused:
        await session.execute(text(statement))
    assert getattr(refused.value.orig, "sqlstate", None) == "42501"  # insufficient privilege


@pytest.mark.usefixtures("empty_database")
def test_the_migrations_can_be_undone() -> None:
    command.upgrade(ALEMBIC, "head")
    command.downgrade(ALEMBIC, "base")
    assert asyncio.run(tables(get_settings().database_schema)) == {"alembic_version"}
    command.upgrade(ALEMBIC, "head")
    command.check(ALEMBIC)


@pytest.mark.parametrize("schema", ["plain", 'Odd-Schema "x" 100% :y'])
@pytest.mark.usefixtures("empty_database")
def test_the_migrations_fill_the_schema_that_is_configured(
    variables: pytest.MonkeyPatch, schema: str
) -> None:
    variables.setenv("DATABASE_SCHEMA", schema)
    get_settings.cache_clear()
    command.upgrade(ALEMBIC, "head")
    command.check(ALEMBIC)
    models = {table.name for table in Base.metadata.sorted_tables}
    assert asyncio.run(tables(schema)) >= models | {"alembic_version"}  # more, before you drop a table
    assert asyncio.run(tables("public")) == set()


def test_the_sql_can_be_printed_without_a_database(variables: pytest.MonkeyPatch) -> None:
    variables.setenv("DATABASE_SCHEMA", 'Odd "x" 100% :y')
    variables.setenv("DATABASE_OWNER_URL", "postgresql://nobody@never-used.invalid/nothing")
    get_settings.cache_clear()
    printed = StringIO()
    command.upgrade(Config(toml_file=ALEMBIC.toml_file_name, output_buffer=printed), "head", sql=True)
    assert 'SET search_path TO "Odd ""x"" 100% :y", "public";' in printed.getvalue()
    assert 'CREATE SCHEMA IF NOT EXISTS "Odd ""x"" 100% :y";' in printed.getvalue()
    for table in Base.metadata.sorted_tables:
        assert table.name in printed.getvalue()
