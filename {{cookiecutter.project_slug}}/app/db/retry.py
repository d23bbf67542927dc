"""When a unit of work is worth another try."""

from typing import Literal

import stamina

IsolationLevel = Literal["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]
# A serialization failure, a deadlock: https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html
AGAIN = ("40001", "40P01")


def is_worth_another_try(error: Exception) -> bool:
    """Tell whether the same work may succeed if it is done again."""
    return getattr(getattr(error, "orig", error), "sqlstate", None) in AGAIN  # SQLAlchemy's, or the driver's


def retrying(tries: int) -> stamina.BoundAsyncRetryingCaller:
    """Return what calls a function again, after a random pause that grows to a tenth of a second."""
    caller = stamina.AsyncRetryingCaller(
        attempts=tries, timeout=None, wait_initial=0.005, wait_max=0.1, wait_jitter=0.02
    )
    return caller.on(is_worth_another_try)
