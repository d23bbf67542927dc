"""The application."""

import gc
from asyncio import create_task, wait
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import FastAPI

from app.capacity import check_server
from app.config import DESCRIPTION, PROJECT_NAME, get_settings
from app.database import sessionmanager
from app.logs import configure_logging
from app.middleware import BodyLimit, RequestGuard, is_request_id
from app.problems import add_problem_handlers, problems
from app.routers import health, users


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
# none: a fifth of a worker's time.
gc.set_threshold(10_000)

settings = get_settings()
configure_logging(settings.log_level)
app = FastAPI(
    title=PROJECT_NAME,
    description=DESCRIPTION,
    lifespan=lifespan,
    telemetry={"auto_configure": True},  # as the variables OTEL_* say
    openapi_url="/openapi.json" if settings.docs else None,
    responses=problems(422, 500, 503),
)
app.add_middleware(BodyLimit, max_body_size=settings.max_body_size)
app.add_middleware(RequestGuard)
# The outermost: every log line and response has the id.
app.add_middleware(CorrelationIdMiddleware, validator=is_request_id)
add_problem_handlers(app)
app.include_router(health.router)
app.include_router(users.router)
