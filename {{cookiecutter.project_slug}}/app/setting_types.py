"""The types of the settings: how a text of the environment is read, and what is refused."""

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, PlainValidator
from pydantic_settings import NoDecode
from sqlalchemy import URL, make_url

from app.database_url import read_url

NAME_LENGTH = 46  # PostgreSQL keeps 63


def check_schema(name: str) -> str:
    """Return the name of the schema if PostgreSQL takes it."""
    reserved = name.startswith("pg_") or name in ("information_schema", "$user")
    if reserved or not 1 <= len(name.encode()) <= 63 or "\0" in name:
        raise ValueError(
            f"{name!r} is not allowed. Allowed: 1 to 63 bytes, no NUL, "
            "not starting with pg_, neither information_schema nor $user."
        )
    return name


def parse_database_url(text: object) -> URL:
    """Return the URL for SQLAlchemy, which hides the password where it is printed.

    Raises:
        ValueError: what is wrong. It never repeats the URL.
    """
    if isinstance(text, URL):
        return text
    url = make_url(read_url(str(text))).set(drivername="postgresql+asyncpg")
    query = {"ssl" if name == "sslmode" else name: value for name, value in url.query.items()}
    return url.set(query=query)  # `ssl` is what SQLAlchemy hands to asyncpg


def check_optional_url(text: object) -> URL | None:
    """Return the URL; or None for `none`, with which the environment overrides what `.env` has."""
    return None if text in (None, "none") else parse_database_url(text)


def check_application_name(name: str) -> str:
    """Return the name if PostgreSQL shows all of it, with what the connection is for after it."""
    if name.isascii() and name.isprintable() and name.strip() and len(name) <= NAME_LENGTH:
        return name
    raise ValueError(f"{name!r} is not allowed. Allowed: up to {NAME_LENGTH} printable characters of ASCII.")


def check_pool_recycle(seconds: int) -> int:
    """Refuse 0: it would open a connection for each use."""
    if seconds:
        return seconds
    raise ValueError("Input should be -1 or greater than 0")


def check_origin(text: str) -> str:
    """Return the origin of a page, or `*`."""
    if text == "*" or re.fullmatch("https?://[a-z0-9.:\\[\\]-]+", text):
        return text
    raise ValueError(f"{text!r} is no origin. Expected https://example.com (small letters) or *.")


def split(text: object) -> object:
    """Return the parts of a text, which commas separate; no parts for `none`."""
    if not isinstance(text, str):
        return text
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return [] if parts == ["none"] else parts


ApplicationName = Annotated[str, AfterValidator(check_application_name)]
Schema = Annotated[str, AfterValidator(check_schema)]
Schemas = Annotated[list[Schema], NoDecode, BeforeValidator(split)]
Origins = Annotated[list[Annotated[str, AfterValidator(check_origin)]], NoDecode, BeforeValidator(split)]
PoolRecycle = Annotated[int, AfterValidator(check_pool_recycle)]
Shown = PlainSerializer(lambda url: url and repr(url), return_type=str | None)  # without the password
DatabaseURL = Annotated[URL, NoDecode, PlainValidator(parse_database_url), Shown]
OptionalURL = Annotated[URL | None, NoDecode, PlainValidator(check_optional_url), Shown]
