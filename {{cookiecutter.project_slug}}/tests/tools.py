"""A table and an application for the tests of `app/db` and `app/web`, without your models and routes."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime

from fastapi import FastAPI
from sqlalchemy import (
    AsyncAdaptedQueuePool,
    BigInteger,
    DateTime,
    Identity,
    MetaData,
    UniqueConstraint,
    func,
    select,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.util import ScopedRegistry

import app.db
from app.config import get_settings
from app.db import sessionmanager
from app.web import add_middleware, add_problem_handlers
from tests.conftest import connection_to

TIME = DateTime(timezone=True)


class Base(DeclarativeBase):
    """Like `app.db.Base`, with tables that Alembic does not know."""

    metadata = MetaData(schema=get_settings().database_schema)
    __mapper_args__ = app.db.Base.__mapper_args__


class Thing(Base):
    """A row with values of the server. Two rows of one name are refused at the commit, not before."""

    __tablename__ = "things_of_tests"
    __table_args__ = (UniqueConstraint("name", deferrable=True, initially="DEFERRED"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    name: Mapped[str]
    changed_at: Mapped[datetime] = mapped_column(
        TIME, server_default=func.now(), onupdate=func.clock_timestamp()
    )


@asynccontextmanager
async def created(metadata: MetaData) -> AsyncGenerator[None]:
    """Create tables as their owner. Drop them at the end."""
    async with connection_to() as owner:
        await owner.run_sync(metadata.create_all)
        try:
            yield
        finally:
            await owner.run_sync(metadata.drop_all)


async def add_thing(session: AsyncSession, name: str = "lamp") -> Thing:
    """Add a row, and send it to the server."""
    thing = Thing(name=name)
    session.add(thing)
    await session.flush()
    return thing


async def stored() -> list[str]:
    """Return the names of the rows that are committed."""
    async with sessionmanager.session_maker() as session:
        return list(await session.scalars(select(Thing.name).order_by(Thing.id)))


def open_now() -> tuple[int, int]:
    """Count the sessions that are open, and the connections that they hold."""
    registries = (sessionmanager._units.registry, sessionmanager._readers.registry)
    pools = (sessionmanager.engine.pool, sessionmanager.read_engine.pool)
    return (
        sum(len(registry.registry) for registry in registries if isinstance(registry, ScopedRegistry)),
        sum(pool.checkedout() for pool in pools if isinstance(pool, AsyncAdaptedQueuePool)),
    )


def application() -> FastAPI:
    """Return an application like that of `app/main.py`, without routes."""
    application = FastAPI()
    add_middleware(application, get_settings())
    add_problem_handlers(application)
    return application
