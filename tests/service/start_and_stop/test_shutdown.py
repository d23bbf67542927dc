"""SIGTERM under load: what was begun is finished, nothing is left."""

import asyncio
import signal
import sys

import pytest
from httpx2 import AsyncClient, TransportError

from app.config import get_settings
from app.db import DatabaseSessionManager
from service.servers import served
from service.tools import eventually, on_server

GRACE = 10
REQUESTS = 8


@pytest.mark.skipif(sys.platform == "win32", reason="the signal is POSIX's")
@pytest.mark.parametrize("workers", [1, 4])
async def test_sigterm_lets_requests_finish_and_leaves_nothing(
    database: DatabaseSessionManager, workers: int
) -> None:
    url = get_settings().database_url
    begin = await on_server(url, "SELECT now()")
    others = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        f"AND pid != pg_backend_pid() AND backend_start > '{begin}'"
    )
    sleeping = f"{others} AND state = 'active' AND query LIKE '%pg_sleep%'"
    options = ["--workers", str(workers), "--timeout-graceful-shutdown", str(GRACE)]
    with served(*options, DATABASE_POOL_SIZE=str(REQUESTS)) as server:
        async with AsyncClient(base_url=server.url, timeout=30) as client:
            begun = [
                asyncio.create_task(client.get("/test/sleep", params={"seconds": 3})) for _ in range(REQUESTS)
            ]

            async def all_run() -> bool:
                return bool(await on_server(url, sleeping) == REQUESTS)

            assert await eventually(all_run)
            server.process.send_signal(signal.SIGTERM)
            answers = await asyncio.gather(*begun)
            assert [answer.status_code for answer in answers] == [200] * REQUESTS
        status = await asyncio.to_thread(server.process.wait, GRACE)
        async with AsyncClient(base_url=server.url) as client:
            with pytest.raises(TransportError):
                await client.get("/health/live")
        assert status in (0, -signal.SIGTERM)  # one worker alone ends itself by the signal, as uvicorn does
        assert server.tracebacks == []
        assert "loop is closed" not in server.log

    async def nobody_left() -> bool:  # the connection that counts takes a moment to end, too
        return bool(await on_server(url, others) == 0)

    assert await eventually(nobody_left, seconds=3)
