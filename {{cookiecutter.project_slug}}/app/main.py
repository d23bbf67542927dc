"""The application: its lifespan and its routers."""

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


# Without the variables OTEL_*, FastAPI would ask in each request whether telemetry is on.
TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
if any(name.startswith("OTEL_") for name in os.environ):
    TELEMETRY = {"auto_configure": True}
    # Seconds for an export, also of the last one, when the service ends: the collector may be away.
    os.environ.setdefault("OTEL_EXPORTER_OTLP_TIMEOUT", "2")

settings = get_settings()
configure_logging(settings.log_level)
app = FastAPI(
    title=PROJECT_NAME,
    description=DESCRIPTION,
    lifespan=lifespan,
    telemetry=TELEMETRY,
    openapi_url="/openapi.json" if settings.docs else None,
    redirect_slashes=False,  # a redirect would name the host that the client sent, and perhaps http
    responses=problems(422, 500, 503),
)
add_middleware(app, settings)
add_problem_handlers(app)
app.include_router(users)
# FastAPI tries one router after the other: a catch-all route comes after this line.
app.include_router(health)
