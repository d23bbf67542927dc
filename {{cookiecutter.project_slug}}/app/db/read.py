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

    On this engine a commit sends nothing. It keeps the objects: `rollback()` would expire them, `close()`
    would detach them. The driver has received all rows by then.
    """
    session = state.session
    try:
        result = state.invoke_statement()
    except Exception:
        if began_by_itself(session):
            session.rollback()
        raise
    if began_by_itself(session):
        session.commit()
    return result


def began_by_itself(session: Session) -> bool:
    """Tell whether nobody called `begin()`: who does keeps the connection until that block ends."""
    transaction = session.get_transaction()
    return transaction is not None and transaction.origin is SessionTransactionOrigin.AUTOBEGIN


@event.listens_for(ReadSession, "before_flush")
def refuse_changes(session: Session, *_: object) -> None:
    """Raise if objects were added, changed or deleted: that would be lost without a word."""
    if session.new or session.deleted or any(map(session.is_modified, session.dirty)):
        raise ChangedObjectError
