"""Which answers are right, and their plain form. Pure functions; a ValueError says what is wrong."""

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from urllib.parse import parse_qsl

from local_extensions.names import DEPENDENCIES, DEVICES
from local_extensions.quoting import in_markdown

YES = ("yes", "y", "true", "t", "on", "1")
NO = ("no", "n", "false", "f", "off", "0")
READ_POOL_SIZE = 10  # the default of DATABASE_READ_POOL_SIZE in app/config.py
USABLE_CONNECTIONS = 97  # of the 100 that a stock PostgreSQL has


def load(path: Path) -> ModuleType:
    """Return the module that is in the file. No bytecode is kept: cookiecutter would render that, too."""
    module = ModuleType(path.stem)
    exec(compile(path.read_text(encoding="utf-8"), path, "exec"), vars(module))  # noqa: S102 a file of ours
    return module


# The prompt takes the URLs that the service takes.
URLS = load(Path(__file__).parents[1] / "{{cookiecutter.project_slug}}" / "app" / "database_url.py")


def plain_text(answer: object) -> str:
    """Take what can be written to a file."""
    if not isinstance(answer, str | int):
        raise ValueError("is not text.")  # noqa: TRY004 an answer like the others that are wrong
    text = str(answer)
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("holds a NUL or bytes that are no letters. Allowed: any text in UTF-8.")
    return text


def check_name(text: str) -> str:
    """Take any text that shows something."""
    if not in_markdown(text):
        raise ValueError("is empty. Give a name.")
    return text


def check_slug(text: str) -> str:
    """Take what is both a distribution's name and a folder's on every system."""
    fits = re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", text) and len(text) <= 64
    if re.sub(r"[._-]+", "-", text).lower() in DEPENDENCIES:
        raise ValueError(f"is {text!r}, the name of a package that the project is made from. Take another.")
    if not fits or text.split(".", maxsplit=1)[0].lower() in DEVICES:
        raise ValueError(
            f"is {text!r}. Allowed: up to 64 letters a-z, digits, dots, dashes and underscores, a letter or "
            "digit first and last, and no name that Windows reserves, such as con or nul."
        )
    return text


def check_url(text: str) -> str:
    """Accept what the rendered project accepts, or nothing."""
    if not (text := str(URLS.without_quotes(text))):
        return ""
    URLS.read_url(text)
    if not URLS.split_credentials(text)[1].isprintable():
        raise ValueError("has an invisible character after the password. Write it encoded, as in %0A.")
    return text


def check_schema(text: str) -> str:
    """Take what PostgreSQL takes for a schema's name."""
    reserved = text.startswith("pg_") or text in ("information_schema", "$user")
    if reserved or not 1 <= len(text.encode()) <= 63:
        raise ValueError(
            f"is {text!r}. Allowed: 1 to 63 bytes, not starting with pg_, "
            "neither information_schema nor $user."
        )
    return text


def whole_number(low: int, high: int) -> Callable[[str], str]:
    """Return a check for a whole number within these bounds."""

    def check_number(text: str) -> str:
        text = text.strip()
        if not re.fullmatch(r"-?[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise ValueError(f"is {text!r}. Allowed: a whole number from {low} to {high}.")
        return str(int(text))

    return check_number


def check_recycle(text: str) -> str:
    """Take a number of seconds, or -1. With 0 every use of the database would open a connection."""
    try:
        return "-1" if text.strip() == "-1" else whole_number(1, 31_536_000)(text)
    except ValueError as error:
        raise ValueError(f"{str(error).removesuffix('.')}, or -1 for never.") from None


def check_yes_or_no(text: str) -> str:
    """Take yes or no in the words that people have for them."""
    word = text.strip().lower()
    if word not in (*YES, *NO):
        raise ValueError(f"is {text!r}. Allowed: yes or no.")
    return "yes" if word in YES else "no"


def check_ci(text: str) -> str:
    """Take the name of a CI that there are files for, or none."""
    name = text.strip().lower()
    if name not in ("github", "gitlab", "none"):
        raise ValueError(f"is {text!r}. Allowed: github, gitlab or none.")
    return name


CHECKS: dict[str, Callable[[str], str]] = {
    "project_name": check_name,
    "project_slug": check_slug,
    "description": str,
    "database_url": check_url,
    "database_schema": check_schema,
    "pool_size": whole_number(1, 10_000),
    "max_overflow": whole_number(0, 10_000),
    "pool_timeout": whole_number(1, 600),
    "pool_recycle": check_recycle,
    "pool_pre_ping": check_yes_or_no,
    "ci": check_ci,
    "kubernetes": check_yes_or_no,
}


def without_password(url: str) -> str:
    """Return the URL without the password that it may have."""
    scheme, separator, rest = url.partition("://")
    credentials, address = URLS.split_credentials(rest)
    at = "@" if credentials or rest.startswith("@") else ""
    place, mark, query = address.partition("?")
    parts = [part for part in query.split("&") if part and not part.startswith("password=")]
    # What is no parameter of PostgreSQL may be a password, too: its name is kept.
    names = [part.partition("=")[0] for part in parts]
    kept = "&".join(
        part if name in URLS.KNOWN else f"{name}=" for part, name in zip(parts, names, strict=True)
    )
    return f"{scheme}{separator}{credentials.partition(':')[0]}{at}{place}{mark if kept else ''}{kept}"


def left_out(url: str) -> str:
    """Return a warning of the parameters that the service leaves out, or nothing."""
    query = URLS.read_url(url).partition("?")[2] if url else ""
    names = URLS.left_out(set(dict(parse_qsl(query, keep_blank_values=True))))
    return f"database_url has parameters that are left out: {', '.join(names)}." if names else ""


def too_many_connections(pool_size: int, max_overflow: int) -> str:
    """Return a warning with the arithmetic if a stock server has too few connections, or nothing."""
    one = pool_size + max_overflow + READ_POOL_SIZE
    if one <= USABLE_CONNECTIONS:
        return ""
    return (
        f"pool_size {pool_size} + max_overflow {max_overflow} + {READ_POOL_SIZE} that read = {one} "
        f"connections for one worker, {2 * one} for two. "
        f"A stock PostgreSQL has {USABLE_CONNECTIONS} for applications."
    )
