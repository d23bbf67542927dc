"""What is checked before a migration writes, and what is said when a migration fails."""

import traceback
from pathlib import Path

from alembic.util import CommandError
from sqlalchemy import Connection, column, select, table, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateSchema

VERSIONS = Path(__file__).parent / "versions"
SCHEMA = text("""
    SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = name), quote_ident(name),
        quote_ident(current_user), has_database_privilege(current_database(), 'CREATE')
    FROM CAST(:name AS text) AS name
""")
CURRENT_SCHEMA = text("SELECT current_schema()")
VERSION_TABLES = text("""
    SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relname = 'alembic_version' AND has_table_privilege(pg_class.oid, 'SELECT')
        AND has_schema_privilege(pg_namespace.oid, 'USAGE')
""")
HINTS = {
    "3F000": "`alembic upgrade head` creates the schema of the service.",
    "42501": "Set DATABASE_OWNER_URL to the role that owns the tables, or have their owner grant the right.",
    "55P03": "Another transaction held a lock for DATABASE_LOCK_TIMEOUT. Run the command again.",
}


def create_schema(connection: Connection, schema: str) -> None:
    """Create the schema if it is missing.

    Raises:
        CommandError: the role may not create it.
    """
    there, quoted, role, allowed = connection.execute(SCHEMA, {"name": schema}).one()
    if not there and not allowed:
        raise CommandError(
            f"The role {role} may not create the schema {quoted}. Have an administrator run: "
            f"CREATE SCHEMA {quoted} AUTHORIZATION {role}"
        )
    if not there:
        connection.execute(CreateSchema(schema))


def check_current(connection: Connection, schema: str) -> None:
    """Check that a table without a schema's name would be created in this schema.

    Raises:
        CommandError: the role may not use the schema. PostgreSQL would take the next one of the search path.
    """
    if connection.scalar(CURRENT_SCHEMA) != schema:
        _, quoted, role, _ = connection.execute(SCHEMA, {"name": schema}).one()
        raise CommandError(
            f"The role {role} may not use the schema {quoted}. Have its owner run: "
            f"GRANT USAGE, CREATE ON SCHEMA {quoted} TO {role}"
        )


def check_not_renamed(connection: Connection, schema: str, revisions: set[str]) -> None:
    """Check that the tables of this service are not in another schema of the database.

    Raises:
        CommandError: they are, and this schema has none.
    """
    found = set(connection.scalars(VERSION_TABLES))
    for other in sorted(found) if schema not in found else []:
        versions = table("alembic_version", column("version_num"), schema=other)
        if revisions & set(connection.scalars(select(versions.c.version_num))):
            (_, new, *_), (_, old, *_) = (
                connection.execute(SCHEMA, {"name": name}).one() for name in (schema, other)
            )
            raise CommandError(
                f"The schema {new} has no tables of this service, and the schema {old} has. To keep them: "
                f"ALTER SCHEMA {old} RENAME TO {new}, or set DATABASE_SCHEMA to {other}. To begin with an "
                f"empty schema: alembic -x empty={schema} upgrade head"
            )


def check_known(heads: set[str], revisions: set[str]) -> None:
    """Check that the revision which the database has is in `migrations/versions/`.

    Raises:
        CommandError: it is not.
    """
    if unknown := heads - revisions:
        raise CommandError(
            f"The database has the revision {', '.join(sorted(unknown))}, and migrations/versions/ does not. "
            "Another branch has it. Go back to that branch and run `alembic downgrade`, or begin anew "
            "with `python -m dev reset`, which deletes the development database. If the tables fit the "
            "models: `alembic stamp --purge head`."
        )


def explain(error: DBAPIError) -> str:
    """Return a line that says what failed, and where. The values that PostgreSQL quotes are left out."""
    cause = (error.orig and error.orig.__cause__) or error.orig
    state = str(getattr(cause, "sqlstate", ""))
    message = type(cause).__name__ if state.startswith("22") else str(cause).partition("\n")[0]
    stack = traceback.extract_tb(error.__traceback__)
    lines = [
        f"{Path(f.filename).name}, line {f.lineno}: " for f in stack if Path(f.filename).parent == VERSIONS
    ]
    where, kept = (lines[-1], " Revisions before this one stay applied.") if lines else ("", "")
    return f"{where}{message}.{kept} {HINTS.get(state, '')}".rstrip()
