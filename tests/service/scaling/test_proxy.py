"""Behind nginx, which ends TLS and serves the application below a path: addresses that hold there."""

import ssl
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from httpx2 import Client
from sqlalchemy import URL

from dev.postgres import free_port
from service.scaling.test_instances import NGINX, START, Balancer, nginx
from service.servers import Server, served

pytestmark = pytest.mark.skipif(NGINX is None, reason="needs the program nginx")

NAME = "service.example"
CONFIG = (
    START
    + """
    server {
        listen 127.0.0.1:PORT ssl;
        ssl_certificate FOLDER/certificate;
        ssl_certificate_key FOLDER/key;
        location /api/ {
            proxy_pass SERVICE/;
            proxy_set_header Host NAME;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-For $remote_addr;
        }
    }
}
"""
)


@contextmanager
def behind_nginx(folder: Path, **environment: str) -> Generator[tuple[Client, Server]]:
    """Serve behind nginx; yield a client of nginx, and the server behind it."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(folder / "certificate")
    certificate.private_key_pem.write_to_path(folder / "key")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    port = str(free_port())
    balancer = Balancer(f"https://127.0.0.1:{port}", folder)
    with served("--root-path", "/api", **environment) as server:
        names = {"FOLDER": str(folder), "PORT": port, "SERVICE": server.url, "NAME": NAME}
        config = CONFIG
        for name, value in names.items():
            config = config.replace(name, value)
        (folder / "nginx.conf").write_text(config)
        # The name that the client sends is its own choice.
        client = Client(base_url=balancer.url, verify=trusting, headers={"Host": "evil.example"})
        with nginx(balancer), client:
            yield client, server


@pytest.mark.parametrize(("trusted", "scheme"), [("", "https"), ("127.0.0.1", "https"), ("10.0.0.1", "http")])
def test_the_scheme_is_the_one_of_the_client_if_the_proxy_is_trusted(
    own_database: URL, tmp_path: Path, trusted: str, scheme: str
) -> None:
    trust = {"FORWARDED_ALLOW_IPS": trusted} if trusted else {}
    with behind_nginx(tmp_path, **trust) as (client, server):
        assert client.get("/api/test/url").raise_for_status().json() == f"{scheme}://{NAME}/api/users/1"
        forged = {"X-Forwarded-Proto": "gopher", "X-Forwarded-Host": "evil.example"}
        assert (
            client.get("/api/test/url", headers=forged).raise_for_status().json()
            == f"{scheme}://{NAME}/api/users/1"
        )
        assert "evil" not in server.log


def test_no_answer_sends_a_client_to_another_address(own_database: URL, tmp_path: Path) -> None:
    with behind_nginx(tmp_path) as (client, _):
        for path in ("/api/users/", "/api/docs/", "/api/health/live/"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers.get("location")) == (404, None)
            assert answer.headers["content-type"] == "application/problem+json"


def test_the_documentation_works_below_a_path(own_database: URL, tmp_path: Path) -> None:
    with behind_nginx(tmp_path, DOCS="true") as (client, _):
        for page in ("docs", "redoc"):
            assert "/api/openapi.json" in client.get(f"/api/{page}").text
        document = client.get("/api/openapi.json").raise_for_status().json()
        assert document["servers"] == [{"url": "/api"}]
        assert "/users" in document["paths"]
