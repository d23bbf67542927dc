"""The settings. The environment and `.env` override the defaults, some of which are your answers."""

import os
import sys
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.setting_types import (
    NAME_LENGTH,
    ApplicationName,
    DatabaseURL,
    OptionalURL,
    Origins,
    PoolRecycle,
    Schema,
    Schemas,
)

# fmt: off
PROJECT_NAME: str = "{{ cookiecutter.project_name | in_quotes }}"
DESCRIPTION: str = "{{ cookiecutter.description | in_quotes }}"
PROJECT_SLUG: str = "{{ cookiecutter.project_slug }}"
DATABASE_SCHEMA: str = "{{ cookiecutter.database_schema | in_quotes }}"
# fmt: on
OTHERS = {  # than DATABASE_URL, that name a database or the way to it
    **dict.fromkeys(("database_owner_url", "database_direct_url", "database_replica_url")),
    "database_pgbouncer": False,
}
HOW_TO_SET = (
    "not set. Set it in the environment or in .env, for example to postgresql://user:password@host/database. "
    "`uv run python -m dev` brings a database of its own, also for a command: `uv run python -m dev COMMAND`."
)


class Settings(BaseSettings):
    """Everything the service reads from the environment. `.env` has what the environment does not set."""

    model_config = SettingsConfigDict(
        env_file=Path(__file__).parents[1] / ".env",
        env_ignore_empty=True,
        extra="ignore",  # `.env` may hold variables of other programs
        hide_input_in_errors=True,  # the URL holds a password
        validate_default=True,
    )

    database_url: DatabaseURL
    database_schema: Schema = DATABASE_SCHEMA
    database_extension_schemas: Schemas = ["public"]  # on the search path too, separated by commas

    database_owner_url: OptionalURL = None  # for migrations alone: the role that owns the schema
    database_pgbouncer: bool = False  # DATABASE_URL leads through PgBouncer in transaction mode
    database_direct_url: OptionalURL = None  # past PgBouncer, for scripts and migrations
    database_replica_url: OptionalURL = None  # where ReadSessionDep reads
    database_replica_fallback: bool = True  # to DATABASE_URL while the replica is away

    # Seconds. 0 turns a limit off.
    database_connect_timeout: float = Field(5, gt=0, le=600)
    database_statement_timeout: float = Field(10, ge=0, le=86_400)
    database_lock_timeout: float = Field(5, ge=0, le=86_400)
    database_idle_transaction_timeout: float = Field(30, ge=0, le=86_400)

    # Seconds after which there is a line in the log. 0: none.
    database_statement_warning: float = Field(1, ge=0, le=86_400)
    database_idle_transaction_warning: float = Field(2, ge=0, le=86_400)
    # In pg_stat_activity, followed by what the connection is for.
    database_application_name: ApplicationName = PROJECT_SLUG[:NAME_LENGTH]

    # A worker holds at most pool size + max overflow connections to write, and read pool size to read.
    database_pool_size: int = Field({{ cookiecutter.pool_size | int }}, ge=1, le=10_000)
    database_max_overflow: int = Field({{ cookiecutter.max_overflow | int }}, ge=0, le=10_000)
    database_read_pool_size: int = Field(10, ge=1, le=10_000)
    database_pool_timeout: float = Field({{ cookiecutter.pool_timeout | int }}, gt=0, le=600)  # seconds
    database_pool_recycle: PoolRecycle = Field({{ cookiecutter.pool_recycle | int }}, ge=-1)  # seconds; -1: never
    database_pool_pre_ping: bool = {{ cookiecutter.pool_pre_ping == "yes" }}

    web_concurrency: int = Field(1, ge=1)  # workers; uvicorn reads the same variable
    max_body_size: int = Field(65_536, ge=0)  # bytes
    cors_origins: Origins = []  # whose pages may call the service, separated by commas; *: all
    docs: bool = False  # /docs, /redoc and /openapi.json; `python -m dev` turns them on
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @property
    def place(self) -> str:
        """Host, port and database, to be shown to a person."""
        url = self.database_url
        return f"{url.host or url.query.get('host', '')}{f':{url.port}' if url.port else ''}/{url.database}"

    def for_script(self, purpose: str = "script") -> Self:
        """Return the settings of a script: straight to the primary, without time limits.

        With PgBouncer and without DATABASE_DIRECT_URL the time limits stay: the role has them.
        """
        limits = ["statement_timeout", "lock_timeout", "idle_transaction_timeout"]
        limits += ["statement_warning", "idle_transaction_warning"]
        changes: dict[str, object] = {f"database_{name}": 0 for name in limits}
        changes |= {"database_replica_url": None, "database_owner_url": None}
        changes["database_application_name"] = f"{self.database_application_name} {purpose}"
        if self.database_direct_url:
            changes |= {"database_url": self.database_direct_url, "database_pgbouncer": False}
        return self.model_copy(update=changes)

    def for_migrations(self) -> Self:
        """Return the settings of Alembic: those of a script, with the role that owns the schema."""
        # The lock limit stays: a migration that waits for a lock blocks the service.
        changes: dict[str, object] = {"database_lock_timeout": self.database_lock_timeout}
        if self.database_owner_url:
            changes |= {"database_url": self.database_owner_url, "database_pgbouncer": False}
        return self.for_script("migrations").model_copy(update=changes)


@cache
def get_settings() -> Settings:
    """Return the settings, read once.

    A missing or wrong value ends the process with a line for each. The exit status 3 is uvicorn's own for
    "could not start". If a worker ends so, uvicorn stops, with status 0: uvicorn.json reads the settings before.
    """
    others: dict[str, Any] = {}
    if os.environ.get("DATABASE_URL"):  # another database: what `.env` says of the first does not count
        others = {name: value for name, value in OTHERS.items() if not os.environ.get(name.upper())}
    try:
        return Settings(**others)
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_url=False):
            variable = str(problem["loc"][0]).upper()
            missing = HOW_TO_SET if variable == "DATABASE_URL" else "not set."
            message = missing if problem["type"] == "missing" else problem["msg"]
            print(f"{variable}: {message.removeprefix('Value error, ')}", file=sys.stderr)
    except UnicodeDecodeError:
        print(".env: is not UTF-8. Save it as that.", file=sys.stderr)
    sys.exit(3)
