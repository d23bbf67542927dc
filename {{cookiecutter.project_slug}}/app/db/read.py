"""The session of reads. It holds a connection while a statement runs, and not while its task waits."""

from typing import Any

from sqlalchemy import Result, event
from sqlalchemy.orm import ORMExecuteState, Session, SessionTransactionOrigin

from app.db.errors import ChangedObjectError


class ReadSession(Session):
    """A session on the engine of the reads, where PostgreSQL refuses to write."""


@event.listens_for(ReadSession, "do_orm_execute")
def execute_and_release(state: ORMExecuteState) -> Result[Any]:
    """Execute any statement, also one of a lazy load or `refresh()`; give the connection back.

    The driver has received all rows by then. The objects stay as they are: `session.rollback()` would expire
    them, and `session.close()` would detach them.
    """
    try:
        return state.invoke_statement()
    finally:
        release(state.session)


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
