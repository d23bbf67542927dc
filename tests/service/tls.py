"""A PostgreSQL of Debian's with TLS, and certificates of its own. The embedded PostgreSQL has no TLS."""

import asyncio
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from sqlalchemy import URL

from app.setting_types import parse_database_url
from dev import programs
from dev.postgres import free_port
from service.databases import new_home
from service.tools import on_server

DEBIAN = Path("/usr/lib/postgresql")
VERSIONS = sorted((int(path.parts[-3]), path.parent) for path in DEBIAN.glob("[0-9]*/bin/pg_ctl"))
SECRET = "s3cret"
ACCESS = "hostssl all certified all cert\nhost all all all scram-sha-256\n"


@dataclass
class TLSServer:
    """A server whose certificate is for `localhost`, and the folder with the files of its clients."""

    home: Path
    port: int

    def url(self, query: str, *, user: str = f"postgres:{SECRET}", host: str = "localhost") -> str:
        """Return a URL. The files in its query are those of the folder."""
        query = re.sub(r"(sslrootcert|sslcert|sslkey)=(?!system)", rf"\1={self.home}/", query)
        return f"postgresql://{user}@{host}:{self.port}/postgres?{query}"

    @property
    def admin(self) -> URL:
        return parse_database_url(self.url("sslmode=require"))

    @property
    def attempts(self) -> int:
        """How many connections the server has seen."""
        return (self.home / "server.log").read_text().count("connection received")


@contextmanager
def of_debian() -> Generator[None]:
    """Start the programs of Debian, the way that those of the wheel are started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "programs", lambda: VERSIONS[-1][1])
        yield


def write(certificate: trustme.LeafCert, name: str, folder: Path) -> None:
    certificate.cert_chain_pems[0].write_to_path(folder / f"{name}.crt")
    certificate.private_key_pem.write_to_path(folder / f"{name}.key")
    (folder / f"{name}.key").chmod(0o600)


@contextmanager
def tls_server() -> Generator[TLSServer]:
    """A server with TLS. It knows the role `certified` by the certificate."""
    authority, stranger = trustme.CA(), trustme.CA()
    with new_home() as home:
        (home / "password").write_text(SECRET)
        programs.hand_over(home)
        data, password = home / "data", home / "password"
        with of_debian():
            programs.run(
                home, "initdb", "--pgdata", data, "--username", "postgres", "--pwfile", password,
                "--encoding", "UTF8", "--locale", "C", "--no-sync",
            )  # fmt: skip
        authority.cert_pem.write_to_path(home / "root.crt")
        stranger.cert_pem.write_to_path(home / "unknown.crt")
        write(authority.issue_cert("localhost"), "server", data)
        write(authority.issue_cert("client", common_name="certified"), "client", home)
        write(stranger.issue_cert("client", common_name="certified"), "stranger", home)
        (data / "pg_hba.conf").write_text(ACCESS)
        found = TLSServer(home, free_port())
        options = (
            f"port={found.port}",
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=off",
        )
        programs.hand_over(home)
        tls = ("ssl=on", f"ssl_ca_file={home}/root.crt", "log_connections=on")
        with of_debian():
            programs.start(home, *options, *tls)
        try:
            asyncio.run(on_server(found.admin, "CREATE ROLE certified LOGIN SUPERUSER"))
            yield found
        finally:
            with of_debian():
                programs.run(home, "pg_ctl", "stop", "--pgdata", data, "--mode", "immediate")
