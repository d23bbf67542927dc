"""Databases as owners have them: other schemas, other branches, roles with few rights. Nothing is lost."""

import secrets
from collections.abc import Generator
from pathlib import Path

import pytest
from sqlalchemy import URL, NullPool, text
from sqlalchemy.ext.asyncio import create_async_engine

from service.migrating import Migrated, migrated
from service.tools import text_of

REVISION = '''
"""A revision of the test's."""
import sqlalchemy as sa
from alembic import op

revision = "{0}"
down_revision = "{1}"


def upgrade():
    {2}


def downgrade():
    pass
'''
SCHEMAS = "SELECT string_agg(nspname, ' ' ORDER BY nspname) FROM pg_namespace WHERE nspname !~ '^(pg_|info)'"
TABLES = (
    "SELECT string_agg(schemaname || '.' || tablename, ' ' ORDER BY schemaname, tablename) FROM pg_tables"
)
TABLES += " WHERE schemaname !~ '^(pg_|info)'"


@pytest.fixture
def project(tmp_path: Path, own_database: URL) -> Generator[Migrated]:
    """A copy of the project, and an empty database."""
    with migrated(tmp_path, own_database, "owners") as project:
        yield project


@pytest.fixture
def role(project: Migrated) -> Generator[str]:
    """A role without any right, which the project uses from then on. The superuser's URL stays in `url`."""
    name, password = f"role_{secrets.token_hex(6)}", secrets.token_hex(16)
    project.sql(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
    project.settings["DATABASE_URL"] = text_of(project.url.set(username=name, password=password))
    yield name
    project.sql(f"DROP OWNED BY {name} CASCADE", f"DROP ROLE {name}")


def write(project: Migrated, name: str, before: str, statement: str) -> None:
    """Write a revision."""
    path = project.path / "migrations" / "versions" / f"{name}.py"
    path.write_text(REVISION.format(name, before, statement))


def test_what_only_looks_creates_nothing(project: Migrated) -> None:
    project.alembic("current", "history", "heads")
    assert "alembic upgrade head" in project.fails("check")
    assert "alembic upgrade head" in project.fails("downgrade base")
    assert project.sql(SCHEMAS) == "public"
    assert project.sql(TABLES) is None


@pytest.mark.parametrize("new", ["yours", "public"])
def test_a_renamed_schema_is_noticed(project: Migrated, new: str) -> None:
    project.alembic("upgrade head")
    project.sql("INSERT INTO mine.users (email) VALUES ('ada@example.com')")
    project.settings["DATABASE_SCHEMA"] = new
    said = project.fails("upgrade head")
    assert "set DATABASE_SCHEMA to mine" in said
    assert ("ALTER SCHEMA mine RENAME TO yours" in said) is (new == "yours")  # public is there already
    assert f"alembic -x empty={new} upgrade head" in said
    assert project.fails("-x empty=other upgrade head") == said
    assert project.sql(SCHEMAS) == "mine public"
    if new == "yours":
        project.sql("ALTER SCHEMA mine RENAME TO yours")
        project.alembic("upgrade head", "check")
        assert project.sql("SELECT count(*) FROM yours.users") == 1
    else:
        project.alembic(f"-x empty={new} upgrade head", "upgrade head", "check")
        assert project.sql("SELECT count(*) FROM public.users") == 0
        assert project.sql("SELECT count(*) FROM mine.users") == 1


def test_another_service_in_the_database_is_none_of_ours(project: Migrated) -> None:
    project.sql(
        "CREATE SCHEMA theirs",
        "CREATE TABLE theirs.alembic_version (version_num varchar(32))",
        "INSERT INTO theirs.alembic_version VALUES ('ae1027a6acf')",
        "CREATE TABLE public.alembic_version (version_num varchar(32))",
        "INSERT INTO public.alembic_version VALUES ('ae1027a6acf')",
        "CREATE TABLE public.users (id int)",
    )
    project.alembic("upgrade head", "check", "downgrade base", "upgrade head")
    ours, theirs = "mine.alembic_version mine.notes mine.users", "public.alembic_version public.users"
    assert project.sql(TABLES) == f"{ours} {theirs} theirs.alembic_version"
    assert project.sql("SELECT version_num FROM public.alembic_version") == "ae1027a6acf"


def test_what_others_call_alembic_version_stops_nobody(project: Migrated, role: str) -> None:
    project.sql(
        "CREATE SCHEMA odd",
        "CREATE TABLE odd.alembic_version (number int)",
        f"GRANT USAGE ON SCHEMA odd TO {role}",
        f"GRANT SELECT ON odd.alembic_version TO {role}",
        "CREATE SCHEMA closed",
        "CREATE TABLE closed.alembic_version (version_num text)",
        f"GRANT SELECT ON closed.alembic_version TO {role}",
        "CREATE SCHEMA unread",
        "CREATE TABLE unread.alembic_version (version_num text)",
        f"GRANT USAGE ON SCHEMA unread TO {role}",
        f"CREATE SCHEMA mine AUTHORIZATION {role}",
    )
    project.alembic("upgrade head", "check")


def test_a_revision_of_another_branch_locks_nobody_out(project: Migrated) -> None:
    write(project, "branch", "0001", 'op.create_table("hats", sa.Column("id", sa.Integer))')
    project.alembic("upgrade head")
    path = project.path / "migrations" / "versions" / "branch.py"
    kept = path.read_text()
    path.unlink()
    for command in ("upgrade head", "current", "check", "downgrade -1", "stamp head"):
        said = project.fails(command)
        assert "The database has the revision branch, and migrations/versions/ does not." in said
        assert "python -m dev reset" in said
    assert "another service" in said
    project.alembic("heads", "history", "stamp --purge head", "upgrade head", "check")
    path.write_text(kept)
    project.alembic("stamp branch", "upgrade head")


def test_two_branches_are_merged(project: Migrated) -> None:
    for name in ("hats", "coats"):
        write(project, name, "0001", f'op.create_table("{name}", sa.Column("id", sa.Integer))')
    said = project.fails("upgrade head")
    assert "Multiple head revisions are present" in said
    assert said.endswith("To join them: alembic merge heads -m merge")
    project.alembic("merge heads -m merge", "upgrade head", "check")


def test_a_failed_migration_says_where_and_why_and_can_be_repeated(project: Migrated) -> None:
    write(project, "good", "0001", 'op.create_table("hats", sa.Column("id", sa.Integer))')
    write(project, "bad", "good", 'op.add_column("users", sa.Column("age", sa.Integer, nullable=False))')
    project.alembic("upgrade 0001")
    project.sql("INSERT INTO mine.users (email) VALUES ('ada@example.com')")
    said = project.fails("upgrade head")
    assert said.startswith('bad.py, line 11: column "age" of relation "users" contains null values.')
    assert "ada" not in said
    assert "good" in project.alembic("current")
    write(project, "bad", "good", 'op.add_column("users", sa.Column("age", sa.Integer))')
    project.alembic("upgrade head")


def test_a_failed_migration_shows_no_values(project: Migrated) -> None:
    write(
        project,
        "bad",
        "0001",
        "op.execute('ALTER TABLE users ALTER full_name TYPE int USING full_name::int')",
    )
    project.alembic("upgrade 0001")
    project.sql("INSERT INTO mine.users (email, full_name) VALUES ('ada@example.com', 'ada@home')")
    _, said = project.run("upgrade head")
    assert "bad.py, line 11: InvalidTextRepresentationError" in said
    assert "ada@" not in said


def test_an_enum_value_is_added_and_used_in_two_pending_revisions(project: Migrated) -> None:
    write(project, "a", "0001", "op.execute(\"CREATE TYPE mood AS ENUM ('good')\")")
    write(project, "b", "a", "op.execute(\"ALTER TYPE mood ADD VALUE 'bad'\")")
    write(project, "c", "b", "op.execute(\"CREATE TABLE moods AS SELECT 'bad'::mood AS mood\")")
    project.alembic("upgrade head")
    assert project.sql("SELECT mood::text FROM mine.moods") == "bad"


def test_a_role_without_the_right_to_create_is_told_which_right(project: Migrated, role: str) -> None:
    said = project.fails("upgrade head")
    assert f"The role {role} may not create the schema mine." in said
    assert f"CREATE SCHEMA mine AUTHORIZATION {role}" in said

    project.sql("CREATE SCHEMA mine", "GRANT CREATE ON SCHEMA public TO PUBLIC")
    said = project.fails("upgrade head")  # the next schema on the search path is not taken instead
    assert f"GRANT USAGE, CREATE ON SCHEMA mine TO {role}" in said
    assert project.sql(TABLES) is None

    project.sql(f"GRANT USAGE ON SCHEMA mine TO {role}")
    assert project.fails("upgrade head").startswith(
        "permission denied for schema mine. Set DATABASE_OWNER_URL"
    )

    project.sql(f"GRANT USAGE, CREATE ON SCHEMA mine TO {role}")
    project.alembic("upgrade head", "check", "downgrade base", "upgrade head")


def test_a_schema_that_an_administrator_made_is_enough(project: Migrated, role: str) -> None:
    project.sql(f"CREATE SCHEMA mine AUTHORIZATION {role}")
    project.alembic("upgrade head", "check")


def test_the_schema_may_be_public(project: Migrated, role: str) -> None:
    project.settings["DATABASE_SCHEMA"] = "public"
    project.sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")  # as since PostgreSQL 15
    assert "permission denied for schema public" in project.fails("upgrade head")
    project.sql(f"GRANT CREATE ON SCHEMA public TO {role}")
    project.alembic("upgrade head", "check", "downgrade base", "upgrade head", "check")


def test_a_lesser_role_is_told_who_may_change_the_tables(project: Migrated, role: str) -> None:
    lesser = project.settings.pop("DATABASE_URL")
    project.alembic("upgrade head")
    project.settings["DATABASE_URL"] = lesser
    project.sql(f"GRANT USAGE, CREATE ON SCHEMA mine TO {role}")
    project.sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA mine TO {role}")
    project.alembic("upgrade head", "check", "current")  # nothing to do
    write(project, "more", "0001", 'op.add_column("users", sa.Column("age", sa.Integer))')
    said = project.fails("upgrade head")
    assert "must be owner of table users." in said
    assert "Set DATABASE_OWNER_URL to a role that has this right" in said
    project.settings["DATABASE_OWNER_URL"] = text_of(project.url)
    project.alembic("upgrade head")


async def test_a_lock_that_is_held_ends_the_migration(project: Migrated) -> None:
    write(project, "more", "0001", "op.execute('ALTER TABLE users ADD age int')")
    project.alembic("upgrade 0001")
    engine = create_async_engine(project.url, poolclass=NullPool)
    async with engine.begin() as connection:
        await connection.execute(text("SELECT FROM mine.users"))
        said = project.fails("upgrade head", DATABASE_LOCK_TIMEOUT="0.1")
    assert "canceling statement due to lock timeout. Revisions before this one stay applied." in said
    assert said.endswith("Run the command again.")
