"""What the Dockerfile and compose.yaml say is true of the service. No container is run."""

import asyncio
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import URL
from sqlalchemy.exc import ProgrammingError

from app.config import Settings
from app.main import app
from app.setting_types import parse_database_url
from service.servers import Server, url_of
from service.tools import PROJECT, on_server, run, text_of, wait_for

DOCKERFILE = (PROJECT / "Dockerfile").read_text().replace("\\\n", "")
SERVICES: dict[str, Any] = yaml.safe_load((PROJECT / "compose.yaml").read_text())["services"]
IN_THE_IMAGE = [
    *("uv.lock", "pyproject.toml", "app/main.py", "app/users/routes.py", "app/web/uvicorn.json"),
    "migrations/env.py",
]
OURS = ["roles", "migrate", "api"]  # containers of our image
NOT_IN_THE_IMAGE = [
    *(".env", ".git/config", ".postgres/password", ".venv/bin/python", ".mypy_cache/x", "app/.env"),
    *("tests/tools.py", "dev/postgres.py", "README.md", "compose.yaml", "notes.txt", "other/app/x.py"),
    *("app/__pycache__/main.cpython-313.pyc", "app/users/__pycache__/routes.cpython-313.pyc"),
]


def command(instruction: str) -> list[str]:
    """Return the command of the instruction that has one in exec form."""
    [found] = re.findall(rf"^{instruction}\b.*?(\[.+\])$", DOCKERFILE, re.MULTILINE)
    words: list[str] = json.loads(found)
    return words


SERVE, ASK = command("CMD"), command("HEALTHCHECK")


def grace() -> float:
    """Return for how many seconds uvicorn waits for what is open."""
    return float(SERVE[SERVE.index("--timeout-graceful-shutdown") + 1])


def filled_in(value: str, **variables: str) -> str:
    """Return the value as compose reads it under these variables: `${NAME:-default}`, `${NAME:?message}`."""
    pattern = r"\$\{(\w+):(?:-([^}]*)|\?[^}]*)\}"
    return re.sub(pattern, lambda found: variables.get(found[1]) or found[2], value)


def is_sent(path: str) -> bool:
    """Tell whether `.dockerignore` lets the file through: the last line that fits it or its folder counts."""
    sent = True
    for line in (PROJECT / ".dockerignore").read_text().splitlines():
        pattern = re.escape(line.removeprefix("!").rstrip("/"))
        pattern = pattern.replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
        if line and not line.startswith("#") and re.fullmatch(f"{pattern}(/.*)?", path):
            sent = line.startswith("!")
    return sent


@contextmanager
def serving(folder: Path) -> Generator[Server]:
    """Run the image's command, on a free port of this machine alone."""
    address = {"0.0.0.0": "127.0.0.1", "8000": "0"}
    program = shutil.which(SERVE[0])
    assert program is not None
    with (folder / "log").open("wb") as log:
        arguments = [program, *(address.get(word, word) for word in SERVE[1:])]
        process = subprocess.Popen(arguments, cwd=PROJECT, stdout=log, stderr=log)
    server = Server("", process, folder / "log")
    try:
        server.url = wait_for(lambda: url_of(server))
        yield server
    finally:
        process.kill()
        process.wait()


def is_healthy(server: Server, **environment: str) -> bool:
    """Ask as the HEALTHCHECK does."""
    words = [word.replace("http://127.0.0.1:8000", server.url) for word in ASK]
    assert words != ASK
    assert words[0] == "python"
    done = subprocess.run(
        [sys.executable, *words[1:]], env=os.environ | environment, capture_output=True, check=False
    )
    return done.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="the image is Linux's, and so are the signals")
def test_the_command_serves_is_found_healthy_and_ends_in_time(own_database: object, tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        assert is_healthy(server)
        assert is_healthy(server, http_proxy="http://127.0.0.1:9")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=grace()) in (0, -signal.SIGTERM)
        assert "Application shutdown complete" in server.log
        for line in server.log.splitlines():
            assert "request_id" in json.loads(line)
        assert not is_healthy(server)


def test_the_healthcheck_asks_a_route_that_does_not_need_the_database() -> None:
    [path] = re.findall(r"http://127\.0\.0\.1:8000(/[\w/]+)", " ".join(ASK))
    assert path == app.url_path_for("live")


def test_what_listens_where_is_told_the_same_everywhere() -> None:
    port = SERVE[SERVE.index("--port") + 1]
    assert re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE) == [port]
    config = (PROJECT / "deploy" / "proxy" / "nginx.conf").read_text()
    assert re.findall(r"server (\S+:\d+);", config) == [f"127.0.0.1:{port}"]
    [listening] = re.findall(r"listen (\d+);", config)
    assert SERVICES["api"]["ports"] == [f"127.0.0.1:{port}:{listening}"]


def test_the_proxy_has_the_network_of_the_service_and_ends_before_it() -> None:
    proxy = SERVICES["proxy"]
    assert proxy["network_mode"] == "service:api"
    assert proxy["depends_on"] == {"api": {"condition": "service_healthy", "restart": True}}
    assert proxy["stop_grace_period"] == SERVICES["api"]["stop_grace_period"]
    assert proxy["volumes"] == ["./deploy/proxy/nginx.conf:/etc/nginx/nginx.conf:ro"]


def test_the_proxy_is_the_same_in_compose_and_in_the_manifests() -> None:
    deployment = PROJECT / "deploy" / "base" / "deployment.yaml"
    if not deployment.exists():
        pytest.skip("there are no manifests")
    containers = yaml.safe_load(deployment.read_text())["spec"]["template"]["spec"]["containers"]
    [proxy] = [container for container in containers if container["name"] == "proxy"]
    assert SERVICES["proxy"]["image"] == proxy["image"]
    assert re.fullmatch(r"nginxinc/nginx-unprivileged:\d+\.\d+\.\d+-\S+", proxy["image"])
    assert f"{SERVICES['proxy']['mem_limit']}" == proxy["resources"]["limits"]["memory"].lower().rstrip("i")


def test_uvicorn_gives_up_before_it_is_killed() -> None:
    seconds = float(SERVICES["api"]["stop_grace_period"].removesuffix("s"))
    assert grace() + 5 <= seconds


def test_only_what_the_image_is_made_from_is_sent_to_the_build() -> None:
    assert [path for path in IN_THE_IMAGE if not is_sent(path)] == []
    assert [path for path in NOT_IN_THE_IMAGE if is_sent(path)] == []


def test_the_parent_process_of_several_workers_logs_as_they_do() -> None:
    assert SERVE[SERVE.index("--log-config") + 1] in IN_THE_IMAGE


def test_the_image_runs_as_a_user_that_is_not_root_and_has_a_number() -> None:
    assert int(re.findall(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE)[-1]) > 0


@pytest.mark.parametrize("service", OURS)
def test_the_service_reads_every_variable_that_it_is_given(service: str) -> None:
    settings = {name.upper() for name in Settings.model_fields}
    administrator = {"DATABASE_ADMIN_URL"} if service == "roles" else set()
    assert set(SERVICES[service]["environment"]) <= settings | administrator


@pytest.mark.parametrize("password", ["0af3", "p@ss:w/o?r#d [&$\"'\\ é"])
def test_each_container_reaches_the_database_of_the_composition_as_its_role(password: str) -> None:
    roles = {
        ("roles", "DATABASE_ADMIN_URL"): "postgres",  # of the image, if POSTGRES_USER is not set
        ("roles", "DATABASE_OWNER_URL"): "owner",
        ("roles", "DATABASE_URL"): "service",
        ("migrate", "DATABASE_OWNER_URL"): "owner",
        ("migrate", "DATABASE_URL"): "service",
        ("api", "DATABASE_URL"): "service",
        ("api", "DATABASE_DIRECT_URL"): "service",
    }
    for (service, variable), role in roles.items():
        value = SERVICES[service]["environment"][variable]
        url = parse_database_url(filled_in(value, **{f"{role.upper()}_PASSWORD": password}))
        assert (url.host, url.port, url.password) == ("database", 5432, password)
        assert (url.username, url.database) == (role, SERVICES["database"]["environment"]["POSTGRES_DB"])
    assert "POSTGRES_USER" not in SERVICES["database"]["environment"]
    assert {role for (service, _), role in roles.items() if service == "api"} == {"service"}


def test_the_containers_make_the_roles_migrate_and_serve(own_database: URL) -> None:
    """By their own commands and variables. The database and the roles have names of the test's."""
    mark = secrets.token_hex(4)
    url = own_database.set(database=f"composed_{mark}")
    passwords = {"POSTGRES_PASSWORD": str(url.password), "OWNER_PASSWORD": "0a1", "SERVICE_PASSWORD": "0b2"}

    def run_container(service: str) -> None:
        variables = {}
        for name, value in SERVICES[service]["environment"].items():
            given = parse_database_url(filled_in(value, **passwords))
            role = given.username if given.username == "postgres" else f"{given.username}_{mark}"
            variables[name] = text_of(url.set(username=role, password=given.password))
        command = SERVICES[service]["command"]
        done = run(*(command[1:] if command[0] == "python" else ["-m", *command]), **variables)
        assert done.returncode == 0, done.stderr

    asyncio.run(on_server(own_database, f"CREATE DATABASE {url.database}"))
    try:
        run_container("roles")
        run_container("roles")  # at each start
        run_container("migrate")
        service = url.set(username=f"service_{mark}", password=passwords["SERVICE_PASSWORD"])
        assert asyncio.run(on_server(service, "SELECT count(*) FROM users")) == 0
        with pytest.raises(ProgrammingError, match="must be owner"):
            asyncio.run(on_server(service, "DROP TABLE users"))
    finally:
        asyncio.run(on_server(own_database, f"DROP DATABASE {url.database} WITH (FORCE)"))
        asyncio.run(on_server(own_database, f"DROP ROLE IF EXISTS owner_{mark}, service_{mark}"))


def test_the_service_reaches_pgbouncer_if_told_so_and_migrations_never_do() -> None:
    told = {"SERVICE_PASSWORD": "0af3", "POSTGRES_HOST": "pgbouncer", "DATABASE_PGBOUNCER": "true"}
    hosts = {
        service: parse_database_url(filled_in(SERVICES[service]["environment"]["DATABASE_URL"], **told)).host
        for service in OURS
    }
    assert hosts == {"api": "pgbouncer", "migrate": "database", "roles": "database"}
    assert filled_in(SERVICES["api"]["environment"]["DATABASE_PGBOUNCER"], **told) == "true"
    pgbouncer = SERVICES["pgbouncer"]["environment"]
    assert (pgbouncer["DB_HOST"], pgbouncer["POOL_MODE"]) == ("database", "transaction")
    service = parse_database_url(filled_in(SERVICES["api"]["environment"]["DATABASE_URL"], **told))
    assert [pgbouncer["DB_USER"], pgbouncer["DB_NAME"]] == [service.username, service.database]
    assert filled_in(pgbouncer["DB_PASSWORD"], **told) == service.password


def test_no_password_is_written_down() -> None:
    text = (PROJECT / "compose.yaml").read_text()
    values = {"".join(value) for value in re.findall(r"PASSWORD: (.+)|://\w+:(.+?)@", text)}
    assert values == {f"${{{role}_PASSWORD:?set it in .env}}" for role in ("POSTGRES", "OWNER", "SERVICE")}


def test_the_service_waits_for_the_migrations_and_they_for_the_database() -> None:
    def conditions(service: str) -> dict[str, str]:
        return {name: on["condition"] for name, on in SERVICES[service]["depends_on"].items()}

    assert conditions("roles") == {"database": "service_healthy"}
    assert conditions("migrate") == {"roles": "service_completed_successfully"}
    assert conditions("api")["migrate"] == "service_completed_successfully"
    assert SERVICES["database"]["healthcheck"]["test"][1] == "pg_isready"


@pytest.mark.parametrize("service", [*OURS, "proxy"])
def test_what_a_client_reaches_is_locked_down(service: str) -> None:
    assert SERVICES[service]["read_only"] is True
    assert SERVICES[service]["cap_drop"] == ["ALL"]
    assert SERVICES[service]["security_opt"] == ["no-new-privileges:true"]
    assert SERVICES[service]["tmpfs"] == [
        "/tmp:size=64m"
    ]  # a disk that a client fills would be the machine's
