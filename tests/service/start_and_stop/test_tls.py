"""TLS: Debian's PostgreSQL with certificates of the test's own. The embedded PostgreSQL has no TLS."""

import re
import shutil
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest
from httpx2 import ASGITransport, AsyncClient
from sqlalchemy import URL

from app.config import get_settings
from app.db import sessionmanager
from app.setting_types import parse_database_url
from service.routes import app
from service.servers import Server, serving
from service.tls import DEBIAN, SECRET, VERSIONS, TLSServer, tls_server
from service.tools import PROJECT, on_server, run, text_of, wait_for

pytestmark = pytest.mark.skipif(not VERSIONS, reason=f"needs Debian's PostgreSQL in {DEBIAN}")

VERIFIED = "sslmode=verify-full&sslrootcert=root.crt"
OTHERS = "pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename IS NOT NULL AND pid <> pg_backend_pid()"


@pytest.fixture(scope="module")
def server() -> Generator[TLSServer]:
    with tls_server() as server:
        yield server


async def answers(server: Server) -> list[int]:
    """Ask for what reads, for what writes, and for the readiness."""
    async with AsyncClient(base_url=server.url, timeout=30) as client:
        requests = ("GET", "/users"), ("POST", "/test/unit"), ("GET", "/health/ready")
        return [(await client.request(*request)).status_code for request in requests]


@pytest.mark.parametrize(
    ("query", "user"),
    [
        ("sslmode=require", None),
        (VERIFIED, None),
        (f"{VERIFIED}&sslcert=client.crt&sslkey=client.key", "certified"),
        ("sslrootcert=system&sslcert=client.crt&sslkey=client.key", "certified"),
    ],
)
async def test_the_service_and_its_migrations_use_tls(
    server: TLSServer, query: str, user: str | None
) -> None:
    environment = {"DATABASE_URL": server.url(query, user=user or f"postgres:{SECRET}")}
    if "system" in query:
        environment["SSL_CERT_FILE"] = str(server.home / "root.crt")
    migrated = run("-m", "alembic", "upgrade", "head", **environment)
    assert migrated.returncode == 0, migrated.stderr
    with serving(environment=environment) as service:
        assert await answers(service) == [200, 200, 200]
        of_all = await on_server(server.admin, f"SELECT array_agg(ARRAY[usename, ssl::text]) FROM {OTHERS}")
        line = wait_for(lambda: re.search('Connected to [^"]+', service.log))[0]
        log = service.log
    assert len(of_all) >= 2
    assert all(found == [user or "postgres", "true"] for found in of_all)
    assert re.search(rf":{server.port}, .* as {user or 'postgres'}, .* TLSv1\.\d\.$", line)
    assert SECRET not in log + migrated.stdout + migrated.stderr


async def test_the_roots_of_the_system_are_named_in_an_env_file(server: TLSServer, tmp_path: Path) -> None:
    shutil.copytree(PROJECT / "app", tmp_path / "app")
    (tmp_path / ".env").write_text(f"DATABASE_URL='{server.url('sslrootcert=system')}'\n")
    for file, statuses in ("root.crt", [200, 200, 200]), ("unknown.crt", [503, 503, 503]):
        environment = {"DATABASE_URL": "", "SSL_CERT_FILE": str(server.home / file)}
        with serving(environment=environment, folder=tmp_path) as service:
            assert await answers(service) == statuses, service.log


@dataclass
class Refused:
    """A connection that cannot be made, what the log says of it, and how often the server is asked."""

    query: str
    words: str
    attempts: int | None = 1
    user: str = f"postgres:{SECRET}"
    host: str = "localhost"


REFUSED = {
    "another name": Refused(VERIFIED, "not valid for '127.0.0.1'", host="127.0.0.1"),
    "unknown authority": Refused("sslmode=verify-full&sslrootcert=unknown.crt", "certificate verify failed"),
    "require, unknown": Refused("sslmode=require&sslrootcert=unknown.crt", "certificate verify failed"),
    "system, unknown": Refused("sslrootcert=system", "certificate verify failed"),
    "no certificate": Refused(VERIFIED, "requires a valid client certificate", user="certified"),
    "certificate of a stranger": Refused(
        f"{VERIFIED}&sslcert=stranger.crt&sslkey=stranger.key",
        "alert unknown ca",
        attempts=None,  # now and then the connection is reset before the alert is read
        user="certified",
    ),
    "key of a stranger": Refused(
        f"{VERIFIED}&sslcert=client.crt&sslkey=stranger.key", "key values mismatch", 0, "certified"
    ),
    "no file of the authority": Refused(
        "sslmode=verify-full&sslrootcert=missing.crt",
        "The file of sslrootcert cannot be read: HOME/missing.crt",
        0,
    ),
    "no file of the certificate": Refused(
        f"{VERIFIED}&sslcert=missing.crt&sslkey=client.key",
        "The file of sslcert cannot be read: HOME/missing.crt",
        0,
        "certified",
    ),
    "no file of the key": Refused(
        "sslrootcert=system&sslcert=client.crt&sslkey=missing.key",
        "The file of sslkey cannot be read: HOME/missing.key",
        0,
        "certified",
    ),
    "no authority named": Refused("sslmode=verify-full", 'root.crt" does not exist', 0),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
async def test_a_certificate_that_does_not_fit_is_one_line_after_one_attempt(
    server: TLSServer,
    case: Refused,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # where libpq has certificates
    url = parse_database_url(server.url(case.query, user=case.user, host=case.host))
    sessionmanager.init_db(get_settings().model_copy(update={"database_url": url}))
    try:
        async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
            for method, path in ("GET", "/users"), ("POST", "/test/unit"), ("GET", "/health/ready"):
                before = server.attempts
                caplog.clear()
                assert (await client.request(method, path)).status_code == 503
                [message] = [record.message for record in caplog.records if record.name.startswith("app.")]
                assert case.words.replace("HOME", str(server.home)) in message
                assert "\n" not in message
                assert SECRET not in caplog.text
                assert case.attempts in (None, server.attempts - before)
    finally:
        await sessionmanager.close()


async def test_a_wrong_certificate_is_one_line_of_alembic_and_no_traceback_of_the_service(
    server: TLSServer,
) -> None:
    environment = {"DATABASE_URL": server.url(VERIFIED, host="127.0.0.1")}
    migrated = run("-m", "alembic", "upgrade", "head", **environment)
    [line] = (migrated.stdout + migrated.stderr).splitlines()
    assert re.match("FAILED: No connection to the database: .* not valid for '127.0.0.1'", line)
    assert migrated.returncode != 0
    with serving(environment=environment) as service:
        wait_for(lambda: "not checked at the start" in service.log)
        assert await answers(service) == [503, 503, 503]
        log, tracebacks = service.log, service.tracebacks
    assert tracebacks == []
    assert log.count("not valid for '127.0.0.1'") == 1 + 3
    assert SECRET not in line + log


async def test_a_server_without_tls_is_one_line(own_database: URL) -> None:
    url = text_of(own_database.set(query={"sslmode": "require"}))
    migrated = run("-m", "alembic", "upgrade", "head", DATABASE_URL=url)
    [line] = (migrated.stdout + migrated.stderr).splitlines()
    assert re.match("FAILED: No connection to the database: .* rejected SSL upgrade", line)
    with serving(environment={"DATABASE_URL": url, "DATABASE_CONNECT_TIMEOUT": "0.3"}) as service:
        assert await answers(service) == [503, 503, 503]
        assert service.tracebacks == []
        assert str(own_database.password) not in service.log + line
