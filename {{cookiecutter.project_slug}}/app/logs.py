"""Logs on standard error: text on a terminal, JSON elsewhere, the id of the request in every line."""

import logging
import logging.config
import sys
import traceback
from types import TracebackType

from pythonjsonlogger.json import JsonFormatter

from app.errors import chain_of

FRAMES = 10  # of each traceback: the last ones are ours
ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class DatalessFormatter(JsonFormatter):
    """Shows where errors were raised, and not their messages, in which there may be somebody's data."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line of JSON."""
        vars(record).pop("color_message", None)  # uvicorn's, for terminals
        if record.name == "asyncio":  # it quotes the errors that nobody looked at
            record.msg, record.args = record.getMessage().partition("\n")[0], None
        return super().format(record)

    def formatException(self, ei: ExceptionInfo) -> str:  # noqa: N802 the name is logging's
        """Return the last frames of the error, and of those that led to it."""
        frames = (traceback.format_tb(error.__traceback__, limit=-FRAMES) for error in chain_of(ei[1]))
        return "\n".join("".join(each) for each in frames)


def is_news(record: logging.LogRecord) -> bool:
    """Tell whether a record of asyncio's is to be logged.

    It is not what asyncpg leaves behind when it breaks off an attempt to connect, or to cancel a query: an
    error in a future that nobody waits for.
    """
    return "unexpected connection_lost() call" not in record.getMessage()


def configure_logging(level: str) -> None:
    """Send all logs, those of uvicorn too, the same way."""
    terminal = sys.stderr.isatty()
    to_root: dict[str, object] = {"level": level, "handlers": [], "propagate": True}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {
                "news": {"()": lambda: is_news},
                "request": {"()": "asgi_correlation_id.CorrelationIdFilter", "default_value": "-"},
            },
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
                    "formatter": "text" if terminal else "json",
                    "filters": ["request"],
                }
            },
            "root": {"level": level, "handlers": ["stderr"]},
            "loggers": {
                "app.pool": {"level": "WARNING"},  # SQLAlchemy's news of each connection
                "asyncio": {"filters": ["news"]},
                "asgi_correlation_id": {"level": "ERROR"},  # each id of a client's that is not one
                **({} if terminal else {"uvicorn": to_root, "uvicorn.access": to_root}),
            },
        }
    )
