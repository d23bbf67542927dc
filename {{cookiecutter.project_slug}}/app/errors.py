"""A database error: the HTTP status that tells a client what to do, and the cause that the log tells us."""

from sqlalchemy.exc import DBAPIError, NotSupportedError, SQLAlchemyError, TimeoutError as PoolTimeoutError

# By SQLSTATE, or its class: https://www.postgresql.org/docs/current/errcodes-appendix.html
STATUS_OF_STATE = {
    "08": 503,  # connection
    "23503": 409,  # foreign key violation
    "23505": 409,  # unique violation
    "23514": 409,  # check violation
    "23P01": 409,  # exclusion violation
    "25P03": 503,  # idle transaction timeout
    "40": 503,  # serialization failure, deadlock
    "53": 503,  # too many connections, disk full, out of memory
    "55P03": 503,  # lock timeout
    "57": 503,  # statement timeout, shutdown, starting up
}
DATA_EXCEPTION = "22"  # the messages of this class quote the value


def status_of(error: SQLAlchemyError) -> int | None:
    """Return the HTTP status, or None where the fault is in our code.

    409: the request conflicts with stored data. 503: the same request may succeed in a moment.
    """
    match error:
        case PoolTimeoutError() | DBAPIError(connection_invalidated=True):
            return 503
        case NotSupportedError():
            return 503  # a migration changed a table under a prepared statement, which is now prepared again
        case DBAPIError():
            state = sqlstate(error)
            return STATUS_OF_STATE.get(state) or STATUS_OF_STATE.get(state[:2])
    return None


def cause_of(error: BaseException) -> str:
    """Return the kind of the error and the first line of its message, which holds none of the data."""
    if not isinstance(error, DBAPIError):
        return f"{type(error).__name__}: {error}".partition("\n")[0]
    state, cause = sqlstate(error), (error.orig and error.orig.__cause__) or error.orig
    message = "" if state.startswith(DATA_EXCEPTION) else f": {error.orig}".partition("\n")[0]
    return f"{type(cause).__name__} {state}{message}"


def sqlstate(error: DBAPIError) -> str:
    """Return PostgreSQL's code of the error, or nothing if the error is not PostgreSQL's."""
    return getattr(error.orig, "sqlstate", None) or ""
