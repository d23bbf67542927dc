"""Database errors made into responses, in one place."""

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError, TimeoutError as PoolTimeoutError

# https://www.postgresql.org/docs/current/errcodes-appendix.html
RETRYABLE_STATES = {
    "40001",  # serialization failure
    "40P01",  # deadlock
    "53300",  # too many connections
    "55P03",  # lock not available
    "57014",  # statement timeout
    "57P03",  # cannot connect now
}


def status_of(error: SQLAlchemyError) -> int | None:
    """Return the HTTP status that tells a client what to do, or None where the fault is in our code.

    409: the request conflicts with stored data. 503: the same request may succeed in a moment.
    """
    match error:
        case IntegrityError():
            return 409
        case PoolTimeoutError() | DBAPIError(connection_invalidated=True):
            return 503
        case DBAPIError() if getattr(error.orig, "sqlstate", None) in RETRYABLE_STATES:
            return 503
    return None


async def respond(_request: Request, error: Exception) -> JSONResponse:
    """Answer a database error, without a word of SQL or data; one that is our fault stays a 500."""
    status = status_of(error) if isinstance(error, SQLAlchemyError) else None
    if status == 409:
        return JSONResponse({"detail": "This conflicts with what is already stored."}, 409)
    if status == 503:
        return JSONResponse(
            {"detail": "The database is not available. Try again."}, 503, {"Retry-After": "1"}
        )
    raise error


def add_error_handlers(app: FastAPI) -> None:
    """Register the handlers on the application."""
    app.add_exception_handler(SQLAlchemyError, respond)
