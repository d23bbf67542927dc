"""The two engines, and where they are used: connections belong to a process and to its event loop."""

import asyncio
import os
from typing import NamedTuple

from sqlalchemy import Pool
from sqlalchemy.ext.asyncio import AsyncEngine

from app.config import Settings
from app.db.engine import create_engine, dispose
from app.db.errors import DatabaseNotInitializedError, OtherLoopError
from app.db.pool import FairPool

OF_PARENTS: list[Pool] = []  # the pools of the parent processes


class Place(NamedTuple):
    """A process, and the event loop that runs in this task."""

    process: int
    loop: asyncio.AbstractEventLoop | None


def here() -> Place:
    """Return the place where this is called."""
    try:
        return Place(os.getpid(), asyncio.get_running_loop())
    except RuntimeError:
        return Place(os.getpid(), None)


class Engines:
    """The engine of the sessions that write, and the engine of the sessions that read."""

    _engine: AsyncEngine | None = None
    _read_engine: AsyncEngine

    def create(self, settings: Settings) -> None:
        """Create the engines. They connect when they are first used."""
        if self._engine is not None:
            raise RuntimeError("The database is initialised already: call close() first.")
        self._engine, self._read_engine = create_engine(settings), create_engine(settings, read_only=True)
        self._place = here()

    async def close(self) -> None:
        """Close the connections that are in the pools."""
        engine, self._engine = self.engine, None
        await dispose(engine, self._read_engine)

    @property
    def engine(self) -> AsyncEngine:
        """The engine of the sessions that write."""
        if self._engine is None:
            raise DatabaseNotInitializedError
        if (place := here()) != self._place and place.loop:
            self._move(self._engine, place)
        return self._engine

    @property
    def read_engine(self) -> AsyncEngine:
        """The engine of the sessions that read: connections of its own, without transactions."""
        _ = self.engine  # raises if there is none
        return self._read_engine

    def _move(self, engine: AsyncEngine, place: Place) -> None:
        """Begin with empty pools. The connections of the other place cannot be used here.

        After a fork the old pools are kept: if Python deleted a connection here, the event loop of the parent
        process would lose it.
        """
        process, loop = self._place
        if process == place.process and loop and loop.is_running():
            raise OtherLoopError
        self._place = place
        for each in (engine, self._read_engine) if loop else ():
            if process != place.process:
                OF_PARENTS.append(each.pool)
            elif isinstance(each.pool, FairPool):
                for connection in each.pool.empty():
                    connection.hang_up()
            each.sync_engine.dispose(close=False)
