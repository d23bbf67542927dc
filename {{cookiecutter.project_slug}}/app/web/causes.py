"""What the log says of an error: a line that names it and what led to it, without anybody's data."""

import re
import traceback
from collections.abc import Iterator
from typing import Any

import asyncpg
from fastapi.exceptions import ValidationException
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError, InvalidRequestError, PendingRollbackError, StatementError
from sqlalchemy.orm import InstrumentedAttribute, Relationship
from sqlalchemy.orm.exc import DetachedInstanceError

from app.web.errors import sqlstate

QUOTING_STATES = ("22", "P0")  # the messages of data exceptions quote values, those of RAISE may
ADAPTER = "sqlalchemy.dialects.postgresql.asyncpg"
SHARED = "Two tasks use this session. Open a session() in each task."
CAUGHT = (
    "A statement had failed, and its error was caught. Do not catch it. Or put the statement into "
    "`async with session.begin_nested():`."
)
HINTS = {
    "permanently closed": "The block of this session is over, or close() was called. In a stream or a "
    "background task, open a session(). A dependency that uses the session after its yield needs "
    'Depends(..., scope="function").',
    "is already attached to session": "Load the object with the session that writes: the object of a "
    "ReadSessionDep stays there.",
    "greenlet_spawn has not been called": "An attribute was read that is not loaded, or an await is missing.",
    "concurrent operations are not permitted": SHARED,
    "Session is already flushing": SHARED,
    "current transaction is aborted": CAUGHT,
    "due to a previous exception during flush": CAUGHT,
    "unsupported startup parameter": "Is this PgBouncer? Set DATABASE_PGBOUNCER=true.",
}


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
        if isinstance(error, StatementError) or is_of_driver(error):
            return  # it is described with the error that it wraps, which may quote a value
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def describe(error: BaseException) -> str:
    """Return the kind of an error and the first line of its message.

    Left out are values in errors of the database, and inputs in validation errors.
    """
    kind = type(error).__name__
    match error:
        case _ if isinstance(error, DBAPIError) or is_of_driver(error):
            cause, state = driver_error(error), sqlstate(error)
            kind = f"{type(cause).__name__} {state}".strip()
            message = without_values(cause, state, getattr(error, "params", None))
        case StatementError():  # a value that has no place in its column's type
            message = type(error.orig).__name__
        case PendingRollbackError():
            message = str(error).partition(" Original exception was:")[0]
        case ValidationException() | ValidationError():
            message = "; ".join(map(describe_invalid, error.errors()))
        case LookupError() if "is not among the defined enum values" in str(error):
            message = "a value is not among the defined enum values"
        case _:
            message = str(error).partition("\n")[0]
            if any(text and text in message for each in chain_of(error) for text in texts_of(each)):
                message = ""  # it repeats the message of the error that led to it
    hints = list(dict.fromkeys(map(how_to_load, unloaded(error))))  # a list of objects has an error for each
    hints = hints or [hint for words, hint in HINTS.items() if words in message]
    message = ". ".join(filter(None, [message.removesuffix("."), *hints])) if hints else message
    return ": ".join(filter(None, [kind, message]))


def unloaded(error: BaseException) -> list[InstrumentedAttribute[Any]]:
    """Return the attributes of models that could not be read because they were not loaded."""
    found: list[Any] = []
    if isinstance(error, InvalidRequestError | DetachedInstanceError):
        read = InstrumentedAttribute.__get__.__code__
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_code is read]
        found = [frame.f_locals["self"] for frame in frames[-1:]]
    elif isinstance(error, ValidationException | ValidationError):  # what pydantic read of an object
        failed = [each for each in error.errors() if each["type"] == "get_attribute_error"]
        found = [getattr(type(each["input"]), str(each["loc"][-1]), None) for each in failed]
    return [each for each in found if isinstance(each, InstrumentedAttribute)]


def how_to_load(attribute: InstrumentedAttribute[Any]) -> str:
    """Return what to write so that the attribute is loaded."""
    related = isinstance(attribute.property, Relationship)
    query = f"use selectinload({attribute}) in the query, or " if related else ""
    thing = attribute.class_.__name__.lower()
    return f"{attribute} was not loaded: {query}`await session.refresh({thing}, ['{attribute.key}'])`."


def is_of_driver(error: BaseException) -> bool:
    """Tell whether the error is asyncpg's, or the one that SQLAlchemy makes of asyncpg's."""
    drivers = isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError)
    return drivers or type(error).__module__ == ADAPTER


def texts_of(error: BaseException) -> Iterator[str]:
    """Yield what a message holds that was made with an error of the database."""
    if isinstance(error, StatementError) or is_of_driver(error):
        yield str(error).partition("\n")[0]
        yield str(getattr(error, "orig", error)).partition("\n")[0]


def without_values(error: BaseException, state: str, parameters: Any) -> str:
    """Return the first line of a message of the database, if there are no values in it."""
    message = str(error).partition("\n")[0]  # details, which quote values, are on the next line
    raised = getattr(error, "server_source_function", None) == "exec_stmt_raise"  # the text of a trigger
    if not (raised or state.startswith(QUOTING_STATES) or quotes(message, parameters)):
        return message
    found = re.match(r"invalid input for query argument \$\d+", message)
    return found[0] if found else ""


def describe_invalid(error: Any) -> str:
    """Return where a value was not valid, and in what way, without the value."""
    where = ".".join(map(str, error["loc"]))
    # An attribute that could not be read is no input, and the reason tells which mistake it was.
    return f"{where}: {error['msg'] if error['type'] == 'get_attribute_error' else error['type']}"


def driver_error(error: BaseException) -> BaseException:
    """Return asyncpg's error. SQLAlchemy wraps it, and 2.0 adds words of its own to the message."""
    wrapped: BaseException = getattr(error, "orig", None) or error
    is_adapter = type(wrapped).__module__ == ADAPTER
    return (wrapped.__cause__ or wrapped) if is_adapter else wrapped


def quotes(message: str, parameters: Any) -> bool:
    """Tell whether the message holds a value that was sent: of one row or, in a list, of several."""
    rows = parameters if isinstance(parameters, list) else [parameters or ()]
    return any(str(value) in message for row in rows for value in row if value)
