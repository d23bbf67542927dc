"""Reads from a replica; from the primary while the replica is away."""

import logging
import time
from typing import Any

import asyncpg
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.connection import connect

logger = logging.getLogger(__name__)

PATIENCE = 1  # seconds that the replica has to take a connection, before the primary is asked
RETRY_AFTER = 5  # seconds until a replica that was away is tried again


class Fallback:
    """Fills the pool of an engine on the replica from the primary while the replica is away."""

    def __init__(self, engine: AsyncEngine, of_primary: dict[str, Any]) -> None:
        self.of_primary = of_primary
        self.away_until = 0.0  # then one connection at a time tries the replica again; 0: it is there
        event.listen(engine.sync_engine, "do_connect", self.use)
        event.listen(engine.sync_engine, "checkout", self.go_back)

    def use(self, _dialect: Any, _record: Any, _args: Any, parameters: dict[str, Any]) -> None:
        """Have SQLAlchemy open the connection with `connect`."""
        parameters["async_creator_fn"] = self.connect

    async def connect(self, **parameters: Any) -> asyncpg.Connection:
        """Return a connection to the replica, or else to the primary."""
        if time.monotonic() >= self.away_until:
            if self.away_until:
                self.away_until = time.monotonic() + RETRY_AFTER  # the others need not try meanwhile
            try:
                parameters["retry_for"] = PATIENCE
                connection = await connect(**parameters)
            except DBAPIError as error:
                self.away_until = time.monotonic() + RETRY_AFTER
                cause: Any = error.orig
                reason = (type(cause).__name__, getattr(cause, "sqlstate", ""), cause.args[0])
                logger.warning("The replica is away, the primary is read: %s %s: %s", *reason)
            else:
                self.away_until = 0.0
                return connection
        stand_in: Any = await connect(**parameters | self.of_primary)
        stand_in.stands_in_until = time.monotonic() + RETRY_AFTER
        return stand_in

    def go_back(self, connection: Any, _record: Any, _proxy: Any) -> None:
        """Make the pool replace a connection to the primary when it is time to try the replica."""
        if time.monotonic() >= max(connection.driver_connection.stands_in_until, self.away_until):
            raise DisconnectionError
