"""`python -m migrations.roles`: the SQL with which an administrator makes the roles of the service.

The role in DATABASE_OWNER_URL owns the schema and runs the migrations. The role in DATABASE_URL is the
service's: it reads and writes rows, and can neither change nor drop a table. If there is a third role in
DATABASE_REPLICA_URL, it reads.

The SQL holds no password. Run it again when the settings change.

`python -m migrations.roles --run` runs the SQL as the administrator in DATABASE_ADMIN_URL. The roles get the
passwords that their URLs have.
"""

import asyncio
import os
import sys
from collections.abc import Iterator

import asyncpg
from sqlalchemy import URL, NullPool
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from app.config import Settings, get_settings
from app.db.connect_args import DRIVER, connect_args, quoted, server_settings
from app.setting_types import parse_database_url
from migrations.checks import explain

ROWS = "SELECT, INSERT, UPDATE, DELETE"
OF_SERVICE = {"TABLES": ROWS, "SEQUENCES": "USAGE"}
OF_READER = {"TABLES": "SELECT"}
READ_ONLY = {"default_transaction_read_only": "on"}


def script(settings: Settings) -> str:
    """Return the SQL that makes the roles, the schema, the rights and the settings of each role.

    Raises:
        ValueError: a URL names no user.
    """
    service = user_of("DATABASE_URL", settings.database_url)
    owner = user_of("DATABASE_OWNER_URL", settings.database_owner_url or settings.database_url)
    reader = user_of("DATABASE_REPLICA_URL", settings.database_replica_url or settings.database_url)
    url = settings.for_migrations().database_url  # PgBouncer may have another name for the database
    database, schema = quoted(url.database or owner), quoted(settings.database_schema)
    lines = ["BEGIN;", *(create(role) for role in dict.fromkeys((owner, service, reader)))]
    lines += [
        "-- Temporary tables are for the owner alone.",
        f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC;",
        f"GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {database} TO {quoted(owner)};",
        "-- What follows is the owner's. An administrator who is no superuser has to be a member for it.",
        f"GRANT {quoted(owner)} TO CURRENT_USER;",
        f"SET LOCAL ROLE {quoted(owner)};",
        f"CREATE SCHEMA IF NOT EXISTS {schema};",
    ]
    if owner != service:
        lines += grants(schema, service, OF_SERVICE)
        lines += [
            "-- Alembic's own table, which Alembic finds here, is the owner's to write.",
            f"CREATE TABLE IF NOT EXISTS {schema}.alembic_version"
            " (version_num varchar(32) CONSTRAINT alembic_version_pkc PRIMARY KEY);",
            f"REVOKE {ROWS} ON {schema}.alembic_version FROM {quoted(service)};",
            f"GRANT SELECT ON {schema}.alembic_version TO {quoted(service)};",
        ]
    if reader not in (owner, service):
        lines += grants(schema, reader, OF_READER)
    others = dict.fromkeys(role for role in (service, reader) if role != owner)
    lines += ["RESET ROLE;", *(check_lesser(role, owner) for role in others)]
    lines += ["-- PgBouncer does not pass on what the service sets when it connects."]
    for role, own in {service: {}, reader: READ_ONLY if reader != service else {}}.items():
        for name, value in (server_settings(settings) | own).items():
            shown = value if name == "search_path" else f"'{value}'"
            lines.append(f"ALTER ROLE {quoted(role)} IN DATABASE {database} SET {name} = {shown};")
    return "\n".join([*lines, "COMMIT;"])


def user_of(variable: str, url: URL) -> str:
    """Return the role in a URL."""
    if not url.username:
        raise ValueError(f"{variable} names no user.")
    return url.username


def create(role: str) -> str:
    """Return the SQL that makes a role, if there is none."""
    missing = f"NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {literal(role)})"
    return f"DO $roles$ BEGIN IF {missing} THEN CREATE ROLE {quoted(role)} LOGIN; END IF; END $roles$;"


def check_lesser(role: str, owner: str) -> str:
    """Return the SQL that fails if the role has all rights of the owner."""
    message = f"{role} is a superuser or a member of {owner}. Name another role in its URL."
    return (
        f"DO $roles$ BEGIN IF pg_has_role({literal(role)}, {literal(owner)}, 'MEMBER') THEN "
        f"RAISE EXCEPTION USING MESSAGE = {literal(message)}; END IF; END $roles$;"
    )


def grants(schema: str, role: str, rights: dict[str, str]) -> Iterator[str]:
    """Yield the SQL with which the owner grants a role what is there, and what the owner will create."""
    yield f"GRANT USAGE ON SCHEMA {schema} TO {quoted(role)};"
    yield f"ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO {quoted(role)};"
    for things, right in rights.items():
        yield f"GRANT {right} ON ALL {things} IN SCHEMA {schema} TO {quoted(role)};"
        yield f"ALTER DEFAULT PRIVILEGES GRANT {right} ON {things} TO {quoted(role)};"


def literal(text: str) -> str:
    """Return a text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"


def passwords(settings: Settings) -> Iterator[str]:
    """Yield the SQL that gives the roles their passwords. The server's log does not show them."""
    yield (
        "SELECT set_config('log_statement', 'none', false), set_config('log_min_error_statement', 'panic', "
        "false), set_config('log_min_duration_statement', '-1', false) "
        "FROM pg_roles WHERE rolname = current_user AND rolsuper;"
    )
    for url in (settings.database_owner_url, settings.database_url, settings.database_replica_url):
        if url and url.username and url.password:
            yield f"ALTER ROLE {quoted(url.username)} PASSWORD {literal(url.password)};"


async def run(settings: Settings, administrator: URL) -> None:
    """Make the roles as this administrator.

    Raises:
        DBAPIError: PostgreSQL refuses.
    """
    settings_of_administrator = settings.for_script().model_copy(update={"database_url": administrator})
    arguments = connect_args(settings_of_administrator)
    engine = create_async_engine(DRIVER, connect_args=arguments, poolclass=NullPool, hide_parameters=True)
    async with engine.connect() as connection:
        raw = await connection.get_raw_connection()
        assert raw.driver_connection  # noqa: S101 of a connection that is open
        await raw.driver_connection.execute(script(settings))
        await raw.driver_connection.execute("\n".join(passwords(settings)))


def main(arguments: list[str]) -> str | None:
    """Print the SQL, or run it; return what went wrong."""
    settings = get_settings()
    try:
        if not arguments:
            print(script(settings))
        elif arguments != ["--run"]:
            return "Usage: python -m migrations.roles [--run]"
        elif not os.environ.get("DATABASE_ADMIN_URL"):
            return "DATABASE_ADMIN_URL is not set. Set it to the URL of an administrator of the database."
        else:
            asyncio.run(run(settings, parse_database_url(os.environ["DATABASE_ADMIN_URL"])))
    except (ValueError, asyncpg.PostgresError) as error:
        return str(error).partition("\n")[0]
    except DBAPIError as error:
        return explain(error)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
