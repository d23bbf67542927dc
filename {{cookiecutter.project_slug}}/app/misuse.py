"""Errors that say how the sessions were misused, and what to do instead."""


class DatabaseNotInitializedError(RuntimeError):
    """The session manager was used before `init_db` or after `close`."""

    def __init__(self) -> None:
        super().__init__(
            "The database is not initialised: call sessionmanager.init_db(get_settings()) first. "
            "The application does so when it starts; a script does it itself."
        )


class UnitOfWorkOpenError(RuntimeError):
    """A request began inside a unit of work, which would commit after the response was sent."""

    def __init__(self) -> None:
        super().__init__(
            "This task has an open sessionmanager.session() around the request. End it first, or open it "
            "in the route: a request commits its own unit of work, before its response is sent."
        )


class ReadOnlySessionError(RuntimeError):
    """A statement other than a query was sent through a session that is for reading."""

    def __init__(self, statement: str) -> None:
        super().__init__(
            f"A read session takes queries only, not {statement[:60]!r}. "
            "To write, take SessionDep in a route, or sessionmanager.session() elsewhere."
        )
