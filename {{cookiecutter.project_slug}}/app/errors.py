"""An error: the HTTP status that tells a client what to do, and the cause that the log tells us."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy.exc import (
    DBAPIError,
    InvalidRequestError,
    NotSupportedError,
    TimeoutError as PoolTimeoutError,
)

from app.misuse import MisuseError

# By SQLSTATE, or its class: https://www.postgresql.org/docs/current/errcodes-appendix.html
STATUS_OF_STATE = {
    "08": 503,  # connection
    "23503": 409,  # foreign key violation
    "23505": 409,  # unique violation
    "23514": 409,  # check violation
    "23P01": 409,  # exclusion violation
    "40": 503,  # serialization failure, deadlock
    "53": 503,  # too many connections, disk full, out of memory
    "55P03": 503,  # lock timeout
    "57": 503,  # statement timeout, shutdown, starting up
}
QUOTING_STATES = ("22", "P0")  # the messages of data exceptions quote values, those of RAISE may


def status_of(error: Exception) -> int | None:
    """Return the HTTP status, or None where the fault is in our code.

    409: the request conflicts with stored data. 503: the same request may succeed in a moment. Of a group,
    which a `TaskGroup` raises: the highest, if each has one.
    """
    match error:
        case ExceptionGroup(exceptions=errors):
            statuses = [status_of(each) or 500 for each in errors]
            return None if 500 in statuses else max(statuses)
        case PoolTimeoutError() | DBAPIError(connection_invalidated=True):
            return 503
        case InvalidRequestError() if str(error) == "This connection is closed":
            return 503  # so was the one that replaced it: the database goes down just now
        case NotSupportedError():
            return 503  # a migration changed a table under a prepared statement, which is now prepared again
        case DBAPIError():
            state = sqlstate(error)
            return STATUS_OF_STATE.get(state) or STATUS_OF_STATE.get(state[:2])
    return None


def cause_of(error: BaseException) -> str:
    """Return a line that names the error and what led to it, with none of the data that may be in them."""
    return " < ".join(describe(each) for each in chain_of(error))


def chain_of(
    error: BaseException | None, seen: frozenset[BaseException] = frozenset()
) -> Iterator[BaseException]:
    """Yield the error, and the errors that it was raised from or that it groups."""
    while error is not None and error not in seen:
        yield error
        seen |= {error}
        if isinstance(error, BaseExceptionGroup):
            for member in error.exceptions:
                yield from chain_of(member, seen)
        if isinstance(error, DBAPIError):
            return  # it is described with the driver's error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def describe(error: BaseException) -> str:
    """Return the kind of an error, and the first line of its message where that holds no data."""
    kind, message = type(error).__name__, ""
    if isinstance(error, DBAPIError):
        state = sqlstate(error)
        kind = f"{type((error.orig and error.orig.__cause__) or error.orig).__name__} {state}".strip()
        message = str(error.orig)
        if state.startswith(QUOTING_STATES) or quotes(message, error.params):
            message = ""
    elif isinstance(error, MisuseError | PoolTimeoutError):  # SQLAlchemy's others may quote an error or a key
        message = str(error)
    first_line = message.partition("\n")[0]
    return f"{kind}: {first_line}" if first_line else kind


def sqlstate(error: DBAPIError) -> str:
    """Return PostgreSQL's code of the error, or nothing if the error is not PostgreSQL's."""
    return getattr(error.orig, "sqlstate", None) or ""


def quotes(message: str, parameters: Any) -> bool:
    """Tell whether the message holds a value that was sent: of one row or, in a list, of several."""
    rows = parameters if isinstance(parameters, list) else [parameters or ()]
    return any(str(value) in message for row in rows for value in row if value)
