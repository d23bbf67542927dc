"""What is checked before a migration writes, and what is said when a migration fails."""

import shlex
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
WRITERS = text("""
    SELECT DISTINCT grantee FROM information_schema.role_table_grants
    WHERE table_schema = :schema AND table_name = 'alembic_version' AND privilege_type <> 'SELECT'
        AND grantor = current_user AND grantee <> current_user
""")
CURRENT_SCHEMA = text("SELECT current_schema()")
VERSION_TABLES = text("""
    SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        JOIN pg_attribute ON attrelid = pg_class.oid AND attname = 'version_num'
    WHERE relname = 'alembic_version' AND has_table_privilege(pg_class.oid, 'SELECT')
        AND has_schema_privilege(pg_namespace.oid, 'USAGE')
""")
HINTS = {
    "3F000": "First run `alembic upgrade head`.",
    "42501": "Set DATABASE_OWNER_URL to a role that has this right, or have an administrator grant it.",
    "42704": "An extension? Its revision begins with CREATE EXTENSION: see the README.",
    "42P07": "If it is somebody else's, set DATABASE_SCHEMA to a schema of your own.",
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

    def applied(name: str) -> set[str]:
        versions = table("alembic_version", column("version_num"), schema=name)
        return set(connection.scalars(select(versions)))

    found = set(connection.scalars(VERSION_TABLES))
    for other in [] if schema in found and applied(schema) else sorted(found - {schema}):
        if revisions & applied(other):
            there, new, *_ = connection.execute(SCHEMA, {"name": schema}).one()
            _, old, *_ = connection.execute(SCHEMA, {"name": other}).one()
            rename = "" if there else f"To rename the schema: ALTER SCHEMA {old} RENAME TO {new}. "
            raise CommandError(
                f"The schema {old} has the tables of this service, or of another one of the same template. "
                f"The schema {new} has none. If {old} is another service's, or to begin anew: "
                f"alembic -x {shlex.quote(f'empty={schema}')} upgrade head. {rename}"
                f"To go on with {old}, set DATABASE_SCHEMA to {other}."
            )


def protect_versions(connection: Connection, schema: str) -> None:
    """Let nobody but the owner write Alembic's own table. The owner's default privileges let the service."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    for role in connection.scalars(WRITERS, {"schema": schema}).all():
        table_of_alembic = f"{quote(schema)}.alembic_version"
        connection.exec_driver_sql(f"REVOKE INSERT, UPDATE, DELETE ON {table_of_alembic} FROM {quote(role)}")


def check_known(heads: set[str], revisions: set[str]) -> None:
    """Check that the revision which the database has is in `migrations/versions/`.

    Raises:
        CommandError: it is not.
    """
    if unknown := heads - revisions:
        raise CommandError(
            f"The database has the revision {', '.join(sorted(unknown))}, and migrations/versions/ does not. "
            "If another branch has it, go back to that branch and run `alembic downgrade -1`. "
            "The development database can be deleted: `python -m dev reset`. "
            "If the tables are those of another service, set DATABASE_SCHEMA to a schema of your own."
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
