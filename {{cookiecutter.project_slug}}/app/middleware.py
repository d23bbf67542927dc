"""What surrounds every request."""

import logging

from fastapi import HTTPException
from starlette.datastructures import MutableHeaders
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
        """Handle a request.

        An error that no handler took is a 500 and one line in the log. Once the response has begun, it can
        only be broken off: the server closes the connection.
        """
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        size = 0
        started = False

        async def receive_limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self.max_body_size:
                raise HTTPException(413, f"The body is larger than {self.max_body_size} bytes.")
            return message

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        try:
            await self.app(scope, receive_limited, send_with_headers)
        except Exception as error:
            # The traceback goes to the log without messages, the cause without data.
            logger.exception("%s %s: 500, %s", scope["method"], scope["path"], cause_of(error))  # noqa: TRY401
            if not started:
                await problem(500, DETAIL[500])(scope, receive, send_with_headers)
