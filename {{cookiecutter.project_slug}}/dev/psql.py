"""How psql reaches the database: by variables, because every user of the machine sees the arguments."""

import re
import shutil

from app.config import get_settings
from app.db.connect_args import hosts_of, search_path
from dev.programs import PostgresUnavailableError, programs

OF_PARAMETER = {
    "ssl": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "passfile": "PGPASSFILE",
    "service": "PGSERVICE",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}


def program() -> str:
    """Return the path of psql: the machine's, or the wheel's, which has neither TLS nor a line editor."""
    try:
        return shutil.which("psql") or str(programs() / "psql")
    except PostgresUnavailableError:
        return "psql"


def variables() -> dict[str, str]:
    """Return libpq's variables.

    https://www.postgresql.org/docs/current/libpq-envars.html
    """
    settings = get_settings().for_migrations()  # as the owner; past PgBouncer, if there is a way
    url = settings.database_url
    given = {
        "PGHOST": url.host or url.query.get("host"),
        "PGPORT": url.port or url.query.get("port"),
        "PGUSER": url.username,
        "PGPASSWORD": url.password,
        "PGDATABASE": url.database,
        **{variable: url.query.get(name) for name, variable in OF_PARAMETER.items()},
    }
    if len(hosts_of(url)) > 1:
        given["PGTARGETSESSIONATTRS"] = given["PGTARGETSESSIONATTRS"] or "read-write"  # as the service has it
    if not settings.database_pgbouncer:  # which takes no options
        path = re.sub(r"([\\\s])", r"\\\1", search_path(settings))
        given["PGOPTIONS"] = f"-c search_path={path}"
    return {name: str(value) for name, value in given.items() if value}
