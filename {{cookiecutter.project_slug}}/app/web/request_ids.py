"""The id of a request. The response and each log line of the request have it."""

import logging
import os
import re
from contextvars import ContextVar

from starlette.datastructures import Headers

UUID = re.compile("[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


def set_request_id(headers: Headers) -> str:
    """Give the request an id, and return it: the client's X-Request-ID if that is a UUID, else a new one."""
    sent = headers.get("x-request-id", "")
    chosen = sent if UUID.fullmatch(sent) else os.urandom(16).hex()
    request_id.set(chosen)
    return chosen


def add_request_id(record: logging.LogRecord) -> bool:
    """Give a log record the id of the request, or `-` outside a request. A filter: keeps each record."""
    vars(record)["request_id"] = request_id.get() or "-"
    return True
