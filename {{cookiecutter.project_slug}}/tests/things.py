"""A table for the tests of the sessions. Your models do not know it, and it does not depend on them."""

from datetime import datetime

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

TIME = DateTime(timezone=True)


class Base(DeclarativeBase):
    """Like `app.db.Base`, with tables of its own."""

    metadata = MetaData(schema=get_settings().database_schema)
    __mapper_args__ = app.db.Base.__mapper_args__


class Thing(Base):
    """A row with values of the server. PostgreSQL looks for a second one of the same name at the commit."""

    __tablename__ = "things_of_tests"
    __table_args__ = (UniqueConstraint("name", deferrable=True, initially="DEFERRED"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    name: Mapped[str]
    changed_at: Mapped[datetime] = mapped_column(
        TIME, server_default=func.now(), onupdate=func.clock_timestamp()
    )


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


def nothing_is_open() -> bool:
    """Tell whether no task has a session, and no session a connection."""
    pools = (sessionmanager.engine.pool, sessionmanager.read_engine.pool)
    sessions = (sessionmanager._units.registry, sessionmanager._readers.registry)
    return not (
        any(pool.checkedout() for pool in pools if isinstance(pool, AsyncAdaptedQueuePool))
        or any(registry.registry for registry in sessions if isinstance(registry, ScopedRegistry))
    )
