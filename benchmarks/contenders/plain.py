"""The rendered service with nothing of telemetry in it, not even the question whether it is on."""

from typing import Any

from fastapi import FastAPI
from starlette.applications import Starlette

from app import engine


def leave_alone(_engine: Any, _name: str, run: Any) -> Any:
    """Do what `instrument` does where nothing is collected, without looking."""
    return run


setattr(FastAPI, "__call__", Starlette.__call__)  # noqa: B010 FastAPI's asks in each request
setattr(engine, "instrument", leave_alone)  # noqa: B010 nothing types an attribute that is replaced

from app.main import app  # noqa: E402 after the changes above

__all__ = ["app"]
