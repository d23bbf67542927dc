"""The roles of production: one owns the tables and migrates, one serves, one reads."""

import asyncio
import re
import secrets
import subprocess
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from app.config import Settings, get_settings
from app.db.connect_args import quoted
from dev import psql
from dev.postgres import free_port
from migrations import roles
from service.migrating import Migrated, migrated
from service.servers import served
from service.tools import PROJECT, on_server, run, text_of, wait_for

ODD = "o'd\"d $1 %s é"  # what a name may hold
SECURITY = (PROJECT / "docs" / "security.md").read_text(encoding="utf-8")
REFUSED = "42501"  # insufficient privilege


@dataclass
class Roles:
    """A database, its administrator, and the URLs of its three roles."""

    administrator: URL
    service: URL
    owner: URL
    reader: URL

    @property
    def environment(self) -> dict[str, str]:
        return {
            "DATABASE_ADMIN_URL": text_of(self.administrator),
            "DATABASE_URL": text_of(self.service),
            "DATABASE_OWNER_URL": text_of(self.owner),
            "DATABASE_REPLICA_URL": text_of(self.reader),
        }

    @property
    def settings(self) -> Settings:
        urls = {"service": "database_url", "owner": "database_owner_url", "reader": "database_replica_url"}
        changes = {setting: getattr(self, role) for role, setting in urls.items()}
        return get_settings().model_copy(update={**changes, "database_schema": "mine"})

    def run(self, **environment: str) -> str:
        """Make the roles from the command line; return what the command said, and nothing if it worked."""
        done = run("-m", "migrations.roles", "--run", **self.environment | environment)
        assert "Traceback" not in done.stderr, done.stderr
        assert bool(done.returncode) is bool(done.stderr), done.stderr
        return done.stderr.strip()

    def as_role(self, url: URL, *statements: str) -> object:
        """Execute statements; return the first value of the last."""
        found = None
        for statement in statements:
            found = asyncio.run(on_server(url, statement))
        return found

    def refused(self, url: URL, statement: str) -> bool:
        """Tell whether PostgreSQL refuses the statement to this role."""
        try:
            self.as_role(url, statement)
        except DBAPIError as error:
            return getattr(error.orig, "sqlstate", None) == REFUSED
        return False


SUPERUSER, LESSER = "a superuser", "a role that may create roles"
both = pytest.mark.parametrize("found", [SUPERUSER, LESSER], indirect=True)


@pytest.fixture
def found(request: pytest.FixtureRequest, own_database: URL) -> Generator[Roles]:
    """An empty database and its administrator. The three roles, of odd names, do not exist yet."""
    name = f"{ODD} {secrets.token_hex(4)}"
    database = own_database.set(database=name)
    urls = [database.set(username=f"{name} {role}", password=secrets.token_hex(8)) for role in "aosr"]
    administrator = urls[0] if getattr(request, "param", SUPERUSER) == LESSER else database
    found = Roles(administrator, service=urls[2], owner=urls[1], reader=urls[3])
    known_as = quoted(name)
    found.as_role(own_database, f"CREATE DATABASE {known_as}".replace(":", r"\:"))
    if administrator != database:
        role = quoted(str(administrator.username))
        found.as_role(
            own_database,
            f"CREATE ROLE {role} LOGIN CREATEROLE PASSWORD '{administrator.password}'",
            f"ALTER DATABASE {known_as} OWNER TO {role}",
        )
    yield found
    found.as_role(own_database, f"DROP DATABASE IF EXISTS {known_as} WITH (FORCE)")
    for url in reversed(urls):
        found.as_role(own_database, f"DROP ROLE IF EXISTS {quoted(str(url.username))}")


@pytest.fixture
def project(found: Roles, tmp_path: Path, own_database: URL) -> Generator[Migrated]:
    """A copy of the project that uses the three roles, which are there."""
    with migrated(tmp_path, own_database, "roles") as project:
        project.settings |= found.environment
        asyncio.run(roles.run(found.settings, found.administrator))
        yield project


@both
def test_the_service_reads_and_writes_rows_and_cannot_change_tables(found: Roles, project: Migrated) -> None:
    project.alembic("upgrade head", "check")
    insert = "INSERT INTO mine.users (email) VALUES ('ada@example.com') RETURNING id"
    assert found.as_role(found.service, insert) == 1
    assert (
        found.as_role(found.service, "UPDATE mine.users SET full_name = 'Ada' RETURNING full_name") == "Ada"
    )
    assert found.as_role(found.service, "SELECT count(*) FROM mine.alembic_version") == 1
    for statement in (
        "DROP TABLE mine.users",
        "ALTER TABLE mine.users ADD COLUMN x int",
        "TRUNCATE mine.users",
        "CREATE INDEX ON mine.users (email)",
        "CREATE TABLE mine.x (id int)",
        "CREATE TABLE public.x (id int)",
        "CREATE TEMPORARY TABLE x (id int)",
        "CREATE SCHEMA x",
        "DROP SCHEMA mine",
        "CREATE EXTENSION hstore",
        "DELETE FROM mine.alembic_version",
        "UPDATE mine.alembic_version SET version_num = 'x'",
        "INSERT INTO mine.alembic_version VALUES ('x')",
        "SELECT setval('mine.users_id_seq', 1)",
        "COPY mine.users TO PROGRAM 'id'",
        "COPY mine.users TO '/tmp/x'",
        "SELECT pg_read_file('/etc/passwd')",
        f"SET ROLE {quoted(str(found.owner.username))}",
        f"ALTER ROLE {quoted(str(found.service.username))} SUPERUSER",
    ):
        assert found.refused(found.service, statement), statement
    assert found.as_role(found.service, "DELETE FROM mine.users RETURNING id") == 1


def test_the_reader_reads_and_nothing_else(found: Roles, project: Migrated) -> None:
    project.alembic("upgrade head")
    assert found.as_role(found.reader, "SELECT count(*) FROM users") == 0  # by the role's search path
    assert found.as_role(found.reader, "SHOW default_transaction_read_only") == "on"
    reader = roles.literal(str(found.reader.username))
    rights = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
    ask = [f"SELECT has_table_privilege({reader}, 'mine.users', '{right}')" for right in rights]
    allowed = [
        right for right, question in zip(rights, ask, strict=True) if found.as_role(found.owner, question)
    ]
    assert allowed == ["SELECT"]


def test_what_the_owner_creates_later_the_service_may_use(found: Roles, project: Migrated) -> None:
    """New tables, serial columns, and schemas that only a model names: nobody has to grant anything."""
    project.models(
        """
class Shirt(Base):
    __tablename__ = "shirts"
    __table_args__ = {"schema": "shop"}
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    size: Mapped[str]
"""
    )
    assert "shirts" in project.revise()
    project.alembic("upgrade head", "check")
    assert found.as_role(found.service, "INSERT INTO shop.shirts (size) VALUES ('L') RETURNING id") == 1
    assert found.as_role(found.reader, "SELECT size FROM shop.shirts") == "L"
    assert found.refused(found.service, "DROP TABLE shop.shirts")


@both
def test_the_roles_have_the_settings_of_the_service(found: Roles, project: Migrated) -> None:
    for url in (found.service, found.reader):
        assert found.as_role(url, "SHOW search_path") == "mine, public"
        assert found.as_role(url, "SHOW statement_timeout") == "10s"
    assert found.run(DATABASE_SCHEMA="mine", DATABASE_STATEMENT_TIMEOUT="7") == ""  # a second time
    assert found.as_role(found.service, "SHOW statement_timeout") == "7s"
    assert found.as_role(found.owner, "SHOW statement_timeout") == "0"


def test_a_renamed_schema_is_noticed_though_the_roles_were_made_for_it(
    found: Roles, project: Migrated
) -> None:
    project.alembic("upgrade head")
    assert found.run(DATABASE_SCHEMA="yours") == ""
    project.settings["DATABASE_SCHEMA"] = "yours"
    assert "set DATABASE_SCHEMA to mine" in project.fails("upgrade head")


def test_the_sql_is_printed_without_a_password_and_runs_in_psql(found: Roles) -> None:
    printed = run("-m", "migrations.roles", DATABASE_SCHEMA="mine", **found.environment)
    assert printed.returncode == 0
    for url in (found.owner, found.service, found.reader):
        assert str(url.password) not in printed.stdout + printed.stderr
    arguments = [
        psql.program(),
        "--set=ON_ERROR_STOP=1",
        f"--dbname={text_of(found.administrator.set(drivername='postgresql', query={}))}",
    ]
    subprocess.run(arguments, input=printed.stdout, text=True, check=True, capture_output=True, timeout=60)
    assert found.as_role(found.administrator, "SELECT to_regnamespace('mine')::text") == "mine"


@both
def test_a_service_with_the_rights_of_the_owner_is_refused_and_nothing_is_left(found: Roles) -> None:
    owner, service = (quoted(str(url.username)) for url in (found.owner, found.service))
    found.as_role(found.administrator, f"CREATE ROLE {owner}", f"CREATE ROLE {service} IN ROLE {owner}")
    assert f"rights: all rights of {found.owner.username}, " in found.run(DATABASE_SCHEMA="mine")
    assert found.as_role(found.administrator, "SELECT to_regnamespace('mine')::text") is None


# What a role may have had before: the script takes the first two away, and names the others.
TAKEN = [
    "GRANT ALL ON DATABASE {database} TO {service}",
    "GRANT TEMPORARY ON DATABASE {database} TO {service}",
]
NAMED = {
    "ALTER ROLE {service} CREATEROLE": "CREATEROLE",
    "GRANT pg_execute_server_program TO {service}": "pg_execute_server_program",
    "GRANT CREATE ON SCHEMA public TO PUBLIC": "CREATE on the schema public",
    "CREATE SCHEMA mine AUTHORIZATION {service}": "CREATE on the schema mine",
    "ALTER DATABASE {database} OWNER TO {service}": "ownership of the database",
    "GRANT CREATE ON DATABASE {database} TO PUBLIC": "CREATE or TEMPORARY on the database",
    "ALTER ROLE {service} SUPERUSER": "all rights of",
}


@pytest.mark.parametrize("before", TAKEN)
def test_rights_in_the_database_are_taken_away(found: Roles, before: str) -> None:
    service, database = quoted(str(found.service.username)), quoted(str(found.service.database))
    found.as_role(found.administrator, f"CREATE ROLE {service} LOGIN", before.format(**locals()))
    assert found.run() == ""
    for statement in ("CREATE SCHEMA x", "CREATE TEMPORARY TABLE x (id int)"):
        assert found.refused(found.service, statement)


@pytest.mark.parametrize(("before", "named"), NAMED.items())
@pytest.mark.parametrize("role", ["service", "reader"])
def test_a_right_that_would_undo_the_difference_is_named(
    found: Roles, before: str, named: str, role: str
) -> None:
    service = quoted(str(getattr(found, role).username))
    database = quoted(str(found.service.database))
    found.as_role(found.administrator, f"CREATE ROLE {service} LOGIN", before.format(**locals()))
    said = found.run(DATABASE_SCHEMA="mine")
    assert f"must not have these rights: {named}" in said or f", {named}" in said, said


def test_the_schema_may_be_public(found: Roles, tmp_path: Path, own_database: URL) -> None:
    with migrated(tmp_path, own_database, "roles") as project:
        project.settings |= found.environment | {"DATABASE_SCHEMA": "public"}
        assert found.run(DATABASE_SCHEMA="public") == ""
        project.alembic("upgrade head", "check")
        assert found.as_role(found.service, "SELECT count(*) FROM public.users") == 0
        assert found.refused(found.service, "CREATE TABLE public.x (id int)")
        assert found.refused(found.service, "DELETE FROM public.alembic_version")


def test_tables_of_others_in_the_schema_stop_nothing(found: Roles, project: Migrated) -> None:
    project.alembic("upgrade head")
    found.as_role(found.administrator, "CREATE TABLE mine.administrators (id int)")
    assert found.run(DATABASE_SCHEMA="mine") == ""
    assert found.as_role(found.service, "SELECT count(*) FROM mine.users") == 0
    assert found.refused(found.service, "SELECT * FROM mine.administrators")
    assert found.refused(found.service, "DELETE FROM mine.alembic_version")


def test_a_schema_that_the_script_does_not_know_has_its_versions_protected(
    found: Roles, project: Migrated
) -> None:
    project.alembic("-x empty=later upgrade head", DATABASE_SCHEMA="later")
    assert found.as_role(found.service, "SELECT count(*) FROM later.users") == 0
    assert found.refused(found.service, "DELETE FROM later.alembic_version")


def test_the_owner_may_be_the_administrator(found: Roles) -> None:
    if found.administrator.username == "postgres":
        owner = found.administrator.set(username=found.owner.username, password=found.owner.password)
        role, database = quoted(str(owner.username)), quoted(str(owner.database))
        found.as_role(
            found.administrator,
            f"CREATE ROLE {role} LOGIN CREATEROLE PASSWORD '{owner.password}'",
            f"ALTER DATABASE {database} OWNER TO {role}",
        )
        found.administrator = found.owner = owner
    assert found.run(DATABASE_SCHEMA="mine") == ""
    assert found.refused(found.service, "CREATE TABLE mine.x (id int)")


def test_the_log_of_the_server_has_no_password(found: Roles) -> None:
    """Each statement has a verifier. Its salt is another each time."""
    first, second = ("\n".join(roles.passwords(found.settings)) for _ in range(2))
    assert first != second
    for url in (found.owner, found.service, found.reader):
        assert str(url.password) not in first
    odd = found.service.set(password="p\u00e4ss'\\ $")
    found.service = odd
    assert found.run() == ""
    assert found.as_role(odd, "SELECT 1") == 1


def test_the_owner_is_no_reader(found: Roles) -> None:
    said = found.run(DATABASE_REPLICA_URL=text_of(found.owner))
    assert said == "DATABASE_REPLICA_URL names the owner. Name the service, or a role that reads."


@both
def test_one_role_becomes_two_as_the_docs_say(found: Roles, project: Migrated, own_database: URL) -> None:
    """`docs/security.md`, "One role for everything"."""
    app = found.administrator.set(username=f"app_{secrets.token_hex(4)}", password="hidden")
    owner, [sql] = f"owner_{secrets.token_hex(4)}", re.findall(r"```sql\n(.+?)```", SECURITY, re.DOTALL)
    for old, new in {'"schema"': "one", "owner": owner, "app": str(app.username)}.items():
        sql = re.sub(rf"(?<!\w){old}(?!\w)" if old[0] != '"' else old, new, sql)
    project.settings |= {"DATABASE_SCHEMA": "one", "DATABASE_URL": text_of(app), "DATABASE_OWNER_URL": "none"}
    found.as_role(
        found.administrator,
        f"CREATE ROLE {app.username} LOGIN PASSWORD 'hidden'",
        f"GRANT CREATE ON DATABASE {quoted(str(app.database))} TO {app.username}",
    )
    try:
        project.alembic("upgrade head")
        found.as_role(app, "INSERT INTO one.users (email) VALUES ('ada@example.com')")
        found.as_role(found.administrator, *filter(str.strip, sql.split(";")))
        found.service, found.owner = app, app.set(username=owner)
        assert found.run(DATABASE_SCHEMA="one", DATABASE_REPLICA_URL="none") == ""
        project.settings["DATABASE_OWNER_URL"] = text_of(found.owner)
        project.alembic("upgrade head", "check", "downgrade -1", "upgrade head")
        assert found.refused(app, "DROP TABLE one.users")
        assert found.refused(app, "CREATE SCHEMA mine")
        assert found.as_role(app, "SELECT count(*) FROM one.users") is not None
    finally:
        found.as_role(own_database, f"DROP DATABASE {quoted(str(app.database))} WITH (FORCE)")
        found.as_role(own_database, f"DROP ROLE IF EXISTS {app.username}, {owner}")


@both
def test_without_the_url_of_the_owner_the_rights_stay_as_they_are(found: Roles, project: Migrated) -> None:
    """The machine that serves has DATABASE_URL alone. There, the SQL would take the service for the owner."""
    project.alembic("upgrade head")
    said = found.run(DATABASE_SCHEMA="mine", DATABASE_OWNER_URL="none", DATABASE_REPLICA_URL="none")
    assert "The tables in mine do not belong to" in said
    assert "Set DATABASE_OWNER_URL" in said
    assert found.refused(found.service, "CREATE SCHEMA x")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"DATABASE_ADMIN_URL": ""}, "DATABASE_ADMIN_URL is not set"),
        ({"DATABASE_ADMIN_URL": "mysql://u:hidden@h/db"}, "mysql:// is not supported"),
        ({"DATABASE_OWNER_URL": "postgresql://127.0.0.1/db"}, "DATABASE_OWNER_URL names no user."),
        ({"DATABASE_ADMIN_URL": f"postgresql://u:hidden@127.0.0.1:{free_port()}/db"}, "cannot be reached"),
    ],
)
def test_what_is_wrong_is_one_line(found: Roles, variables: dict[str, str], expected: str) -> None:
    said = found.run(DATABASE_CONNECT_TIMEOUT="1", **variables)
    assert expected in said
    assert len(said.splitlines()) == 1
    assert "hidden" not in said


def test_the_start_says_that_one_role_does_everything(found: Roles, own_database: URL) -> None:
    warning = "can change and drop tables"
    with served() as server:
        wait_for(lambda: warning in server.log)
    assert found.run() == ""
    environment = found.environment | {"DATABASE_REPLICA_URL": "none"}
    with served(**environment) as server:
        wait_for(lambda: "Connected to" in server.log)
        assert warning not in server.log
