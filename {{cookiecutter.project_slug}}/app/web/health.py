"""Probes: is the process alive, and can it serve?"""

import logging
from asyncio import timeout

from fastapi import APIRouter, HTTPException
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from app.config import get_settings
from app.db import answers_aside, sessionmanager
from app.web.causes import cause_of
from app.web.problems import RETRY

logger = logging.getLogger(__name__)
DEADLINE = 2.0  # seconds; below the period of most probes

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live")
async def live() -> dict[str, str]:
    """Answer as long as the process runs. Does not ask the database: a restart would not mend that."""
    return {"status": "ok"}


@router.get("/ready")
async def ready() -> dict[str, str]:
    """Answer 200 if a query went through the pool to the database and back.

    Where all connections are in use, the probe does not wait in the line: it opens a connection of its own.
    The query goes where reads go. With DATABASE_REPLICA_FALLBACK=false it goes to the primary, so that a lost
    replica does not stop writes.
    """
    fallback = get_settings().database_replica_fallback
    opened = sessionmanager.read_session if fallback else sessionmanager.session
    pool = (sessionmanager.read_engine if fallback else sessionmanager.engine).pool
    try:
        async with timeout(DEADLINE):
            if not await answers_aside(pool):
                async with opened() as session:
                    await session.execute(select(1))
    except (SQLAlchemyError, TimeoutError) as error:
        logger.warning("not ready: %s", cause_of(error))
        raise HTTPException(503, "The database does not answer.", RETRY) from error
    return {"status": "ok"}
