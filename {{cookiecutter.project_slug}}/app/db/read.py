"""The session of reads. It holds a connection while a statement runs, and not while its task waits."""

from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransactionOrigin

from app.db.errors import ChangedObjectError


class ReadSession(Session):
    """A session on the engine of the reads, where PostgreSQL refuses to write.

    It gives its connection back after each statement: the driver has received all rows by then. The objects
    stay as they are: `rollback()` would expire them, and `close()` would detach them. SQLAlchemy's `get()`,
    `refresh()`, lazy and eager loads come through `execute()`, too.
    """

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Execute any statement."""
        try:
            return super().execute(*args, **kwargs)
        finally:
            release(self)

    def scalar(self, *args: Any, **kwargs: Any) -> Any:
        """Return the first column of the first row."""
        try:
            return super().scalar(*args, **kwargs)
        finally:
            release(self)

    def scalars(self, *args: Any, **kwargs: Any) -> Any:
        """Return the first column of each row."""
        try:
            return super().scalars(*args, **kwargs)
        finally:
            release(self)


def release(session: Session) -> None:
    """Give the connection back, unless somebody called `begin()`: that block keeps the connection."""
    transaction = session.get_transaction()
    if transaction is not None and transaction.origin is SessionTransactionOrigin.AUTOBEGIN:
        transaction.close()


@event.listens_for(ReadSession, "before_flush")
def refuse_changes(session: Session, *_: object) -> None:
    """Raise if objects were added, changed or deleted: that would be lost without a word."""
    if session.new or session.deleted or any(map(session.is_modified, session.dirty)):
        raise ChangedObjectError
