"""What surrounds every request."""

import logging
from contextlib import suppress

from asgi_correlation_id.middleware import is_valid_uuid4
from fastapi import HTTPException
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import cause_of
from app.problems import DETAIL, problem

logger = logging.getLogger(__name__)

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}


class RequestGuard:
    """Limits the body of a request, adds headers to the response, and answers an unexpected error."""

    def __init__(self, app: ASGIApp, max_body_size: int) -> None:
        self.app = app
        self.max_body_size = max_body_size

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
            await self.app(scope, limited(receive, self.max_body_size), send_with_headers)
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
            raise HTTPException(413, f"The body is larger than {size} bytes.")
        return message

    return receive_limited


def is_request_id(text: str) -> bool:
    """Tell whether a client's X-Request-ID is one to keep: a UUID, with dashes or without."""
    return len(text) <= 36 and is_valid_uuid4(text)
