"""Autogenerate: it writes what the models say, and leaves alone what no model has."""

import re
import shutil
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from sqlalchemy import URL

from service.migrating import Migrated, migrated
from service.tools import PROJECT

README = PROJECT / "README.md"
SHIRT = """
class Shirt(Base):
    __tablename__ = "shirts"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
"""


@pytest.fixture
def project(tmp_path: Path, own_database: URL) -> Generator[Migrated]:
    """A copy of the project with a model, and an empty database."""
    with migrated(tmp_path, own_database, "autogenerate") as project:
        project.models(SHIRT)
        yield project


def test_what_no_model_has_is_left_alone(project: Migrated) -> None:
    project.alembic("upgrade head")
    project.sql(
        "CREATE TABLE mine.legacy (id int PRIMARY KEY)",
        "INSERT INTO mine.legacy SELECT generate_series(1, 1000)",
        "ALTER TABLE mine.users ADD nickname text",
        "CREATE INDEX by_nickname ON mine.users (nickname)",
        "ALTER TABLE mine.users ADD CONSTRAINT one_nickname UNIQUE (nickname)",
        "ALTER TABLE mine.users ADD boss bigint CONSTRAINT has_boss REFERENCES mine.users",
        "CREATE TYPE mine.mood AS ENUM ('good', 'bad')",
        "CREATE SCHEMA theirs",
        "CREATE TABLE theirs.shirts (id int)",
        "CREATE TABLE public.shirts (id int)",
    )
    project.models("")
    said = project.alembic("check", "revision --autogenerate -m nothing")
    left = "legacy, users.boss, users.by_nickname, users.has_boss, users.nickname, users.one_nickname"
    example = "To drop: alembic -x drop=legacy revision --autogenerate"
    assert f"Left alone, because no model has them: {left}. {example}\n" in said, said
    assert "No new upgrade operations detected" in said
    assert "No revision is written" in said
    assert len(project.revisions) == 1

    project.models(SHIRT)
    revision = project.revise("upgrade head", "check", "downgrade -1", "upgrade head")
    assert re.findall(r"^    op\.(.+)$", revision, re.MULTILINE) == ["create_table(", 'drop_table("shirts")']
    assert project.sql("SELECT count(*) FROM mine.legacy") == 1000
    assert project.sql("SELECT to_regclass('public.shirts') IS NULL") is False
    assert project.sql("SELECT to_regclass('theirs.shirts') IS NULL") is False


def test_what_is_named_is_dropped_and_comes_back(project: Migrated) -> None:
    name = "    name: Mapped[str] = mapped_column(index=True)\n"
    project.models(SHIRT + name + '    __table_args__ = (UniqueConstraint("name"),)')
    project.revise("upgrade head")
    project.models(SHIRT)
    parts = project.revise("upgrade head", drop="shirts.name,shirts.uq_shirts_name,shirts.ix_shirts_name")
    assert 'op.drop_column("shirts", "name")' in parts
    columns = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'shirts'"
    assert project.sql(columns) == 1
    project.models("")
    whole = project.revise("upgrade head", drop="shirts")
    assert 'op.drop_table("shirts")' in whole
    assert project.sql(columns) == 0
    project.alembic("downgrade -2")
    assert project.sql(columns) == 2
    indexes = (
        "SELECT string_agg(indexname, ' ' ORDER BY indexname) FROM pg_indexes WHERE tablename = 'shirts'"
    )
    assert project.sql(indexes) == "ix_shirts_name pk_shirts uq_shirts_name"


def test_a_table_is_dropped_whose_foreign_key_names_a_table_that_stays(project: Migrated) -> None:
    project.models(
        SHIRT + "    user_id: Mapped[int] = mapped_column(ForeignKey(f'{Base.metadata.schema}.users.id'))"
    )
    project.revise("upgrade head")
    project.models("")
    revision = project.revise("upgrade head", "check", "downgrade -1", "upgrade head", drop="shirts")
    assert revision.count("op.drop_table(") == 1


def test_a_revision_written_by_hand_has_what_it_needs(project: Migrated) -> None:
    project.alembic("upgrade head", "revision -m byhand")
    [path] = [path for path in project.revisions if "byhand" in path.name]
    assert path.read_text().count("    pass\n") == 2
    text = path.read_text().replace("    pass\n", '    op.add_column("users", sa.Column("x", sa.Text))\n', 1)
    path.write_text(text)
    project.alembic("upgrade head")


def test_the_example_can_be_dropped_after_the_first_start(project: Migrated) -> None:
    """The command is the README's."""
    [drop] = re.findall(r"-x drop=(\S+) revision --autogenerate -m \"no users\"", README.read_text())
    project.models("")
    project.alembic("upgrade head")
    shutil.rmtree(project.path / "app" / "users")
    assert "op.drop_table" not in project.revise("check")
    revision = project.revise("upgrade head", "check", "downgrade -1", "upgrade head", drop=drop)
    assert revision.index('op.drop_table("notes")') < revision.index('op.drop_table("users")')
    assert project.sql("SELECT string_agg(tablename, ' ') FROM pg_tables WHERE schemaname = 'mine'") == (
        "alembic_version"
    )


@pytest.mark.parametrize("name", ["nothing", "shirts", "users.email", "public.shirts"])
def test_a_drop_of_what_is_not_there_or_of_a_model_is_refused(project: Migrated, name: str) -> None:
    project.revise("upgrade head")
    project.sql("CREATE TABLE public.shirts (id int)")
    before = project.revisions
    said = project.fails(f"-x drop={name} revision --autogenerate -m wrong")
    assert said.startswith(f"drop={name}: there is nothing to drop by this name.")
    assert project.fails(f"-x dorp={name} revision --autogenerate -m wrong").startswith("-x dorp: not for")
    assert project.fails(f"-x drop={name} upgrade head").startswith("-x drop: not for")
    assert project.revisions == before


OTHER_SCHEMA = """
class Login(Base):
    __tablename__ = "users"  # as a table of the configured schema
    __table_args__ = {"schema": "auth"}
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey(f"{Base.metadata.schema}.users.id"), index=True)


class Shirt(Base):
    __tablename__ = "shirts"
    id: Mapped[int] = mapped_column(primary_key=True)
    login_id: Mapped[int] = mapped_column(ForeignKey("auth.users.id"))
"""


def test_a_model_may_have_a_schema_of_its_own(project: Migrated) -> None:
    project.models(OTHER_SCHEMA)
    project.alembic("upgrade head")
    project.sql("CREATE TABLE auth.others (id int)")
    revision = project.revise("upgrade head", "check", "downgrade -1", "upgrade head", "check")
    assert 'schema="auth"' in revision
    assert "email" not in revision
    tables = "SELECT string_agg(schemaname || '.' || tablename, ' ' ORDER BY 1) FROM pg_tables"
    tables += " WHERE tablename IN ('users', 'shirts', 'others')"
    assert project.sql(tables.replace("ORDER BY 1", "ORDER BY schemaname, tablename")) == (
        "auth.others auth.users mine.shirts mine.users"
    )
    project.models(OTHER_SCHEMA.replace("index=True", "index=True, server_default='1'"))
    assert 'op.alter_column(\n        "users", "user_id"' in project.revise("upgrade head", "check").replace(
        '"users",\n        "user_id"', '"users", "user_id"'
    )


def test_a_model_may_be_in_a_schema_of_the_search_path(project: Migrated) -> None:
    models = (
        OTHER_SCHEMA.replace('"auth', '"public')
        .replace('"users"', '"logins"')
        .replace("public.users", "public.logins")
    )
    project.models(models)
    project.sql("CREATE EXTENSION citext SCHEMA public", "CREATE TABLE public.shirts (id int)")
    project.revise("upgrade head", "check", "downgrade -1", "upgrade head", "check")
    project.models(models.replace('"public.logins.id"', '"public.logins.id", ondelete="CASCADE"'))
    assert 'ondelete="CASCADE"' in project.revise("upgrade head", "check")


NESTED = """
class Color(enum.Enum):
    RED = "r"


class Money(TypeDecorator):
    impl = Numeric
    cache_ok = True
    def __init__(self, currency: str) -> None:
        super().__init__(12, 2)


def color(**schema):
    return Enum(Color, name="color", **schema)


class Painted(TypeDecorator):
    impl = color(metadata=Base.metadata)
    cache_ok = True


class Shirt(Base):
    __tablename__ = "shirts"
    id: Mapped[int] = mapped_column(primary_key=True)
    colors: Mapped[Any] = mapped_column(ARRAY(color(metadata=Base.metadata)))
    painted: Mapped[Any] = mapped_column(Painted())
    prices: Mapped[Any] = mapped_column(ARRAY(Money("EUR")))
    theirs: Mapped[Any] = mapped_column(color(schema="auth"))


class Login(Base):
    __tablename__ = "logins"
    __table_args__ = {"schema": "auth"}
    id: Mapped[int] = mapped_column(primary_key=True)
    color: Mapped[Any] = mapped_column(color(metadata=Base.metadata))
"""
ENUMS = (
    "SELECT string_agg(n.nspname || '.' || typname, ' ' ORDER BY n.nspname) FROM pg_type JOIN pg_namespace n"
)
ENUMS += " ON n.oid = typnamespace WHERE typtype = 'e'"


def test_types_in_types_are_in_their_schemas(project: Migrated) -> None:
    project.models(NESTED)
    revision = project.revise("upgrade head", "check")
    assert "mine" not in revision
    assert "Money" not in revision
    assert project.sql(ENUMS) == "auth.color mine.color"


def test_a_drop_finds_no_table_of_another_schema(project: Migrated) -> None:
    project.models("")
    project.sql("CREATE TABLE public.notes (id int)", "CREATE TABLE public.users (id int)")
    project.alembic("stamp head")
    assert "does not exist" in project.fails("downgrade base")
    assert project.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 2


def test_a_check_of_a_model_is_seen_and_that_of_others_left_alone(project: Migrated) -> None:
    project.alembic("upgrade head")
    project.sql("ALTER TABLE mine.users ADD CONSTRAINT theirs CHECK (id > 0)")
    project.models(SHIRT + "    size: Mapped[int]\n")
    project.revise("upgrade head")
    project.models(
        SHIRT + "    size: Mapped[int]\n    __table_args__ = (CheckConstraint('size > 0', name='big'),)"
    )
    revision = project.revise("upgrade head", "check", "downgrade -1", "upgrade head")
    assert "ck_shirts_big" in revision
    assert "theirs" not in revision


TYPES = """
class Money(TypeDecorator):
    impl = Numeric
    cache_ok = True
    def __init__(self, currency: str) -> None:
        super().__init__(12, 2)
        self.code = currency


class Version(UserDefinedType):
    cache_ok = True
    def get_col_spec(self, **_):
        return "pg_snapshot"


class Shirt(Base):
    __tablename__ = "shirts"
    id: Mapped[uuid.UUID] = mapped_column(server_default=func.gen_random_uuid(), primary_key=True)
    price: Mapped[Any] = mapped_column(Money("EUR"))
    seen: Mapped[Any] = mapped_column(Version(), server_default="1:1:")
    every: Mapped[Any] = mapped_column(Interval())
    data: Mapped[Any] = mapped_column(JSON, server_default="{}")
    other: Mapped[Any] = mapped_column(JSON, server_default=text("'[]'"))
    third: Mapped[Any] = mapped_column(JSON, server_default=text("'{}'::json"))
    fourth: Mapped[Any] = mapped_column(JSON, server_default=func.json_build_object("a", 1))
    more: Mapped[Any] = mapped_column(JSONB, server_default=text("'{}'"))
    tags: Mapped[Any] = mapped_column(ARRAY(Text), server_default="{}")
    size: Mapped[int] = mapped_column(server_default="1")
    name: Mapped[str] = mapped_column(server_default="it's")
    at: Mapped[Any] = mapped_column(DateTime(timezone=True), server_default=func.now())
"""


def test_a_revision_with_types_of_the_owners_runs(project: Migrated) -> None:
    project.models(TYPES)
    revision = project.revise("upgrade head", "check", "downgrade -1", "upgrade head", "check")
    assert "sa.Numeric(precision=12, scale=2)" in revision
    assert "import app.shirts.models\n" in revision


def test_a_changed_server_default_is_seen(project: Migrated) -> None:
    project.models(TYPES)
    project.revise("upgrade head")
    changed = TYPES.replace('server_default="1"', 'server_default="2"').replace("it's", "hers")
    project.models(changed.replace("[]", "{}").replace("1:1:", "2:2:"))
    assert project.revise("upgrade head", "check").count("op.alter_column(") == 8  # four there, four back
    project.models(changed.replace("(server_default=", "(insert_default="))
    assert "server_default=None" in project.revise("upgrade head", "check")


EXTENSIONS = """
class Vector(UserDefinedType):  # as pgvector has it
    cache_ok = True
    def __init__(self, dim=None):
        self.dim = dim
    def get_col_spec(self, **_):
        return f"vector({self.dim})"


class Shirt(Base):
    __tablename__ = "shirts"
    __table_args__ = (
        Index("ix_shirts_name", "name", postgresql_using="gin", postgresql_ops={"name": "gin_trgm_ops"}),
    )
    id: Mapped[uuid.UUID] = mapped_column(server_default=func.gen_random_uuid(), primary_key=True)
    handle: Mapped[str] = mapped_column(CITEXT, unique=True)
    attributes: Mapped[dict[str, str]] = mapped_column(HSTORE)
    name: Mapped[str]
    near: Mapped[Any] = mapped_column(Vector(3))
"""


@pytest.mark.parametrize("place", ["public", "extensions"])
def test_extensions_are_found_and_their_types_survive(project: Migrated, place: str) -> None:
    project.sql(f"CREATE SCHEMA IF NOT EXISTS {place}")
    for extension in ("citext", "pg_trgm", "hstore", "vector"):
        project.sql(f"CREATE EXTENSION {extension} SCHEMA {place}")
    project.models(EXTENSIONS)
    if place != "public":
        project.settings["DATABASE_EXTENSION_SCHEMAS"] = f"other, {place}"
    revision = project.revise("upgrade head", "check", "downgrade -1", "upgrade head", "check")
    for word in ("postgresql.CITEXT()", "postgresql.HSTORE(", "gin_trgm_ops", "models.Vector(dim=3)"):
        assert word in revision


def test_nothing_is_said_about_a_file_that_is_written(project: Migrated) -> None:
    project.models(SHIRT + f'    name: Mapped[str] = mapped_column(server_default="{"x" * 150}")')
    said = project.alembic("upgrade head", 'revision --autogenerate -m "Don\'t say \\"x\\\\y\\""')
    assert "E501" not in said
    assert "ruff" not in said.lower()
    project.alembic("upgrade head")
    checked = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "migrations"], cwd=project.path, check=False
    )
    assert checked.returncode == 0
