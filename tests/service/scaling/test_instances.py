"""Several instances behind nginx: one of them ends, as in a rollout, and no request fails."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from httpx2 import AsyncClient
from sqlalchemy import select

from app.db import DatabaseSessionManager
from app.users.models import User
from dev.postgres import free_port
from service.servers import Server, served
from service.tools import answers, wait_for

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="needs the program nginx")

CLIENTS = 8
START = """
daemon off;
pid FOLDER/pid;
events { }
http {
    access_log off;
    client_body_temp_path FOLDER/bodies;
    proxy_temp_path FOLDER/proxy;
    fastcgi_temp_path FOLDER/fastcgi;
    uwsgi_temp_path FOLDER/uwsgi;
    scgi_temp_path FOLDER/scgi;
"""  # of each nginx.conf
CONFIG = (
    START
    + """    keepalive_timeout 0;
    upstream service { INSTANCES }
    server {
        listen 127.0.0.1:PORT;
        location / { proxy_pass http://service; }
    }
}
"""
)


@dataclass
class Balancer:
    """An nginx before the instances of the service."""

    url: str
    folder: Path

    def send_to(self, *instances: Server) -> None:
        """Write which instances get requests; a running nginx has to be told with SIGHUP."""
        servers = " ".join(f"server {instance.url.removeprefix('http://')};" for instance in instances)
        port = self.url.rpartition(":")[2]
        config = CONFIG.replace("FOLDER", str(self.folder)).replace("PORT", port)
        (self.folder / "nginx.conf").write_text(config.replace("INSTANCES", servers))


@contextmanager
def nginx(balancer: Balancer, user: int | None = None) -> Generator[subprocess.Popen[bytes]]:
    """Run nginx as its file says, and as the user with this number."""
    assert NGINX
    command = [NGINX, "-e", "stderr", "-p", str(balancer.folder), "-c", str(balancer.folder / "nginx.conf")]
    groups = () if user else None
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, user=user, group=user, extra_groups=groups)
    try:
        wait_for(lambda: process.poll() is not None or answers(int(balancer.url.rpartition(":")[2])))
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)


async def test_an_instance_that_is_taken_out_and_ended_takes_no_request_along(
    database: DatabaseSessionManager, tmp_path: Path
) -> None:
    statuses: Counter[tuple[str, int]] = Counter()
    created: set[str] = set()
    running = True

    async def use(client: AsyncClient, number: int) -> None:
        while running:
            email = f"{number}.{statuses.total()}@example.com"
            answer = await client.post("/users", json={"email": email})
            statuses["POST", answer.status_code] += 1
            if answer.status_code == 201:
                created.add(email)
            answer = await client.get("/users", params={"limit": 1})
            statuses["GET", answer.status_code] += 1

    def serve_some() -> None:
        before = len(created)
        wait_for(lambda: len(created) >= before + 10 * CLIENTS)

    balancer = Balancer(f"http://127.0.0.1:{free_port()}", tmp_path)
    with served("--workers", "2") as ending, served("--workers", "2") as staying:
        balancer.send_to(ending, staying)
        with nginx(balancer) as process:
            async with AsyncClient(base_url=balancer.url, timeout=30) as client, asyncio.TaskGroup() as tasks:
                for number in range(CLIENTS):
                    tasks.create_task(use(client, number))
                await asyncio.to_thread(serve_some)
                balancer.send_to(staying)
                process.send_signal(signal.SIGHUP)
                await asyncio.to_thread(serve_some)  # what a preStop hook waits for
                ending.process.send_signal(signal.SIGTERM)
                await asyncio.to_thread(ending.process.wait, 30)
                await asyncio.to_thread(serve_some)
                running = False
        assert "POST /users" in ending.log
        assert "POST /users" in staying.log
    assert statuses.keys() == {("POST", 201), ("GET", 200)}
    async with database.read_session() as session:
        assert set(await session.scalars(select(User.email))) == created
