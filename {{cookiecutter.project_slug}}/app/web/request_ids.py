"""The id of a request. The response and each log line of the request have it."""

import logging
import os
import re
from contextvars import ContextVar

UUID = re.compile("[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


def choose_request_id(sent: str | None) -> str:
    """Return the X-Request-ID that the client sent, if it is a UUID, else a new one."""
    return sent if sent and UUID.fullmatch(sent) else os.urandom(16).hex()


def add_request_id(record: logging.LogRecord) -> bool:
    """Give a log record the id of the request, or `-` outside a request. A filter: keeps each record."""
    vars(record)["request_id"] = request_id.get() or "-"
    return True
