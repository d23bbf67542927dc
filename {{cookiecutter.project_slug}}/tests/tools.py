"""What several tests need."""

import asyncio
import os
import re
import subprocess
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, NullPool, text
from sqlalchemy.ext.asyncio import create_async_engine

PROJECT = Path(__file__).parents[1]


async def on_server(url: URL, statement: str) -> Any:
    """Run one statement on a connection of its own, outside any transaction; return its first value."""
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    async with engine.connect() as connection:
        result = await connection.execute(text(statement))
        return result.scalar() if result.returns_rows else None


@dataclass
class RoundTrips:
    """How often a client spoke and then waited for the server's answer."""

    count: int = 0


@asynccontextmanager
async def counting_proxy(url: URL) -> AsyncGenerator[tuple[URL, RoundTrips]]:
    """Put a proxy before the server that `url` names; yield its URL and what it counts."""
    trips = RoundTrips()

    async def forward(client: StreamReader, client_out: StreamWriter) -> None:
        server, server_out = await asyncio.open_connection(url.host, url.port or 5432)
        answered = True

        async def requests() -> None:
            nonlocal answered
            while data := await client.read(65536):
                trips.count += answered
                answered = False
                server_out.write(data)
            server_out.close()

        async def answers() -> None:
            nonlocal answered
            while data := await server.read(65536):
                answered = True
                client_out.write(data)
            client_out.close()

        await asyncio.gather(requests(), answers())

    async with await asyncio.start_server(forward, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        yield url.set(host="127.0.0.1", port=port), trips


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS` in the project, with these variables besides the test's own."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=PROJECT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def served(**environment: str) -> Generator[str]:
    """Serve the tests' application from a process of its own, on a free port; yield its URL."""
    server = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "tests.routes:app", "--port", "0"],
        cwd=PROJECT,
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr is not None
    try:
        for line in server.stderr:
            if started := re.search(r"running on (\S+)", line):
                yield started[1]
                break
        else:
            raise AssertionError("the server did not start")
    finally:
        server.terminate()
        server.communicate(timeout=30)
