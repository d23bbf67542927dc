"""The application: its lifespan and its routers."""

import gc
import os
from asyncio import create_task, wait
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig

from app.config import DESCRIPTION, PROJECT_NAME, get_settings
from app.db import check_server, sessionmanager
from app.users.routes import router as users
from app.web import add_middleware, add_problem_handlers, configure_logging, health, problems


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    """Open the session manager when the application starts, close it when the application ends."""
    sessionmanager.init_db(get_settings())
    check = create_task(check_server(get_settings()))  # the database may not be there yet
    try:
        yield
    finally:
        check.cancel()
        await wait([check])
        await sessionmanager.close()


# Python looks for reference cycles after every 700 new objects, several times in a request, and finds next to
# none. That took a fifth of a worker's time.
gc.set_threshold(10_000)

TELEMETRY: TelemetryConfig = {"auto_configure": True}  # as the variables OTEL_* say
# Without them, FastAPI would ask in each request whether telemetry is on.
NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}

settings = get_settings()
configure_logging(settings.log_level)
app = FastAPI(
    title=PROJECT_NAME,
    description=DESCRIPTION,
    lifespan=lifespan,
    telemetry=TELEMETRY if any(name.startswith("OTEL_") for name in os.environ) else NO_TELEMETRY,
    openapi_url="/openapi.json" if settings.docs else None,
    redirect_slashes=False,  # a redirect would name the host that the client sent, and perhaps http
    responses=problems(422, 500, 503),
)
add_middleware(app, settings)
add_problem_handlers(app)
app.include_router(health)
app.include_router(users)
