"""An error of the database: the HTTP status that tells a client what to do."""

from sqlalchemy.exc import (
    DBAPIError,
    InvalidRequestError,
    NotSupportedError,
    TimeoutError as PoolTimeoutError,
)

# By SQLSTATE, or its class: https://www.postgresql.org/docs/current/errcodes-appendix.html
STATUS_OF_STATE = {
    "08": 503,  # connection
    "23503": 409,  # foreign key violation
    "23505": 409,  # unique violation
    "23514": 409,  # check violation
    "23P01": 409,  # exclusion violation
    "28": 503,  # the password was changed, or the server does not let this role in
    "40": 503,  # serialization failure, deadlock
    "53": 503,  # too many connections, disk full, out of memory
    "55P03": 503,  # lock timeout
    "57": 503,  # statement timeout, shutdown, starting up
}


def status_of(error: Exception) -> int | None:
    """Return the HTTP status, or None where the fault is in our code.

    409: the request conflicts with stored data. 503: the same request may succeed in a moment. For an
    ExceptionGroup: the highest status, or None if one error has none.
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


def sqlstate(error: BaseException) -> str:
    """Return PostgreSQL's code of the error, if it is one of PostgreSQL's."""
    return getattr(getattr(error, "orig", error), "sqlstate", None) or ""
