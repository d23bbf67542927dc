"""Logs on standard error: text on a terminal, JSON elsewhere, the id of the request in every line."""

import logging
import sys
import traceback
from itertools import compress
from pathlib import Path
from types import TracebackType

from pythonjsonlogger.json import JsonFormatter
from uvicorn.logging import DefaultFormatter

from app.web.causes import chain_of, describe
from app.web.request_ids import add_request_id

PROJECT = str(Path(__file__).parents[2])
PACKAGES = "site-packages"  # the environment may be in the project's folder
LAST = 3  # frames of each traceback that are shown though they are not the project's
FIELDS = ["asctime", "levelname", "name", "message", "request_id"]
# The same as in uvicorn.json, which formats the lines of uvicorn's parent process.
NAMES = {"asctime": "time", "levelname": "level"}
ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def traceback_of(ei: ExceptionInfo) -> str:
    """Return where the error was raised, and the errors that led to it, each with its description.

    Of the libraries' frames, only the last ones are shown.
    """
    lines: list[str] = []
    for error in chain_of(ei[1]):
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame.filename.startswith(PROJECT) and PACKAGES not in frame.filename for frame in frames]
        ours[-LAST:] = [True] * len(ours[-LAST:])
        lines += traceback.format_list(list(compress(frames, ours)))
        lines.append(f"{describe(error)}\n")
    return "".join(lines)


def printable(text: str) -> str:
    """Return the text with escapes for what a terminal obeys: newlines, colours, a change of direction."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


class TextFormatter(DefaultFormatter):
    """Formats a record for a terminal. What a client sent may be in it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 the name is logging's
        """Return the message as one line, with the id of the request if there is one."""
        request = getattr(record, "request_id", "-")
        vars(record)["request"] = "" if request == "-" else f" [{request}]"
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: ExceptionInfo) -> str:  # noqa: N802 the name is logging's
        """Return the traceback without the values that are in errors of the database."""
        return "\n".join(map(printable, traceback_of(ei).split("\n")))


class LineFormatter(JsonFormatter):
    """Formats a record as a line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line of JSON."""
        vars(record).pop("color_message", None)  # uvicorn's, for terminals
        return super().format(record)

    def formatException(self, ei: ExceptionInfo) -> str:  # noqa: N802 the name is logging's
        """Return the traceback without the values that are in errors of the database."""
        return traceback_of(ei)


def filter_asyncio(record: logging.LogRecord) -> bool:
    """Drop what asyncpg leaves behind when it breaks off an attempt to connect; shorten the rest.

    The rest of asyncio's message may show values. The traceback describes the error.
    """
    message = record.getMessage()
    record.msg, record.args = message.partition("\n")[0], None
    return "unexpected connection_lost() call" not in message


def configure_logging(level: str) -> None:
    """Send all logs, those of uvicorn too, the same way."""
    handler = logging.StreamHandler()
    handler.addFilter(add_request_id)
    text = TextFormatter("%(levelprefix)s %(message)s%(request)s")
    handler.setFormatter(text if sys.stderr.isatty() else LineFormatter(FIELDS, rename_fields=NAMES))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        if logger.handlers or logger.propagate:  # else `uvicorn --no-access-log` has silenced it
            logger.setLevel(level)
            logger.handlers, logger.propagate = [], True
    logging.getLogger("app.db.pool").setLevel("WARNING")  # SQLAlchemy's news of each connection
    logging.getLogger("asyncio").addFilter(filter_asyncio)
