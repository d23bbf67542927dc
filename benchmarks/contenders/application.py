"""What all contenders share that is not the service."""

import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import APIRouter, FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

GC_THRESHOLD = 10_000  # the service's, from app/__init__.py: `check` compares the two


def application(
    router: APIRouter, lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None
) -> FastAPI:
    """Return an application with these routes, in a process that collects cycles as the service does."""
    gc.set_threshold(GC_THRESHOLD)
    app = FastAPI(lifespan=lifespan)
    app.include_router(router)
    return app


def disposing(*engines: AsyncEngine) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Return a lifespan that closes the connections of the engines at its end."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        for engine in engines:
            await engine.dispose()

    return lifespan
