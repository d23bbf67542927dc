"""An error: the HTTP status that tells a client what to do, and the line that tells the log what happened."""

from collections.abc import Iterator
from typing import Any

import asyncpg
from fastapi.exceptions import ValidationException
from pydantic import ValidationError
from sqlalchemy.exc import (
    DBAPIError,
    InvalidRequestError,
    NotSupportedError,
    PendingRollbackError,
    StatementError,
    TimeoutError as PoolTimeoutError,
)

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
HINTS = {
    "permanently closed": "The block of this session is over, or close() was called. In a stream or a "
    "background task, open a session(). A dependency that uses the session after its yield needs "
    'Depends(..., scope="function").',
    "is already attached to session": "Load the object with the session that writes: the object of a "
    "ReadSessionDep stays there.",
    "greenlet_spawn has not been called": "An attribute was read that is not loaded. Load it in the query, "
    "with options(selectinload(...)), or with `await session.refresh(thing, ['attribute'])`.",
}


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
    """Return a line that names the error and what led to it."""
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
        if isinstance(error, StatementError):
            return  # it is described with the error that it wraps
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def describe(error: BaseException) -> str:
    """Return the kind of an error and the first line of its message.

    Left out are values in errors of the database, and inputs in validation errors.
    """
    kind = type(error).__name__
    match error:
        case DBAPIError() | asyncpg.PostgresError():
            cause, state = driver_error(error), sqlstate(error)
            kind = f"{type(cause).__name__} {state}".strip()
            message = str(cause).partition("\n")[0]  # details, which quote values, are on the next line
            if state.startswith(QUOTING_STATES) or quotes(message, getattr(error, "params", None)):
                message = ""
        case StatementError():  # a value that has no place in its column's type
            message = type(error.orig).__name__
        case PendingRollbackError():
            message = str(error).partition(" Original exception was:")[0]
        case ValidationException() | ValidationError():
            message = "; ".join(map(describe_invalid, error.errors()))
        case _:
            message = str(error)
    for words, hint in HINTS.items():
        if words in message:
            message = f"{message.partition(chr(10))[0]} {hint}"
    first_line = message.partition("\n")[0]
    return f"{kind}: {first_line}" if first_line else kind


def describe_invalid(error: Any) -> str:
    """Return where a value was not valid, and in what way, without the value."""
    where = ".".join(map(str, error["loc"]))
    # An attribute that could not be read is no input, and the reason tells which mistake it was.
    return f"{where}: {error['msg'] if error['type'] == 'get_attribute_error' else error['type']}"


def driver_error(error: DBAPIError | asyncpg.PostgresError) -> BaseException:
    """Return the driver's error. SQLAlchemy wraps it, and 2.0 adds words of its own to the message."""
    wrapped: BaseException = getattr(error, "orig", None) or error
    is_drivers = isinstance(wrapped, asyncpg.PostgresError | asyncpg.InterfaceError)
    return wrapped if is_drivers else wrapped.__cause__ or wrapped


def sqlstate(error: BaseException) -> str:
    """Return PostgreSQL's code of the error, if it is one of PostgreSQL's."""
    return getattr(getattr(error, "orig", error), "sqlstate", None) or ""


def quotes(message: str, parameters: Any) -> bool:
    """Tell whether the message holds a value that was sent: of one row or, in a list, of several."""
    rows = parameters if isinstance(parameters, list) else [parameters or ()]
    return any(str(value) in message for row in rows for value in row if value)
