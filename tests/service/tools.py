"""What several tests need."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, NullPool, func, select, text
from sqlalchemy.ext.asyncio import create_async_engine

import app
from app.config import get_settings
from app.db import sessionmanager
from app.db.connect_args import quoted
from app.users.models import User

PROJECT = Path(app.__file__).parents[1]  # the rendered project
HOUSE = Path(__file__).parents[1]  # the package of these tests is in it
Found = TypeVar("Found")
# What PostgreSQL says to who connects while it is stopped: the kind of message, its length, its fields.
FIELDS = b"SFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
SHUTDOWN = b"E" + (len(FIELDS) + 4).to_bytes(4, "big") + FIELDS


def text_of(url: URL) -> str:
    """Return the URL with its password, as a variable has it."""
    return url.render_as_string(hide_password=False)


async def on_server(url: URL, statement: str) -> Any:
    """Run one statement on a connection of its own, outside any transaction; return its first value."""
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    async with engine.connect() as connection:
        result = await connection.execute(text(statement))
        return result.scalar() if result.returns_rows else None


async def stored() -> int:
    """Count the users, as any other connection sees them."""
    async with sessionmanager.engine.connect() as connection:
        return await connection.scalar(select(func.count()).select_from(User)) or 0


@asynccontextmanager
async def slow_deletes(seconds: float) -> AsyncGenerator[None]:
    """Make every DELETE of users take that long."""
    url = get_settings().database_url
    await on_server(
        url,
        "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END $$",
    )
    users = f"{quoted(get_settings().database_schema)}.users"
    await on_server(
        url, f"CREATE TRIGGER dawdle BEFORE DELETE ON {users} FOR EACH STATEMENT EXECUTE FUNCTION dawdle()"
    )
    try:
        yield
    finally:
        await on_server(url, "DROP FUNCTION dawdle CASCADE")


@dataclass
class Proxy:
    """Stands between a client and the server; counts how often the client spoke and waited for an answer."""

    url: URL
    round_trips: int = 0
    refusing: int = 0  # so many connections are told that the server is being stopped
    flowing: asyncio.Event = field(
        default_factory=asyncio.Event
    )  # cleared: it takes everything, passes nothing on


@asynccontextmanager
async def proxied(url: URL) -> AsyncGenerator[Proxy]:
    """Put a proxy before the server that `url` names."""

    connections: set[asyncio.Task[None] | None] = set()

    async def forward(client: StreamReader, client_out: StreamWriter) -> None:
        if proxy.refusing:
            proxy.refusing -= 1
            await client.read(65536)
            client_out.write(SHUTDOWN)
            client_out.close()
            return
        connections.add(asyncio.current_task())
        server, server_out = await asyncio.open_connection(url.host, url.port or 5432)
        answered = True

        async def requests() -> None:
            nonlocal answered
            while data := await client.read(65536):
                proxy.round_trips += answered
                answered = False
                await proxy.flowing.wait()
                server_out.write(data)
            server_out.close()

        async def answers() -> None:
            nonlocal answered
            while data := await server.read(65536):
                answered = True
                await proxy.flowing.wait()
                client_out.write(data)
            client_out.close()

        try:
            await asyncio.gather(requests(), answers(), return_exceptions=True)
        finally:
            server_out.close()
            client_out.close()

    async with await asyncio.start_server(forward, "127.0.0.1", 0) as listener:
        proxy = Proxy(url.set(host="127.0.0.1", port=listener.sockets[0].getsockname()[1]))
        proxy.flowing.set()
        yield proxy
        for connection in filter(None, connections):
            connection.cancel()
        await asyncio.gather(*filter(None, connections), return_exceptions=True)


def answers(port: int) -> bool:
    """Tell whether somebody listens on the port."""
    with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


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


async def eventually(look: Callable[[], Awaitable[bool]], seconds: float = 30) -> bool:
    """Look until it is so, and tell whether it ever was."""
    end = time.monotonic() + seconds
    while not (found := await look()) and time.monotonic() < end:
        await asyncio.sleep(0.05)
    return found


def wait_for(look: Callable[[], Found | None], seconds: float = 30) -> Found:
    """Look until something is found, and return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError(f"nothing within {seconds} s")
