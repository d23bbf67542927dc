"""Database errors made into responses, in one place."""

import logging

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError, SQLAlchemyError, TimeoutError as PoolTimeoutError

logger = logging.getLogger(__name__)

# https://www.postgresql.org/docs/current/errcodes-appendix.html
STATUS_OF_STATE = {
    "23503": 409,  # foreign key violation
    "23505": 409,  # unique violation
    "23514": 409,  # check violation
    "23P01": 409,  # exclusion violation
    "40001": 503,  # serialization failure
    "40P01": 503,  # deadlock
    "53300": 503,  # too many connections
    "55P03": 503,  # lock not available
    "57014": 503,  # statement timeout
    "57P03": 503,  # cannot connect now
}
DETAIL = {
    409: "This conflicts with what is already stored.",
    503: "The database is not available. Try again.",
}


def status_of(error: SQLAlchemyError) -> int | None:
    """Return the HTTP status that tells a client what to do, or None where the fault is in our code.

    409: the request conflicts with stored data. 503: the same request may succeed in a moment.
    """
    match error:
        case PoolTimeoutError() | DBAPIError(connection_invalidated=True):
            return 503
        case DBAPIError():
            return STATUS_OF_STATE.get(getattr(error.orig, "sqlstate", None) or "")
    return None


async def respond(request: Request, error: Exception) -> JSONResponse:
    """Answer a database error without a word of SQL or data; one that is our fault stays a 500."""
    status = status_of(error) if isinstance(error, SQLAlchemyError) else None
    if status is None:
        raise error
    if status == 503:
        cause = error.orig if isinstance(error, DBAPIError) else error
        logger.warning("%s %s: 503, %s", request.method, request.url.path, cause)
    headers = {"Retry-After": "1"} if status == 503 else None
    return JSONResponse({"detail": DETAIL[status]}, status, headers)


def add_error_handlers(app: FastAPI) -> None:
    """Register the handlers on the application."""
    app.add_exception_handler(SQLAlchemyError, respond)
