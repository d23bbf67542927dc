"""The errors of a session that was used wrongly. The docstring of each is its message."""


class SessionError(RuntimeError):
    """The code that used a session is wrong."""

    def __str__(self) -> str:
        # `python -OO` takes the docstrings away: then the name of the class has to do.
        return " ".join((self.__doc__ or type(self).__name__).split())


class DatabaseNotInitializedError(SessionError):
    """The database is not initialised. Call sessionmanager.init_db(get_settings()) first."""


class UnitOfWorkOpenError(SessionError):
    """A session() block is open around this request. It would commit after the response was sent.

    A dependency that holds a session() needs `Depends(..., scope="function")`. A middleware must close its
    session() before it calls the application. A generator that holds one must be closed with aclosing(). A
    route takes SessionDep, or the session of such a dependency, not both.
    """


class RunInsideError(SessionError):
    """A session() block is open in this task, and run() needs a transaction of its own for each try.

    Call run() before or after the block. In a route that calls run(), take no SessionDep.
    """


class NoUnitOfWorkError(SessionError):
    """No session() block is open in this task, so there is no commit to wait for."""


class OtherLoopError(SessionError):
    """Another event loop uses this session manager. Give each loop a DatabaseSessionManager of its own."""


class DirectURLNeededError(SessionError):
    """PgBouncer keeps no connection for anybody. Set DATABASE_DIRECT_URL to a URL of the server itself."""


class JoinedBlockError(SessionError):
    """This session() block is inside another one, so it cannot commit or roll back.

    Both blocks share one transaction. It ends with the outer block. To undo a part, use begin_nested().
    """


class RollbackOnlyError(SessionError):
    """Nothing was committed. A session() block inside this one raised, and its error was caught.

    Do not catch the error. Or open the inner block inside `async with session.begin_nested():`, and catch the
    error outside of that.
    """


class SharedSessionError(SessionError):
    """This session is being used by another task. Open a session() in each task."""


class NotFlushedError(SessionError):
    """The response needs a value of the database, such as an id. Call `await session.flush()` first."""


class ReadOnlySessionError(SessionError):
    """A read session cannot write or lock rows.

    To write, take SessionDep in a route, and sessionmanager.session() elsewhere.
    """


class ChangedObjectError(ReadOnlySessionError):
    """An object of a read session was added, changed or deleted. That is not stored.

    To write, take SessionDep in a route, and sessionmanager.session() elsewhere. If the route has a
    SessionDep, load the object with that session: `user = await session.get(User, user.id)`.
    """


class TransactionNeededError(SessionError):
    """A read session has no transaction. stream(), yield_per, begin_nested() and COPY need one.

    Take SessionDep in a route, and sessionmanager.session() elsewhere.
    """
