"""A PostgreSQL URL as people have it, made into the one that SQLAlchemy and asyncpg take."""

import re
from urllib.parse import unquote

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

EXAMPLE = "postgresql://user:password@host:5432/database"
SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def parse_database_url(text: object) -> URL:
    """Return the URL for `create_async_engine`.

    Takes `postgres://`, `postgresql://` and `postgresql+asyncpg://`, any character in the password,
    encoded or not, and the parameters managed databases put into their URLs: `sslmode` becomes asyncpg's
    `ssl`, and `channel_binding` is dropped, for asyncpg has none. `host` may name a socket's folder.

    Raises:
        ValueError: what is wrong and what is allowed. It never repeats the URL, which may hold a password.
    """
    if isinstance(text, URL):
        return text
    scheme, separator, rest = str(text).strip().partition("://")
    if not separator or not re.fullmatch(r"[a-z0-9+]+", scheme):
        raise ValueError(f"is not a URL. Expected {EXAMPLE}.")
    if scheme not in SCHEMES:
        raise ValueError(f"{scheme}:// is not supported. Expected {EXAMPLE}.")
    # The last @ ends the password: one that is not encoded may hold others, and / # ? as well.
    credentials, _, address = rest.rpartition("@")
    user, colon, password = credentials.partition(":")
    try:
        url = make_url(f"postgresql+asyncpg://{address}")
    except (ArgumentError, ValueError):
        raise ValueError(f"has no valid host and port. Expected {EXAMPLE}.") from None
    if not url.database or not (url.host or "host" in url.query):
        raise ValueError(f"must name a host and a database. Expected {EXAMPLE}.")
    return url.set(
        username=unquote(user) or None,
        password=unquote(password) if colon else None,
        query=_asyncpg_parameters(dict(url.query)),
    )


def _asyncpg_parameters(
    query: dict[str, str | tuple[str, ...]],
) -> dict[str, str | tuple[str, ...]]:
    query.pop("channel_binding", None)
    if "sslmode" in query:
        query["ssl"] = query.pop("sslmode")
    if "ssl" in query and query["ssl"] not in SSL_MODES:
        raise ValueError(f"has an unknown sslmode. Allowed: {', '.join(SSL_MODES)}.")
    if unknown := sorted(set(query) - {"ssl", "host"}):
        raise ValueError(
            f"has unsupported parameters: {', '.join(unknown)}. Allowed: sslmode, channel_binding, host. "
            "Certificates are named by the variables PGSSLROOTCERT, PGSSLCERT and PGSSLKEY."
        )
    return query
