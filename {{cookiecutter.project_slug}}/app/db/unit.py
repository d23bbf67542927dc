"""The session of a unit of work: SQLAlchemy's, with a guard for blocks that joined another."""

from asyncio import CancelledError
from collections.abc import Generator
from contextlib import contextmanager
from typing import cast

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from app.db.errors import JoinedBlockError, RollbackOnlyError


class UnitOfWork(Session):
    """`commit()`, `rollback()` and the rest do what SQLAlchemy documents, but not in a joined block.

    There, they would end the transaction of the outer block, which knows nothing of it.
    """

    _joined = 0  # how many blocks have joined now
    _failed = False  # one of them raised
    _savepoint: SessionTransaction | None = None  # the one around the block that raised

    @contextmanager
    def join(self) -> Generator[None]:
        """Count a block that shares this session, and remember whether one failed."""
        savepoint = self.get_nested_transaction()
        self._joined += 1
        try:
            yield
        except (Exception, CancelledError):  # not GeneratorExit: a generator need not be read to its end
            self._failed, self._savepoint = True, savepoint
            raise
        finally:
            self._joined -= 1

    def begin(self, nested: bool = False) -> SessionTransaction:  # noqa: FBT001, FBT002 as SQLAlchemy has it
        """Begin a transaction or a savepoint."""
        if not nested:
            self._refuse_in_joined_block()
        return super().begin(nested)

    def rollback(self) -> None:
        """Roll back the transaction."""
        self._refuse_in_joined_block()
        super().rollback()

    def reset(self) -> None:
        """Roll back the transaction, and forget all objects."""
        self._refuse_in_joined_block()
        super().reset()

    def _refuse_in_joined_block(self) -> None:
        if self._joined:
            raise JoinedBlockError

    def check_commit(self) -> None:
        """Refuse a commit in a joined block, and one after a joined block failed. A savepoint may end."""
        if self.in_nested_transaction():
            return
        self._refuse_in_joined_block()
        if self._failed:
            raise RollbackOnlyError

    def forget_failure(self, transaction: SessionTransaction) -> None:
        """A rollback undoes what the failed block did."""
        if transaction.parent is None or transaction is self._savepoint:
            self._failed = False


@contextmanager
def joined(session: AsyncSession) -> Generator[None]:
    """Share the session of a unit of work with a block inside it. If that block fails, the unit does."""
    with cast("UnitOfWork", session.sync_session).join():
        yield


# The transaction is guarded, not the method: there are several ways to commit one.
event.listen(UnitOfWork, "before_commit", UnitOfWork.check_commit)
event.listen(UnitOfWork, "after_soft_rollback", UnitOfWork.forget_failure)
