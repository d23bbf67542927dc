"""The session of a unit of work: SQLAlchemy's, with a guard for blocks that joined another, and callbacks."""

import logging
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from typing import cast

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from app.db.errors import JoinedBlockError, RollbackOnlyError

logger = logging.getLogger(__name__)
Callback = Callable[[], Awaitable[object]]


class UnitOfWork(Session):
    """`commit()`, `rollback()` and the rest do what SQLAlchemy documents, but not in a joined block.

    There, they would end the transaction of the outer block, which knows nothing of it.
    """

    _joined = 0  # how many blocks have joined now
    # For each of them that raised: the savepoints around it, of which any undoes what the block did.
    _failures: tuple[frozenset[SessionTransaction], ...] = ()
    # What on_commit() registered, with the savepoints around it; and what of this is committed.
    _registered: tuple[tuple[frozenset[SessionTransaction], Callback], ...] = ()
    _committed: tuple[Callback, ...] = ()

    @contextmanager
    def join(self, *, reads: bool) -> Generator[None]:
        """Count a block that shares this session. Remember whether it failed, unless it only reads."""
        savepoints = frozenset(around(self.get_nested_transaction()))
        self._joined += 1
        try:
            yield
        except (Exception, CancelledError):  # not GeneratorExit: a generator need not be read to its end
            self._failures += () if reads else (savepoints,)
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
        self._registered = ()  # also where no statement has begun a transaction
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
        if self._failures:
            raise RollbackOnlyError

    def forget_failure(self, transaction: SessionTransaction) -> None:
        """A rollback undoes what the failed block did. In a joined block it undoes the outer block, too."""
        if transaction.parent is None:
            self._failures = (frozenset(),) if self._joined else ()
            self._registered = ()
        else:
            self._failures = tuple(each for each in self._failures if transaction not in each)
            self._registered = tuple(each for each in self._registered if transaction not in each[0])

    def register(self, callback: Callback) -> None:
        """Keep a callback for the commit of the transaction that is open now."""
        self._registered += ((frozenset(around(self.get_nested_transaction())), callback),)

    def note_commit(self) -> None:
        """After a COMMIT, what was registered before it may run. The end of a savepoint is no COMMIT."""
        if not self.in_nested_transaction():
            self._committed += tuple(callback for _, callback in self._registered)
            self._registered = ()

    async def run_callbacks(self) -> None:
        """Run what was registered before each COMMIT, in order. One that fails does not undo the COMMIT."""
        callbacks, self._committed = self._committed, ()
        for number, callback in enumerate(callbacks):
            name = getattr(getattr(callback, "func", callback), "__qualname__", "a callback")
            try:
                await callback()
            except Exception:
                logger.exception("on_commit: %s failed. What was committed stays.", name)
            except BaseException:
                logger.warning(
                    "on_commit: %s was cancelled, %d more not called.", name, len(callbacks) - number - 1
                )
                raise


def around(transaction: SessionTransaction | None) -> Iterator[SessionTransaction]:
    """Yield the savepoint, and those around it."""
    while transaction is not None and transaction.nested:
        yield transaction
        transaction = transaction.parent


@contextmanager
def joined(session: AsyncSession, *, reads: bool = False) -> Generator[None]:
    """Share the session of a unit of work with a block inside it. If that block fails, the unit does."""
    with unit_of(session).join(reads=reads):
        yield


def unit_of(session: AsyncSession) -> UnitOfWork:
    """Return the unit of work that the asynchronous session stands for."""
    return cast("UnitOfWork", session.sync_session)


# The transaction is guarded, not the method: there are several ways to commit one.
event.listen(UnitOfWork, "before_commit", UnitOfWork.check_commit)
event.listen(UnitOfWork, "after_commit", UnitOfWork.note_commit)
event.listen(UnitOfWork, "after_soft_rollback", UnitOfWork.forget_failure)
