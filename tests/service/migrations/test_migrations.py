"""Migrations: complete, reversible, in the configured schema, and run once."""

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import Generator

import pytest
from httpx2 import Client
from sqlalchemy import URL, NullPool, text
from sqlalchemy.ext.asyncio import create_async_engine

from app.config import get_settings
from app.db import Base
from service.servers import served
from service.tools import PROJECT, on_server, run, text_of


@pytest.fixture
def empty_database(own_database: URL) -> Generator[URL]:
    """A database with nothing in it."""
    url = own_database.set(database=f"{own_database.database}_empty")
    asyncio.run(on_server(own_database, f"CREATE DATABASE {url.database}"))
    try:
        yield url
    finally:
        asyncio.run(on_server(own_database, f"DROP DATABASE {url.database} WITH (FORCE)"))


def alembic(*arguments: str, **environment: str) -> str:
    done = run("-m", "alembic", *arguments, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_migrations_make_what_the_models_say() -> None:
    assert "No new upgrade operations detected" in alembic("check")


def test_the_migrations_can_be_undone(empty_database: URL) -> None:
    url = text_of(empty_database)
    for step in ["upgrade head", "downgrade base", "upgrade head", "check"]:
        alembic(*step.split(), DATABASE_URL=url)


def test_replicas_that_start_together_migrate_once(empty_database: URL) -> None:
    environment = os.environ | {"DATABASE_URL": text_of(empty_database)}
    command = [sys.executable, "-m", "alembic", "upgrade", "head"]
    replicas = [
        subprocess.Popen(command, cwd=PROJECT, env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    output = [replica.communicate(timeout=60)[1] for replica in replicas]
    assert [replica.returncode for replica in replicas] == [0, 0, 0]
    assert sum("Running upgrade" in text for text in output) == 1


async def test_a_replica_waits_for_the_one_that_is_migrating(empty_database: URL) -> None:
    environment = os.environ | {"DATABASE_URL": text_of(empty_database)}
    command = [sys.executable, "-m", "alembic", "upgrade", "head"]
    lock = text("SELECT pg_advisory_lock(hashtext('migrations'), hashtext(:schema))")
    polled = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_try_advisory_lock%'"
    polled += f" AND datname = '{empty_database.database}'"
    engine = create_async_engine(empty_database, poolclass=NullPool)
    async with engine.connect() as migrating:
        await migrating.execute(lock, {"schema": get_settings().database_schema})
        replica = subprocess.Popen(command, cwd=PROJECT, env=environment, stderr=subprocess.DEVNULL)
        while replica.poll() is None and not await on_server(empty_database, polled):
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
        assert replica.poll() is None
        tables = "SELECT count(*) FROM pg_tables WHERE tablename = 'alembic_version'"
        assert await on_server(empty_database, tables) == 0
    assert replica.wait(timeout=30) == 0


def test_a_schema_of_any_name_is_migrated_and_served(empty_database: URL) -> None:
    name = 'Odd-Schema "x"'
    environment = {
        "DATABASE_SCHEMA": name,
        "DATABASE_URL": text_of(empty_database),
    }
    alembic("upgrade", "head", **environment)
    alembic("check", **environment)
    with served(**environment) as server, Client(base_url=server.url) as client:
        assert client.post("/users", json={"email": "ada@example.com"}).status_code == 201
        assert client.get("/users/1").status_code == 200
        assert client.get("/test/schema").raise_for_status().json() == name
    done = run("-m", "app.users.clear", "1", **environment)
    assert done.stdout == "1 users deleted, 0 ids unknown.\n"
    tables = "SELECT string_agg(tablename, ' ') FROM pg_tables WHERE schemaname = '{}'"
    migrated = asyncio.run(on_server(empty_database, tables.format(name))).split()
    assert set(migrated) == {"alembic_version", *(table.name for table in Base.metadata.sorted_tables)}
    assert asyncio.run(on_server(empty_database, tables.format("public"))) is None


def test_a_password_of_odd_characters_works(empty_database: URL) -> None:
    role, password = f"odd_{secrets.token_hex(4)}", "p%40@/:#?%(x)s$ü'"
    literal = password.replace("'", "''")
    asyncio.run(on_server(empty_database, f"CREATE ROLE {role} LOGIN PASSWORD '{literal}'"))
    try:
        asyncio.run(on_server(empty_database, f"GRANT ALL ON DATABASE {empty_database.database} TO {role}"))
        url = empty_database.set(username=role, password=password)
        alembic("upgrade", "head", DATABASE_URL=text_of(url))
    finally:
        asyncio.run(on_server(empty_database, f"DROP OWNED BY {role}"))
        asyncio.run(on_server(empty_database, f"DROP ROLE {role}"))


@pytest.mark.parametrize("name", ["plain", "100%", "a:b :c", 'Odd "x"'])
def test_the_sql_can_be_printed_without_a_database(name: str) -> None:
    sql = alembic("upgrade", "head", "--sql", DATABASE_SCHEMA=name)
    quoted = '"' + name.replace('"', '""') + '"'
    assert f'SET search_path TO {quoted}, "public";' in sql
    assert f"CREATE SCHEMA IF NOT EXISTS {name if name == 'plain' else quoted};" in sql
    assert "CREATE TABLE users" in sql
    assert "CREATE SCHEMA IF NOT EXISTS" in sql
