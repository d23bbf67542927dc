"""Logs on standard error: text on a terminal, JSON elsewhere, the id of the request in every line."""

import logging.config
import sys
import traceback
from types import TracebackType

from pythonjsonlogger.json import JsonFormatter

QUIET = {"level": "ERROR"}


class DatalessFormatter(JsonFormatter):
    """Shows where an error was raised, and not its message, in which there may be somebody's data."""

    def formatException(  # noqa: N802 the name is logging's
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None],
    ) -> str:
        """Return the lines of the traceback."""
        return "".join(traceback.format_tb(ei[2]))


def configure_logging(level: str) -> None:
    """Send all logs, those of uvicorn too, the same way."""
    server: dict[str, object] = {} if sys.stderr.isatty() else {"handlers": [], "propagate": True}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"request": {"()": "asgi_correlation_id.CorrelationIdFilter", "default_value": "-"}},
            "formatters": {
                "text": {"format": "%(levelname)s:     %(message)s [%(correlation_id)s]"},
                "json": {
                    "()": DatalessFormatter,
                    "fmt": ["asctime", "levelname", "name", "message", "correlation_id"],
                    "rename_fields": {
                        "asctime": "time",
                        "levelname": "level",
                        "correlation_id": "request_id",
                    },
                },
            },
            "handlers": {
                "stderr": {
                    "class": "logging.StreamHandler",
                    "formatter": "text" if sys.stderr.isatty() else "json",
                    "filters": ["request"],
                }
            },
            "root": {"level": level, "handlers": ["stderr"]},
            "loggers": {
                "uvicorn": server,
                "uvicorn.access": server,
                "stamina": QUIET,  # each attempt to connect
                "asgi_correlation_id": QUIET,  # each id of a client's that is not one
            },
        }
    )
