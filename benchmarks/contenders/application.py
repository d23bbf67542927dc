"""What all contenders share that is not the service."""

import gc
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from fastapi import APIRouter, FastAPI

GC_THRESHOLD = 10_000  # the service's, from app/main.py: `check` compares the two


def application(
    router: APIRouter, lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None
) -> FastAPI:
    """Return an application with these routes, in a process that collects cycles as the service does."""
    gc.set_threshold(GC_THRESHOLD)
    app = FastAPI(lifespan=lifespan)
    app.include_router(router)
    return app
