"""`python -m migrations.roles`: the SQL with which an administrator makes the roles of the service.

The role in DATABASE_OWNER_URL owns the tables and runs the migrations. The role in DATABASE_URL is the
service's: it reads and writes rows, and can neither change nor drop a table. If there is a third role in
DATABASE_REPLICA_URL, it reads.

The SQL holds no password. Run it again when the settings change.

`python -m migrations.roles --run` runs the SQL as the administrator in DATABASE_ADMIN_URL. The roles get the
passwords that their URLs have.
"""

import asyncio
import hashlib
import hmac
import os
import sys
from base64 import b64encode
from collections.abc import Iterator

import asyncpg
from sqlalchemy import URL, NullPool
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from app.config import Settings, get_settings
from app.db.connect_args import DRIVER, connect_args, quoted, server_settings
from app.setting_types import parse_database_url
from migrations.checks import explain

OF_SERVICE = {"TABLES": "SELECT, INSERT, UPDATE, DELETE", "SEQUENCES": "USAGE"}
OF_READER = {"TABLES": "SELECT"}
KINDS = {"TABLES": "'{r,p,v,m,f}'", "SEQUENCES": "'{S}'"}  # as pg_class has them
READ_ONLY = {"default_transaction_read_only": "on"}


def script(settings: Settings) -> str:
    """Return the SQL that makes the roles, the schema, the rights and the settings of each role.

    Raises:
        ValueError: a URL names no user, or the reader is the owner.
    """
    service = user_of("DATABASE_URL", settings.database_url)
    owner = user_of("DATABASE_OWNER_URL", settings.database_owner_url or settings.database_url)
    reader = user_of("DATABASE_REPLICA_URL", settings.database_replica_url or settings.database_url)
    if reader == owner != service:
        raise ValueError("DATABASE_REPLICA_URL names the owner. Name the service, or a role that reads.")
    rights_of = {reader: OF_READER, service: OF_SERVICE}
    lesser = {role: rights for role, rights in rights_of.items() if role != owner}
    url = settings.for_migrations().database_url  # PgBouncer may have another name for the database
    database, schema = quoted(url.database or owner), settings.database_schema
    lines = ["BEGIN;", *(create(role) for role in dict.fromkeys((owner, *lesser)))]
    lines += [
        check_owner(schema, owner),
        member(owner),
        f"GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {database} TO {quoted(owner)};",
        f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)} AUTHORIZATION {quoted(owner)};",
        f"GRANT USAGE, CREATE ON SCHEMA {quoted(schema)} TO {quoted(owner)};",
        "-- Temporary tables are for the owner alone.",
        f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC;",
    ]
    for role, rights in lesser.items():
        lines.append(f"GRANT CONNECT ON DATABASE {database} TO {quoted(role)};")
        lines.append(f"REVOKE CREATE, TEMPORARY ON DATABASE {database} FROM {quoted(role)};")
        lines += grants(schema, owner, role, rights)
        lines.append(check_lesser(role, owner, [schema, *settings.database_extension_schemas]))
    lines.append("-- PgBouncer does not pass on what the service sets when it connects.")
    for role, own in {service: {}, reader: READ_ONLY if reader != service else {}}.items():
        for name, value in (server_settings(settings) | own).items():
            shown = value if name == "search_path" else literal(value)
            lines.append(f"ALTER ROLE {quoted(role)} IN DATABASE {database} SET {name} = {shown};")
    return "\n".join([*lines, "COMMIT;"])


def user_of(variable: str, url: URL) -> str:
    """Return the role in a URL."""
    if not url.username:
        raise ValueError(f"{variable} names no user.")
    return url.username


def create(role: str) -> str:
    """Return the SQL that makes a role, if there is none."""
    return do(
        f"IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {literal(role)}) "
        f"THEN CREATE ROLE {quoted(role)} LOGIN; END IF;"
    )


def member(owner: str) -> str:
    """Return the SQL that lets an administrator act for the owner. A superuser may do so anyway."""
    return do(
        f"IF CURRENT_USER <> {literal(owner)} AND current_setting('is_superuser') = 'off' "
        f"THEN GRANT {quoted(owner)} TO CURRENT_USER; END IF;"
    )


def check_owner(schema: str, role: str) -> str:
    """Return the SQL that fails if the tables are another role's: the owner could not change them."""
    message = (
        f"The tables in {schema} do not belong to {role}. Set DATABASE_OWNER_URL to the URL of their owner, "
        "or give them to another one: docs/security.md."
    )
    versions = literal(f"{quoted(schema)}.alembic_version")
    owner = f"SELECT relowner::regrole FROM pg_class WHERE oid = to_regclass({versions})"  # noqa: S608 quoted
    return do(
        f"IF to_regrole({literal(quoted(role))}) <> ({owner}) "
        f"THEN RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', "
        f"MESSAGE = {literal(message)}; END IF;"
    )


def check_lesser(role: str, owner: str, schemas: list[str]) -> str:
    """Return the SQL that fails if the role, or everybody, has a right that would undo the difference."""
    files = "'pg_execute_server_program', 'pg_write_server_files', 'pg_read_server_files'"
    path = ", ".join(map(literal, schemas))
    return f"""DO $roles$ DECLARE rights text; BEGIN
    SELECT concat_ws(', ',
        CASE WHEN pg_has_role(oid, {literal(owner)}, 'MEMBER') THEN 'all rights of ' || {literal(owner)} END,
        CASE WHEN rolcreaterole THEN 'CREATEROLE' END,
        (SELECT 'ownership of the database' FROM pg_database
            WHERE datname = current_database() AND datdba = role.oid),
        CASE WHEN has_database_privilege(oid, current_database(), 'CREATE, TEMPORARY')
            THEN 'CREATE or TEMPORARY on the database' END,
        (SELECT string_agg('CREATE on the schema ' || nspname, ', ') FROM pg_namespace
            WHERE nspname IN ({path}) AND has_schema_privilege(role.oid, pg_namespace.oid, 'CREATE')),
        (SELECT string_agg(rolname, ', ') FROM pg_roles
            WHERE rolname IN ({files}) AND pg_has_role(role.oid, pg_roles.oid, 'MEMBER'))
    ) INTO rights FROM pg_roles AS role WHERE rolname = {literal(role)};
    IF rights <> '' THEN
        RAISE EXCEPTION USING MESSAGE = {literal(role)} || ' must not have these rights: ' || rights
            || '. Revoke them from the role and from PUBLIC, or name another role in the URL.';
    END IF;
END $roles$;"""  # noqa: S608 the names are quoted


def grants(schema: str, owner: str, role: str, rights: dict[str, str]) -> Iterator[str]:
    """Yield the SQL that grants a role what the owner has, and what the owner will create."""
    later = f"ALTER DEFAULT PRIVILEGES FOR ROLE {quoted(owner)} GRANT"
    yield f"GRANT USAGE ON SCHEMA {quoted(schema)} TO {quoted(role)};"
    yield f"{later} USAGE ON SCHEMAS TO {quoted(role)};"
    for things, right in rights.items():
        thing = things.removesuffix("S")
        yield f"""DO $roles$ DECLARE name regclass; BEGIN
    FOR name IN SELECT oid FROM pg_class
        WHERE relkind = ANY ({KINDS[things]}) AND relname <> 'alembic_version'
        AND relnamespace = to_regnamespace({literal(quoted(schema))})
        AND relowner = to_regrole({literal(quoted(owner))})
    LOOP
        EXECUTE format('GRANT {right} ON {thing} %s TO %I', name, {literal(role)});
    END LOOP;
END $roles$;"""  # noqa: S608 the names are quoted
        yield f"{later} {right} ON {things} TO {quoted(role)};"


def do(statements: str) -> str:
    """Return the SQL of a block that decides something."""
    return f"DO $roles$ BEGIN {statements} END $roles$;"


def literal(text: str) -> str:
    """Return a text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"


def verifier(password: str) -> str:
    """Return what PostgreSQL stores of a password. So the password is in no statement, and in no log.

    https://www.postgresql.org/docs/current/catalog-pg-authid.html, RFC 5803
    """
    salt = os.urandom(16)
    key = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 4096)
    stored = hashlib.sha256(hmac.digest(key, b"Client Key", "sha256")).digest()
    encoded = [b64encode(part).decode() for part in (salt, stored, hmac.digest(key, b"Server Key", "sha256"))]
    return "SCRAM-SHA-256$4096:{}${}:{}".format(*encoded)


def passwords(settings: Settings) -> Iterator[str]:
    """Yield the SQL that gives the roles the passwords of their URLs."""
    for url in (settings.database_owner_url, settings.database_url, settings.database_replica_url):
        if url and url.username and url.password:
            yield f"ALTER ROLE {quoted(url.username)} PASSWORD {literal(verifier(str(url.password)))};"


async def run(settings: Settings, administrator: URL) -> None:
    """Make the roles as this administrator.

    Raises:
        asyncpg.PostgresError: PostgreSQL refuses a statement; nothing is changed.
        DBAPIError: the server cannot be reached.
    """
    arguments = connect_args(settings.for_script("roles").model_copy(update={"database_url": administrator}))
    engine = create_async_engine(DRIVER, connect_args=arguments, poolclass=NullPool)
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
