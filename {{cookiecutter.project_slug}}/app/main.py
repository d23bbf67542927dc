"""The application."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from app.config import DESCRIPTION, PROJECT_NAME, get_settings
from app.database import sessionmanager
from app.errors import add_error_handlers
from app.routers import health, users


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    """Open the session manager when the application starts, close it when the application ends."""
    sessionmanager.init_db(get_settings())
    try:
        yield
    finally:
        await sessionmanager.close()


app = FastAPI(title=PROJECT_NAME, description=DESCRIPTION, lifespan=lifespan)
app.include_router(health.router)
app.include_router(users.router)
add_error_handlers(app)
