"""The rendered service with nothing of telemetry in it, not even the question whether it is on."""

from contextlib import nullcontext

from fastapi import FastAPI
from starlette.applications import Starlette

from app.db import pool, telemetry


class Nothing:
    """Takes the place of a histogram."""

    def record(self, *_: object) -> None:
        """Record nothing."""


def no_watch(_self: object, _statement: str) -> nullcontext[None]:
    """Take the place of what looks on at a statement."""
    return nullcontext()


setattr(FastAPI, "__call__", Starlette.__call__)  # noqa: B010 FastAPI's asks in each request
setattr(telemetry.Watch, "statement", no_watch)  # noqa: B010 nothing types an attribute that is replaced
setattr(pool, "wait_time", Nothing())  # noqa: B010 the same

from app.main import app  # noqa: E402 after the changes above

__all__ = ["app"]
