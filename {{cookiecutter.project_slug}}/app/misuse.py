"""Errors that say how the sessions were misused, and what to do instead."""


class MisuseError(RuntimeError):
    """The fault is in the code that used a session; the message says how to mend it."""


class DatabaseNotInitializedError(MisuseError):
    """The session manager was used before `init_db` or after `close`."""

    def __init__(self) -> None:
        super().__init__(
            "The database is not initialised: call sessionmanager.init_db(get_settings()) first. "
            "The application does so when it starts; a script does it itself."
        )


class OutsideRequestError(MisuseError):
    """`get_db` or `get_read_db` was called by something other than FastAPI."""

    def __init__(self, instead: str) -> None:
        super().__init__(
            f"This is for Depends. Elsewhere: `async with sessionmanager.{instead}() as session:`, which "
            "ends when its block does; a generator that is left half-way does not."
        )


class UnitOfWorkOpenError(MisuseError):
    """A request began inside a unit of work, which would commit after the response was sent."""

    def __init__(self) -> None:
        super().__init__(
            "This task has a unit of work already, of a sessionmanager.session() around the request or of "
            "get_db a second time: a request commits one of its own, before its response is sent."
        )


class CommitInsideError(MisuseError):
    """A unit of work was to be begun or committed by hand."""

    def __init__(self, call: str) -> None:
        super().__init__(
            f"{call} is not for a unit of work: it is begun, and it commits when its block ends. To send its "
            "changes, flush(); to try something, begin_nested(); to commit in parts, a block for each."
        )


class RollbackOnlyError(MisuseError):
    """A block that had joined a unit of work failed, and the unit was to be committed all the same."""

    def __init__(self) -> None:
        super().__init__(
            "Nothing was committed: a session() block inside this one raised or rolled back, and its error "
            "was caught. Let it through; in that block, begin_nested() undoes what failed and nothing else."
        )


class SharedSessionError(MisuseError):
    """Two tasks used one session at the same time."""

    def __init__(self) -> None:
        super().__init__(
            "This session is being used by another task. Wait for that, or give each task its own: "
            "`async with sessionmanager.session() as session:`."
        )


class ReadOnlySessionError(MisuseError):
    """A statement other than a query was sent through a session that is for reading."""

    def __init__(self, statement: str) -> None:
        super().__init__(
            f"A read session takes queries only, which this {statement.split(maxsplit=1)[0]} is not. "
            "To write, take SessionDep in a route, or sessionmanager.session() elsewhere."
        )
