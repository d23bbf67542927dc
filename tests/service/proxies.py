"""The proxy of `compose.yaml` and of the manifests, run as its file says."""

import os
import resource
import socket
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from httpx2 import Client, HTTPTransport

from dev.postgres import free_port
from service.scaling.test_instances import NGINX, Balancer, nginx
from service.tools import PROJECT, wait_for

__all__ = ["CONFIG", "NGINX", "Proxied", "connected", "proxied"]
CONFIG = PROJECT / "deploy" / "proxy" / "nginx.conf"
NOBODY = 65534


@dataclass
class Proxied:
    """The proxy before a service; `folder` holds what the proxy wrote."""

    url: str
    folder: Path
    worker: int  # the process of nginx that takes the requests

    @property
    def log(self) -> str:
        return (self.folder / "stdout").read_text() + (self.folder / "stderr").read_text()

    def client(self, address: str = "127.0.0.1") -> Client:
        """Return a client, which comes from this address."""
        transport = HTTPTransport(local_address=address)
        return Client(base_url=self.url, timeout=30, transport=transport)

    def connect(self) -> socket.socket:
        return connected(self.url)


def connected(url: str) -> socket.socket:
    """Return a connection; what the client has sent, the server has taken."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)  # else megabytes wait in the client
    client.settimeout(30)
    client.connect(("127.0.0.1", int(url.rpartition(":")[2])))
    return client


@contextmanager
def proxied(service: str, changes: dict[str, str] | None = None) -> Generator[Proxied]:
    """Run the proxy before the service at this URL, with changes of what its file says.

    It runs as an ordinary user, and has no other folder to write to.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        user = NOBODY if os.geteuid() == 0 else None
        if user:
            os.chown(folder, user, user)
        url = f"http://127.0.0.1:{free_port()}"
        text = "daemon off;\n" + CONFIG.read_text()  # which the image says on its command line
        most = str(resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        for old, new, times in [
            ("listen 8080;", f"listen {url.removeprefix('http://')};", 1),
            ("127.0.0.1:8000", service.removeprefix("http://"), 1),
            (" /tmp/", f" {folder}/", 6),
            (" /dev/std", f" {folder}/std", 2),
            ("worker_rlimit_nofile 32768", f"worker_rlimit_nofile {most}", 1),
            *((old, new, 1) for old, new in (changes or {}).items()),
        ]:
            assert text.count(old) == times, old
            text = text.replace(old, new)
        (folder / "nginx.conf").write_text(text)
        with nginx(Balancer(url, folder), user) as process:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            worker = int(wait_for(lambda: children.read_text().split())[0])
            yield Proxied(url, folder, worker)
