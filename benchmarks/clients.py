"""Clients for latency: they connect first, and all of them count.

wrk opens its connections during the load: of a thousand some wait for seconds until they are accepted.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable
from urllib.parse import urlsplit

from benchmarks.load import Load

PATIENCE = 10  # seconds after the end: what is not answered then has failed


async def keep_asking(url: str, path: Callable[[], str], clients: int, seconds: float) -> Load:
    """Let so many clients ask for so many seconds, each again when it has its answer."""
    host, _, port = urlsplit(url).netloc.partition(":")
    streams = [await asyncio.open_connection(host, int(port)) for _ in range(clients)]
    times: list[float] = []
    statuses: Counter[int] = Counter()
    begin = time.monotonic()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent = begin
        try:
            async with asyncio.timeout(seconds + PATIENCE):
                while time.monotonic() < begin + seconds:
                    sent = time.monotonic()
                    writer.write(f"GET {path()} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                    head = await reader.readuntil(b"\r\n\r\n")
                    if length := re.search(rb"content-length: (\d+)", head, re.IGNORECASE):
                        await reader.readexactly(int(length[1]))
                    times.append((time.monotonic() - sent) * 1000)
                    statuses[int(head.split()[1])] += 1
        except TimeoutError:
            times.append((time.monotonic() - sent) * 1000)
        writer.close()

    await asyncio.gather(*(client(*stream) for stream in streams))
    times.sort()
    p50, p99 = (times[int(len(times) * part)] for part in (0.5, 0.99))
    ok, unavailable = statuses[200], statuses[503]
    return Load(time.monotonic() - begin, ok, unavailable, len(times) - ok - unavailable, p50, p99)
