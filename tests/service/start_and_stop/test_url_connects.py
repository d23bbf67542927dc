"""Each kind of DATABASE_URL is connected to for real. TLS is in test_tls.py, other hosts in scaling/."""

import asyncio
import socket
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import text

from app.config import PROJECT_SLUG, Settings, get_settings
from app.db import DatabaseSessionManager, check_server, sessionmanager
from app.db.connect_args import search_path
from app.setting_types import parse_database_url
from dev.postgres import free_port, running_postgres
from dev.programs import hand_over
from service.databases import new_home
from service.tools import on_server

PASSWORD = "s3:cr/e@t?#%41 $"
LOGIN = f"visitor:{PASSWORD}"
ENCODED = f"visitor:{quote(PASSWORD, safe='')}"
SEEN = text("""
    SELECT current_user, current_database(), host(inet_server_addr()), current_setting('search_path'),
        regexp_replace(application_name, ' reads$', ''), current_setting('geqo'), current_setting('work_mem')
    FROM pg_stat_activity WHERE pid = pg_backend_pid()
""")
DEFAULTS = PROJECT_SLUG, "on", "4MB"
# Each URL, and the address of the server that it leads to. None: a socket.
URLS: dict[str, tuple[str, str | None]] = {
    "usual": ("postgresql://{encoded}@127.0.0.1:{port}/postgres", "127.0.0.1"),
    "postgres": ("postgres://{encoded}@localhost:{port}/postgres?sslmode=prefer", "127.0.0.1"),
    "capitals": ("POSTGRESQL://{encoded}@127.0.0.1:{port}/postgres", "127.0.0.1"),
    "asyncpg": ("postgresql+asyncpg://{encoded}@127.0.0.1:{port}/postgres?ssl=disable", "127.0.0.1"),
    "psycopg": ("postgresql+psycopg://{encoded}@127.0.0.1:{port}/postgres", "127.0.0.1"),
    "quotes": ("'postgresql+psycopg2://{encoded}@127.0.0.1:{port}/postgres'", "127.0.0.1"),
    "double quotes": ('"postgresql://{encoded}@127.0.0.1:{port}/postgres"', "127.0.0.1"),
    "a password that is not encoded": (
        "postgresql://visitor:s3:cr/e@t?#%2541 $@127.0.0.1:{port}/postgres",
        "127.0.0.1",
    ),
    "all in parameters": ("postgresql:///?host=127.0.0.1&port={port}&dbname=postgres&{user}", "127.0.0.1"),
    "IPv6": ("postgresql://{encoded}@[::1]:{port}/postgres", "::1"),
    "a socket": ("postgresql://{encoded}@/postgres?host={folder}&port={port}", None),
    "a socket instead of a host": ("postgresql://{encoded}@x/postgres?host={folder}&port={port}", None),
    "an encoded socket": ("postgresql://{encoded}@{quoted}/postgres?port={port}", None),
    "an encoded socket with a port": ("postgresql://{encoded}@{quoted}:{port}/postgres", None),
    "a dead host": ("postgresql://{encoded}@127.0.0.1:{dead},127.0.0.1:{port}/postgres", "127.0.0.1"),
    "hosts as SQLAlchemy has them": (
        "postgresql://{encoded}@/postgres?host=localhost:{dead}&host=localhost:{port}",
        "127.0.0.1",
    ),
    "a dead socket and a host": (
        "postgresql://{encoded}@/postgres?host={folder}/none,localhost&port={port}",
        "127.0.0.1",
    ),
    "a password file": ("postgresql://visitor@127.0.0.1:{port}/postgres?passfile={pgpass}", "127.0.0.1"),
    "a password file for a socket": (
        "postgresql://visitor@/postgres?host={folder}&port={port}&passfile={pgpass}",
        None,
    ),
    "a service file": ("postgresql://?service=by-host", "127.0.0.1"),
    "a service file, a socket": ("postgresql://?service=by-socket", None),
    "a service file, another host": ("postgresql://[::1]:{port}?service=by-host", "::1"),
    "of other tools": (
        "postgresql://{encoded}@127.0.0.1:{port}/postgres?pgbouncer=false&schema=x&connection_limit=1&supa=y"
        "&channel_binding=prefer&gssencmode=disable&load_balance_hosts=random&client_encoding=utf8",
        "127.0.0.1",
    ),
    "of libpq, done by us": (
        "postgresql://{encoded}@127.0.0.1:{port}/postgres?connect_timeout=3&keepalives=1&keepalives_idle=9"
        "&keepalives_interval=1&keepalives_count=2&tcp_user_timeout=9&target_session_attrs=primary",
        "127.0.0.1",
    ),
}


@dataclass
class Place:
    """A server that listens on both loopback addresses and in the folder of a socket."""

    home: Path
    folder: Path
    port: int

    @property
    def attempts(self) -> int:
        """How many connections the server has seen."""
        return (self.home / "server.log").read_text().count("connection received")

    def url(self, form: str) -> str:
        """Return the URL of this server in one of the forms."""
        return form.format(
            port=self.port,
            dead=free_port(),
            folder=self.folder,
            quoted=quote(str(self.folder), safe=""),
            encoded=ENCODED,
            user=f"user=visitor&password={quote(PASSWORD, safe='')}",
            pgpass=self.folder / "pgpass",
        )

    def write(self) -> None:
        """Write the file of the passwords, and the file of the services."""
        (self.folder / "pgpass").touch(mode=0o600)
        (self.folder / "pgpass").write_text(f"# here\n*:*:*:other:wrong\n*:*:*:*:{PASSWORD}\n")
        given = f"port={self.port}\nuser=visitor\ndbname=postgres\npassfile={self.folder}/pgpass\n"
        broken = f"[broken]\npassword={PASSWORD}\n"  # with a %
        services = f"{broken}[by-host]\nhost=localhost\n{given}[by-socket]\nhost={self.folder}\n{given}"
        (self.folder / "services").write_text(services)


@pytest.fixture(scope="module")
def place() -> Generator[Place]:
    # The path of a socket has at most 107 bytes: the folder is not in that of the tests.
    with new_home() as home, TemporaryDirectory(prefix="pg-", dir="/tmp") as folder:
        hand_over(Path(folder))
        network = f"unix_socket_directories={folder}", "listen_addresses=127.0.0.1,::1"
        with running_postgres(home, *network, "fsync=off", "log_connections=on") as url:
            admin = parse_database_url(url)
            asyncio.run(on_server(admin, f"CREATE ROLE visitor LOGIN PASSWORD '{PASSWORD}'"))
            place = Place(home, Path(folder), admin.port or 0)
            place.write()
            yield place


async def seen(form: str, place: Place) -> list[tuple[Any, ...]]:
    """Connect as the service does, to write and to read; return what the server sees of each."""
    given: dict[str, Any] = {"database_url": place.url(form)}  # a text, as the environment has it
    settings = Settings(**given)
    manager = DatabaseSessionManager()
    manager.init_db(settings)
    try:
        async with manager.session() as session:
            writing = (await session.execute(SEEN)).one()
        async with manager.read_session() as session:
            reading = (await session.execute(SEEN)).one()
    finally:
        await manager.close()
    assert {writing[3], reading[3]} == {search_path(settings)}
    return [(*row[:3], *row[4:]) for row in (writing, reading)]


@pytest.fixture(autouse=True)
def service_file(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSERVICEFILE", str(place.folder / "services"))


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize(("form", "address"), URLS.values(), ids=URLS)
async def test_a_url_leads_to_the_server_and_the_role_that_it_names(
    place: Place, form: str, address: str | None
) -> None:
    if address == "::1" and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    assert await seen(form, place) == [("visitor", "postgres", address, *DEFAULTS)] * 2


@pytest.mark.parametrize(
    ("parameters", "settings"),
    [
        ("application_name=a%20b+c", ("a b+c", "on", "4MB")),
        ("fallback_application_name=x&options=-c%20geqo%3Doff", (PROJECT_SLUG, "off", "4MB")),
        ("options=-c geqo=off --work_mem=1234kB&application_name=x", ("x", "off", "1234kB")),
    ],
)
async def test_what_a_url_sets_counts_beside_the_settings_of_the_service(
    place: Place, parameters: str, settings: tuple[str, ...]
) -> None:
    form = f"postgresql://{{encoded}}@/postgres?host={{folder}}&port={{port}}&{parameters}"
    assert await seen(form, place) == [("visitor", "postgres", None, *settings)] * 2


@pytest.mark.parametrize(
    ("parameters", "words", "attempts"),
    [
        ("sslmode=require", "rejected SSL upgrade", 1),
        ("sslrootcert=system", "rejected SSL upgrade", 1),
        ("service=broken", "The driver cannot read the service file. Is there a % in it?", 0),
        ("passfile={folder}/missing", "The file of passfile cannot be read: {folder}/missing", 0),
        ("passfile={folder}/open", "can be read by others. Set mode 0600: {folder}/open", 0),
    ],
)
async def test_what_no_other_attempt_mends_is_one_line_at_once(
    place: Place, caplog: pytest.LogCaptureFixture, parameters: str, words: str, attempts: int
) -> None:
    (place.folder / "open").write_text(f"*:*:*:*:{PASSWORD}\n")
    (place.folder / "open").chmod(0o640)
    url = parse_database_url(place.url(f"postgresql://visitor@127.0.0.1:{{port}}/postgres?{parameters}"))
    before = place.attempts
    settings = get_settings().model_copy(update={"database_url": url})
    sessionmanager.init_db(settings)
    try:
        await check_server(settings)
    finally:
        await sessionmanager.close()
    [line] = [record.message for record in caplog.records if record.name == "app.db.startup"]
    assert line.startswith("The database was not checked at the start: The ")
    assert PASSWORD[-4:] not in caplog.text
    assert line.endswith(words.format(folder=place.folder))
    assert place.attempts - before == attempts
