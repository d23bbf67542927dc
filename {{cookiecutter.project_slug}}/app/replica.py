"""Reads from a replica; from the primary while the replica is away."""

import logging
import math
import time
from typing import Any

from sqlalchemy import URL, Dialect, event
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.config import Settings
from app.engine import create_engine
from app.errors import cause_of

logger = logging.getLogger(__name__)

PATIENCE = 1  # seconds that the replica has to take a connection, before the primary is asked
RETRY_AFTER = 5  # seconds until a replica that was away is tried again


def create_replica_engine(settings: Settings) -> AsyncEngine:
    """Return an engine on the replica, with a pool of its own.

    While the replica takes no connections, the pool opens them to the primary, unless
    DATABASE_REPLICA_FALLBACK is off: then its requests are answered 503.
    """
    update = {"database_url": settings.database_replica_url}
    engine = create_engine(settings.model_copy(update=update), "replica")
    if settings.database_replica_fallback:
        fallback = Fallback(engine.url, settings.database_url)
        event.listen(engine.sync_engine, "do_connect", fallback.connect)
        event.listen(engine.sync_engine, "checkout", fallback.go_back)
    return engine


class Fallback:
    """Fills the pool from the primary while the replica is away."""

    def __init__(self, replica: URL, primary: URL) -> None:
        self.replica, self.primary = replica, primary
        self.away_until = 0.0  # then one connection at a time tries it again; 0: it is not away

    def connect(self, dialect: Dialect, record: Any, _args: Any, parameters: dict[str, Any]) -> Any:
        """Return a connection to the replica, or else to the primary."""
        now = time.monotonic()
        if now >= self.away_until:
            if self.away_until:
                self.away_until = now + RETRY_AFTER  # the others need not try meanwhile
            try:
                connection = dialect.connect(**parameters | {"retry_for": PATIENCE})
            except dialect.loaded_dbapi.Error as error:
                self.away_until = time.monotonic() + RETRY_AFTER
                cause = cause_of(DBAPIError(None, None, error))
                logger.warning("The replica is away, the primary is read: %s", cause)
            else:
                self.away_until = 0.0
                return connection
        connection = dialect.connect(**self.to_primary(dialect, parameters))
        record.info["primary_until"] = time.monotonic() + RETRY_AFTER
        return connection

    def to_primary(self, dialect: Dialect, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return what connects to the primary, with nothing in it of the replica's URL."""
        of_replica = dialect.create_connect_args(self.replica)[1]
        others = {name: value for name, value in parameters.items() if name not in of_replica}
        return {**others, **dialect.create_connect_args(self.primary)[1]}

    def go_back(self, _connection: Any, record: Any, _proxy: Any) -> None:
        """Make the pool replace a connection to the primary when it is time to try the replica."""
        now = time.monotonic()
        if now >= max(record.info.get("primary_until", math.inf), self.away_until):
            raise DisconnectionError
