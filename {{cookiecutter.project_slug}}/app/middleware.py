"""What surrounds every request."""

import logging
import re
from contextlib import suppress

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import cause_of
from app.problems import DETAIL, problem

logger = logging.getLogger(__name__)

UUID = re.compile("[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}


class RequestGuard:
    """Adds headers to the response, and answers an unexpected error."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, or a websocket.

        An error that no handler took is a 500 and one line in the log. Once the response has begun, it can
        only be broken off: the server closes the connection.
        """
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except ClientDisconnect:
            return  # nobody is left to answer
        except Exception as error:
            method, when = scope.get("method", "WEBSOCKET"), "the response had begun" if started else "500"
            # The traceback goes to the log without messages, the cause without data.
            logger.exception("%s %s: %s, %s", method, scope["path"], when, cause_of(error))  # noqa: TRY401
            if scope["type"] == "websocket":
                with suppress(RuntimeError):  # it is closed already
                    await send({"type": "websocket.close", "code": 1011})
            elif not started:
                await problem(500, DETAIL[500])(scope, receive, send_with_headers)


class BodyLimit:
    """Answers 413 to a body of more than so many bytes: if it is announced, whether it is read or not."""

    def __init__(self, app: ASGIApp, max_body_size: int) -> None:
        self.app = app
        self.max_body_size = max_body_size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, or a websocket."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif int(Headers(scope=scope).get("content-length", 0)) > self.max_body_size:
            await problem(413, too_large(self.max_body_size))(scope, receive, send)
        else:
            await self.app(scope, limited(receive, self.max_body_size), send)


def limited(receive: Receive, size: int) -> Receive:
    """Return what receives a body of this many bytes at most.

    Raises:
        HTTPException: 413, when more has come.
    """
    received = 0

    async def receive_limited() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > size:
            raise HTTPException(413, too_large(size))
        return message

    return receive_limited


def too_large(size: int) -> str:
    """Return what is wrong with a body of more bytes than that."""
    return f"The body is larger than {size} bytes."


def is_request_id(text: str) -> bool:
    """Tell whether a client's X-Request-ID is one to keep: a UUID, with dashes or without."""
    return UUID.fullmatch(text) is not None
