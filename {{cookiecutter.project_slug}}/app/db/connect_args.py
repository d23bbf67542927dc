"""What an engine connects with: the URL, and the settings that the server keeps for each connection."""

import math
import os
import ssl
import sys
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import asyncpg
from sqlalchemy import URL

from app.config import Settings
from app.database_url import OF_DRIVER
from app.db.connection import KEEP_ALIVE, Connection, connect
from app.db.telemetry import Limits

DRIVER = "postgresql+asyncpg://"
FILES = ("sslrootcert", "sslcert", "sslkey")  # of TLS, in a URL
SYSTEM = "system"  # as `sslrootcert`: the system's roots, as libpq has it
CHECK_CLIENT = "0" if sys.platform == "win32" else "1s"  # a server on Windows takes nothing but 0
COMMAND_GRACE = 1  # seconds that the server has to say itself that a statement took too long
# PgBouncer may give every transaction another server connection, so nothing is prepared for a later one. The
# first is asyncpg's cache, the second SQLAlchemy's. Each statement is parsed again at each execution.
PGBOUNCER = {"statement_cache_size": 0, "prepared_statement_cache_size": 0}

# `target_session_attrs` of reads. Their connections are read-only themselves, which asyncpg takes for the
# server's. The rest of `prefer-standby` is done by the replica's fallback: there is one URL for each host.
OF_READS = {"read-write": "primary", "read-only": "standby", "prefer-standby": "standby"}


def connect_args(settings: Settings, *, read_only: bool = False) -> dict[str, Any]:
    """Return the `connect_args` of an engine. What is set at connect costs no round trip later.

    They hold the URL: the engine gets the bare `DRIVER`, because SQLAlchemy does not know all of a URL that
    asyncpg does. PgBouncer takes no settings at connect. There the role has them: the migrations see to that.
    """
    limit = settings.database_statement_timeout
    read = {"default_transaction_read_only": "on"} if read_only else {}
    settings_of_server = {"server_settings": server_settings(settings) | read}
    return {
        "async_creator_fn": connect,
        **of_url(settings.database_url, settings, read_only=read_only),
        # A little after the server's own limit. It counts where the network or the server is frozen.
        "command_timeout": limit + COMMAND_GRACE if limit else None,
        **(PGBOUNCER if settings.database_pgbouncer else settings_of_server),
    }


def of_url(url: URL, settings: Settings, *, read_only: bool = False, primary: bool = True) -> dict[str, Any]:
    """Return the part of the `connect_args` that depends on the URL: there is one URL for each host."""
    query: dict[str, Any] = dict(url.query)
    hosts = hosts_of(url)
    ports = query["port"].split(",") if "port" in query else [url.port]
    if len(hosts) > 1 and primary:
        query.setdefault("target_session_attrs", "read-write")
    wanted = query.get("target_session_attrs")
    if read_only and wanted in OF_READS and (wanted != "prefer-standby" or not primary):
        query["target_session_attrs"] = OF_READS[wanted]
    times = {name: int(value) for name, value in query.items() if name.startswith("keepalives")}
    own = {"keep_alive": KEEP_ALIVE | times, "limits": Limits.of(settings)}
    # PgBouncer would send a SET where reads and writes take turns on a connection.
    purpose = " reads" if read_only and not settings.database_pgbouncer else ""
    query.setdefault("application_name", settings.database_application_name + purpose)
    return {
        "urls": [url_of(url, query, host, port) for host, port in zip(hosts, ports, strict=True)],
        "retry_for": float(query.get("connect_timeout", 0)) or settings.database_connect_timeout,
        "connection_class": type("Connection", (Connection,), own),
        "tls": partial(tls, *map(query.get, FILES), passfile=query.get("passfile")),
    }


def hosts_of(url: URL) -> Sequence[str | None]:
    """Return the hosts of a URL. None: the URL leaves that to the driver."""
    several = url.query.get("host")
    return str(several).split(",") if several else [url.host]


def tls(roots: str | None, *client: str | None, passfile: str | None) -> dict[str, Any]:
    """Return what asyncpg does not know of TLS: the system's roots. It is asked at each connect.

    Raises:
        asyncpg.InterfaceError: a file cannot be used. The error of the file itself would not name it, and
            asyncpg would go on without the password.
    """
    for name, path in zip((*FILES, "passfile"), (roots, *client, passfile), strict=True):
        if path and path != SYSTEM and not os.access(path, os.R_OK):
            raise asyncpg.InterfaceError(f"The file of {name} cannot be read: {path}")
    if passfile and os.name == "posix" and Path(passfile).stat().st_mode & 0o077:
        raise asyncpg.InterfaceError(f"The file of passfile can be read by others. Set mode 0600: {passfile}")
    return {"ssl": with_system_roots(*client)} if roots == SYSTEM else {}


@cache
def with_system_roots(certificate: str | None, key: str | None) -> ssl.SSLContext:
    """Return what checks the server's certificate and name (verify-full) against the system's roots."""
    context = ssl.create_default_context()
    if certificate:
        context.load_cert_chain(certificate, key)
    return context


def url_of(url: URL, query: dict[str, Any], host: str | None, port: Any) -> str:
    """Return the URL as asyncpg reads it, with one of its hosts."""
    kept = {"sslmode" if name == "ssl" else name: value for name, value in query.items()}
    own = {*FILES, "sslmode"} if query.get("sslrootcert") == SYSTEM else set()
    kept = {name: value for name, value in kept.items() if name in OF_DRIVER - own}
    if host:
        kept |= {"host": f"[{host}]" if ":" in host and host[0] not in "[/" else host, "port": port}
    user = quote(url.username or "", safe="")
    password = ":" + quote(url.password, safe="") if url.password else ""
    at = "@" if user or password else ""
    database = "/" + quote(url.database, safe="") if url.database else ""
    return f"postgresql://{user}{password}{at}{database}?{urlencode(kept)}"


def server_settings(settings: Settings) -> dict[str, str]:
    """Return the settings that the server keeps for each connection. No rollback undoes them.

    https://www.postgresql.org/docs/current/runtime-config-client.html
    """
    return {
        "search_path": search_path(settings),  # raw SQL sees the configured schema, and extensions
        "statement_timeout": milliseconds(settings.database_statement_timeout),
        "lock_timeout": milliseconds(settings.database_lock_timeout),
        "idle_in_transaction_session_timeout": milliseconds(settings.database_idle_transaction_timeout),
        "client_connection_check_interval": CHECK_CLIENT,  # ends the query of a client that is gone
    }


def milliseconds(seconds: float) -> str:
    """Return the time as PostgreSQL reads it."""
    return f"{math.ceil(seconds * 1000)}ms"


def search_path(settings: Settings) -> str:
    """Return the configured schema, and after it those of extensions, as SQL has them."""
    names = dict.fromkeys((settings.database_schema, *settings.database_extension_schemas))
    return ", ".join(map(quoted, names))


def quoted(name: str) -> str:
    """Return a name as SQL has it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'
