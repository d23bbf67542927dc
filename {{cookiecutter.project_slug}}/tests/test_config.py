"""Settings: which values are taken, and what a wrong value says."""

import pytest
from sqlalchemy import URL

from app.config import Settings, get_settings
from app.setting_types import parse_database_url

SECRET = "s3cret"  # pragma: allowlist secret


@pytest.mark.parametrize(
    ("text", "password", "query"),
    [
        ("postgres://u:password@h/db", "password", {}),
        (" postgresql+asyncpg://u:p%40%2F%23@h:5432/db\n", "p@/#", {}),  # pragma: allowlist secret
        ("postgresql://u:p@/#?:%w ü@h/db", "p@/#?:%w ü", {}),  # pragma: allowlist secret
        ("postgresql://u@h/db?sslmode=require&load_balance_hosts=disable", None, {"ssl": "require"}),
    ],
)
def test_a_url_is_taken_as_a_provider_gives_it(
    text: str, password: str | None, query: dict[str, str]
) -> None:
    url = parse_database_url(text)
    assert (url.drivername, url.host, url.database) == ("postgresql+asyncpg", "h", "db")
    assert (url.password, dict(url.query)) == (password, query)


@pytest.mark.parametrize("schema", ["x" * 63, "MySchema", 'Odd-Schema "x"', "user", "schéma"])
def test_any_schema_that_postgresql_takes_is_taken(schema: str) -> None:
    assert Settings(database_schema=schema).database_schema == schema


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("DATABASE_URL", "", "DATABASE_URL: not set"),
        ("DATABASE_URL", f"mysql://u:{SECRET}@h/db", "DATABASE_URL: mysql:// is not supported"),
        ("DATABASE_REPLICA_URL", SECRET, "DATABASE_REPLICA_URL: is not a URL"),
        ("DATABASE_SCHEMA", "pg_mine", "DATABASE_SCHEMA: 'pg_mine' is not allowed"),
        ("DATABASE_POOL_SIZE", "0", "DATABASE_POOL_SIZE: Input should be greater than or equal to 1"),
        ("CORS_ORIGINS", "a.example", "CORS_ORIGINS: 'a.example' is no origin"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    value: str,
    message: str,
) -> None:
    monkeypatch.setattr(Settings, "model_config", {**Settings.model_config, "env_file": None})
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit):
        get_settings.__wrapped__()  # reads the settings again
    said = capsys.readouterr().err
    assert said.startswith(message)
    assert said.count("\n") == 1
    assert SECRET not in said


def test_a_script_and_a_migration_have_their_own_urls_and_no_time_limit() -> None:
    urls = {name: parse_database_url(f"postgresql://h/{name}") for name in ("direct", "owner", "replica")}
    settings = get_settings().model_copy(update={f"database_{name}_url": url for name, url in urls.items()})
    script, migration = settings.for_script(), settings.for_migrations()
    assert (script.database_url, migration.database_url) == (urls["direct"], urls["owner"])
    assert (script.database_replica_url, script.database_owner_url) == (None, None)
    assert (script.database_statement_timeout, migration.database_statement_timeout) == (0, 0)
    assert script.database_lock_timeout == 0
    assert migration.database_lock_timeout == settings.database_lock_timeout


def test_no_way_of_printing_the_settings_shows_the_password() -> None:
    settings = Settings(database_url=URL.create("postgresql+asyncpg", "u", SECRET, "h", database="d"))
    assert SECRET not in f"{settings!r} {settings} {settings.database_url!r} {settings.database_url}"
