"""What the tests of the libraries share."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from httpx2 import ASGITransport, AsyncClient
from sqlalchemy import MetaData, NullPool, Select
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from app.config import get_settings
from app.db import Base
from app.web import add_middleware, add_problem_handlers


class Own(Base):
    """The base of the tables that only these tests have."""

    __abstract__ = True
    metadata = MetaData(schema=Base.metadata.schema, naming_convention=Base.metadata.naming_convention)


@asynccontextmanager
async def owner() -> AsyncGenerator[AsyncConnection]:
    """Connect as the owner of the schema, away from the pools of the service."""
    engine = create_async_engine(get_settings().for_migrations().database_url, poolclass=NullPool)
    async with engine.begin() as connection:
        yield connection


async def stored(query: Select[Any]) -> list[Any]:
    """Return the first column of what another connection sees."""
    async with owner() as connection:
        return list((await connection.scalars(query)).all())


def new_app() -> FastAPI:
    """Return an application that answers errors as the service does."""
    app = FastAPI()
    add_middleware(app, get_settings())
    add_problem_handlers(app)
    return app


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncGenerator[AsyncClient]:
    """Start the application, and yield a client of it."""
    transport = ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield client
