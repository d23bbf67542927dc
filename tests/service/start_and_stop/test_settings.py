"""Settings: what a DATABASE_URL may look like, and what a wrong value says."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import URL

from app.config import Settings, get_settings
from app.setting_types import parse_database_url
from service.tools import PROJECT, run

SECRET = "s3cret"


@pytest.mark.parametrize(
    ("text", "password", "host", "query"),
    [
        ("postgres://u:pw@h/db", "pw", "h", {}),
        ("postgresql://u:pw@h/db", "pw", "h", {}),
        ("postgresql+asyncpg://u:pw@h/db", "pw", "h", {}),
        (" postgresql://u:pw@h/db\n", "pw", "h", {}),
        ("postgresql://u:p%40%2F%23%25@h/db", "p@/#%", "h", {}),
        ("postgresql://u:p@/#?:%w ü@h/db", "p@/#?:%w ü", "h", {}),
        ("postgresql://u@h/db", None, "h", {}),
        ("postgresql://u:pw@h:65535/db", "pw", "h", {}),
        ("postgresql://u:@h/db", "", "h", {}),
        ("postgresql://h/db", None, "h", {}),
        ("postgresql://u:pw@[::1]:5433/db", "pw", "::1", {}),
        (
            "postgresql://u:pw@/db?host=/run/postgresql",
            "pw",
            None,
            {"host": "/run/postgresql", "port": "5432"},
        ),
        ("postgresql://u:pw@h/db?sslmode=require", "pw", "h", {"ssl": "require"}),
        (
            "postgresql://u:pw@h/db?sslmode=verify-full&channel_binding=require",
            "pw",
            "h",
            {"ssl": "verify-full", "channel_binding": "require"},
        ),
        ("postgresql://u:pw@h/db?ssl=prefer", "pw", "h", {"ssl": "prefer"}),
    ],
)
def test_a_url_is_taken_as_people_have_it(
    text: str, password: str | None, host: str | None, query: dict[str, str]
) -> None:
    url = parse_database_url(text)
    assert url.drivername == "postgresql+asyncpg"
    assert (url.password, url.host, url.database, dict(url.query)) == (password, host, "db", query)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (SECRET, "not a URL"),
        (f"postgresql:/u:{SECRET}@h/db", "not a URL"),
        (f"{SECRET}://u@h/db", "has a scheme that is not supported"),
        (f"mysql://u:{SECRET}@h/db", "mysql:// is not supported"),
        ("sqlite:///db", "sqlite:// is not supported"),
        (f"postgresql+pg8000://u:{SECRET}@h/db", r"postgresql\+pg8000:// is not supported"),
        (f"postgresql://u:{SECRET}@h:port/db", "host and port"),
        (f"postgresql://u:{SECRET}@h:99999/db", "host and port"),
        (f"postgresql://u:{SECRET}@h:0/db", "host and port"),
        (f"postgresql://u:{SECRET}@db..internal/db", "host and port"),
        (f"postgresql://u:{SECRET}@h1,h2/db?port=1,2,3", "host and port"),
        (f"postgresql://u:{SECRET}@h1:1,h2:x/db", "host and port"),
        (f"postgresql://u:{SECRET}@", "a host or a database"),
        (f"postgresql://u:{SECRET}@h/db?sslmode=maybe", "unknown sslmode"),
        ("postgresql://h/db?sslmode=require&sslmode=disable", "gives sslmode twice"),
        (f"postgresql://u:{SECRET}@h/db?sslmod=verify-full", "parameter sslmod, which"),
        (f"postgresql://u@h/db?passwort={SECRET}", "parameter passwort, which"),
        (f"postgresql://u:{SECRET}@h/db?target_session_attr=primary", "parameter target_session_attr, which"),
        (f"postgresql://u:{SECRET}@h/db?target_session_attrs=boss", "unknown target_session_attrs"),
        (f"postgresql://u:{SECRET}@h/db?connect_timeout=soon", "no whole number"),
    ],
)
def test_a_wrong_url_is_refused_without_repeating_it(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        parse_database_url(text)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("schema", ["x" * 63, "my-schema", "MySchema", 'Odd-Schema "x"', "user", "schéma"])
def test_any_schema_that_postgresql_takes_is_taken(schema: str) -> None:
    assert Settings(database_schema=schema).database_schema == schema


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("DATABASE_URL", "", "DATABASE_URL: not set"),
        ("DATABASE_URL", f"mysql://u:{SECRET}@h/db", "DATABASE_URL: mysql:// is not supported"),
        ("DATABASE_SCHEMA", "pg_mine", "DATABASE_SCHEMA: 'pg_mine' is not allowed"),
        ("DATABASE_SCHEMA", "é" * 32, "DATABASE_SCHEMA: "),
        ("DATABASE_SCHEMA", "$user", "DATABASE_SCHEMA: "),
        ("DATABASE_SCHEMA", "information_schema", "DATABASE_SCHEMA: "),
        ("DATABASE_APPLICATION_NAME", "x" * 47, "DATABASE_APPLICATION_NAME: 'xx"),
        ("DATABASE_APPLICATION_NAME", "schön", "DATABASE_APPLICATION_NAME: 'schön' is not allowed"),
        ("DATABASE_APPLICATION_NAME", "  ", "DATABASE_APPLICATION_NAME: '  ' is not allowed"),
        ("DATABASE_CONNECT_TIMEOUT", "0", "DATABASE_CONNECT_TIMEOUT: Input should be greater than 0"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL: Input should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("DATABASE_POOL_SIZE", "0", "DATABASE_POOL_SIZE: Input should be greater than or equal to 1"),
        ("DATABASE_MAX_OVERFLOW", "-1", "DATABASE_MAX_OVERFLOW: Input should be greater"),
        ("DATABASE_POOL_TIMEOUT", "soon", "DATABASE_POOL_TIMEOUT: Input should be a valid number"),
        ("DATABASE_POOL_RECYCLE", "-2", "DATABASE_POOL_RECYCLE: Input should be greater"),
        ("DATABASE_POOL_RECYCLE", "0", "DATABASE_POOL_RECYCLE: Input should be -1 or greater than 0"),
        ("DATABASE_POOL_PRE_PING", "perhaps", "DATABASE_POOL_PRE_PING: Input should be a valid boolean"),
        ("DATABASE_PGBOUNCER", "perhaps", "DATABASE_PGBOUNCER: Input should be a valid boolean"),
        ("DATABASE_DIRECT_URL", f"mysql://u:{SECRET}@h/db", "DATABASE_DIRECT_URL: mysql:// is not supported"),
        ("DATABASE_REPLICA_URL", SECRET, "DATABASE_REPLICA_URL: is not a URL"),
        ("DATABASE_OWNER_URL", f"mysql://u:{SECRET}@h/db", "DATABASE_OWNER_URL: mysql:// is not supported"),
        ("DATABASE_READ_POOL_SIZE", "0", "DATABASE_READ_POOL_SIZE: Input should be greater"),
        ("CORS_ORIGINS", "https://a.example,b.example", "CORS_ORIGINS: 'b.example' is no origin"),
        ("CORS_ORIGINS", "https://a.example/path", "CORS_ORIGINS: "),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    value: str,
    message: str,
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as end:
        get_settings.__wrapped__()  # not what was read before
    assert end.value.code == 3
    said = capsys.readouterr().err
    assert said.startswith(message)
    assert said.count("\n") == 1
    assert SECRET not in said


@pytest.mark.parametrize("text", ["", "none"])
def test_a_url_that_need_not_be_given_may_be_none(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("DATABASE_REPLICA_URL", text)
    assert Settings().database_replica_url is None


def test_a_script_has_no_timeouts_and_goes_straight_to_the_primary() -> None:
    direct = parse_database_url("postgresql://h/direct")
    urls = {"database_direct_url": direct, "database_replica_url": parse_database_url("postgresql://h/copy")}
    settings = get_settings().model_copy(update={**urls, "database_pgbouncer": True}).for_script()
    assert (settings.database_url, settings.database_replica_url) == (direct, None)
    assert settings.database_pgbouncer is False
    assert settings.database_statement_timeout == 0
    assert settings.database_lock_timeout == 0
    assert settings.database_idle_transaction_timeout == 0
    assert get_settings().for_script().database_url == get_settings().database_url


def test_migrations_run_as_the_owner_past_pgbouncer_and_wait_for_locks_no_longer_than_the_service() -> None:
    owner, direct = (parse_database_url(f"postgresql://{name}@h/db") for name in ("owner", "direct"))
    service = get_settings().model_copy(update={"database_direct_url": direct, "database_pgbouncer": True})
    for settings, url in [
        (service.model_copy(update={"database_owner_url": owner}).for_migrations(), owner),
        (service.for_migrations(), direct),
        (get_settings().for_migrations(), get_settings().database_url),
    ]:
        assert settings.database_url == url
        assert settings.database_pgbouncer is False
        assert settings.database_statement_timeout == 0
        assert settings.database_lock_timeout == get_settings().database_lock_timeout


def test_a_script_does_not_learn_the_url_of_the_owner() -> None:
    owner = parse_database_url("postgresql://owner@h/db")
    settings = get_settings().model_copy(update={"database_owner_url": owner}).for_script()
    assert settings.database_owner_url is None
    assert settings.database_url == get_settings().database_url


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("https://a.example", ["https://a.example"]),
        (" https://a.example , http://localhost:3000,", ["https://a.example", "http://localhost:3000"]),
        ("*", ["*"]),
    ],
)
def test_origins_are_separated_by_commas(
    monkeypatch: pytest.MonkeyPatch, text: str, origins: list[str]
) -> None:
    monkeypatch.setenv("CORS_ORIGINS", text)
    assert Settings().cors_origins == origins


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_an_env_file_of_another_encoding_is_one_line(tmp_path: Path, encoding: str) -> None:
    shutil.copytree(PROJECT / "app", tmp_path / "app")
    (tmp_path / ".env").write_text("DATABASE_SCHEMA=schéma\n", encoding=encoding)
    done = subprocess.run(
        [sys.executable, "-c", "import app.users.models"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (3, ".env: is not UTF-8. Save it as that.\n")


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    "server",
    [["fastapi", "run"], ["uvicorn", "app.main:app", "--log-config", "app/web/uvicorn.json"]],
    ids=["fastapi", "uvicorn"],
)
@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("DATABASE_URL", "", "DATABASE_URL: not set. "),
        ("DATABASE_POOL_SIZE", "0", "DATABASE_POOL_SIZE: Input should be greater"),
    ],
)
def test_a_server_ends_with_one_line_and_status_3_when_a_setting_is_wrong(
    server: list[str], workers: str, variable: str, value: str, message: str
) -> None:
    done = run("-m", *server, "--workers", workers, "--port", "0", **{variable: value})
    assert done.returncode == 3
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_uvicorn_stops_when_its_workers_have_a_wrong_setting() -> None:
    done = run("-m", "uvicorn", "app.main:app", "--workers", "2", "--port", "0", DATABASE_POOL_SIZE="0")
    assert "DATABASE_POOL_SIZE: Input" in done.stderr
    assert "stopping the parent process" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_way_of_printing_the_settings_shows_the_password() -> None:
    url = URL.create("postgresql+asyncpg", "u", SECRET, "h", database="d")
    settings = Settings(database_url=url, database_owner_url=url)
    assert SECRET not in f"{settings!r} {settings} {settings.database_url!r} {settings.database_url}"
    shown = "postgresql+asyncpg://u:***@h/d"
    for dumped in (
        settings.model_dump(),
        settings.model_dump(mode="json"),
        json.loads(settings.model_dump_json()),
    ):
        assert (dumped["database_url"], dumped["database_owner_url"]) == (shown, shown)
        assert dumped["database_direct_url"] is None
        assert SECRET not in repr(dumped)


@pytest.mark.parametrize("place", ["environment", "file"])
def test_a_url_in_the_environment_names_another_database_than_the_others_in_the_file(
    tmp_path: Path, place: str
) -> None:
    shutil.copytree(PROJECT / "app", tmp_path / "app")
    names = [f"DATABASE_{name}URL" for name in ("OWNER_", "DIRECT_", "REPLICA_")]
    lines = [f"{name}=postgresql://u@production/db" for name in ["DATABASE_URL", *names]]
    (tmp_path / ".env").write_text("\n".join([*lines, "DATABASE_PGBOUNCER=true"]))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DATABASE_")}
    if place == "environment":
        environment["DATABASE_URL"] = "postgresql://u@development/db"
    show = """
from app.config import get_settings
settings = get_settings()
for each in (settings, settings.for_script(), settings.for_migrations()):
    print(each.database_url.host, each.database_replica_url and each.database_replica_url.host)
"""
    done = subprocess.run(
        [sys.executable, "-c", show],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    development = ["development None"] * 3
    production = ["production production", "production None", "production None"]
    assert done.stdout.splitlines() == (development if place == "environment" else production)
