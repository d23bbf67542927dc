"""What surrounds every request."""

import logging
from asyncio import current_task
from contextlib import suppress

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.config import Settings
from app.db import UnitOfWorkOpenError, origin, sessionmanager
from app.web.causes import cause_of
from app.web.problems import DETAIL, problem
from app.web.request_ids import set_request_id

logger = logging.getLogger(__name__)

TOO_LARGE = "The body is larger than %d bytes."
DIGITS = 18  # of a length that fits into 64 bits
SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]


class RequestGuard:
    """Gives the request an id, refuses a body that is too large, and answers an unexpected error.

    FastAPI's own `max_body_size` lets a route that does not read its body run and commit, and then makes a
    413 of the response.
    """

    def __init__(self, app: ASGIApp, max_body_size: int) -> None:
        self.app = app
        self.max_body_size = max_body_size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, or a websocket."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        started, task = False, current_task()
        asked = f"{scope.get('method', 'WEBSOCKET')} {scope['path']}: "
        origin.set(asked)
        headers = Headers(scope=scope)
        chosen = set_request_id(headers)

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                if message["status"] < 400 and sessionmanager.has_open_unit(task):
                    raise UnitOfWorkOpenError  # a success that is not committed, and may never be
                started = True
                given = [name.lower() for name, _ in message["headers"]]  # by the route
                added = [header for header in SECURITY_HEADERS if header[0] not in given]
                message["headers"] = [*message["headers"], *added, (b"x-request-id", chosen.encode())]
            await send(message)

        announced = headers.get("content-length", "0")
        if not announced.isdecimal() or len(announced) > DIGITS or int(announced) > self.max_body_size:
            await problem(413, TOO_LARGE % self.max_body_size)(scope, receive, send_with_headers)
            return
        try:
            await self.app(scope, limited(receive, self.max_body_size), send_with_headers)
        except ClientDisconnect:
            return  # nobody is left to answer
        except Exception as error:
            when = "the response had begun" if started else "500"
            logger.exception("%s%s, %s", asked, when, cause_of(error))  # noqa: TRY401 one line says it all
            await answer_failure(scope, receive, send_with_headers, started=started)


def limited(receive: Receive, size: int) -> Receive:
    """Return what receives a body of this many bytes at most, and raises 413 when more has come."""
    received = 0

    async def receive_limited() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > size:
            raise HTTPException(413, TOO_LARGE % size)
        return message

    return receive_limited


class PreflightGuard(CORSMiddleware):
    """Gives an id to a preflight, too: the answer to it does not come from RequestGuard."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a preflight."""
        chosen = set_request_id(request_headers)
        response = super().preflight_response(request_headers)
        response.headers["X-Request-ID"] = chosen
        return response


async def answer_failure(scope: Scope, receive: Receive, send: Send, *, started: bool) -> None:
    """Answer 500. A response that has begun can only be broken off: the server closes the connection."""
    if scope["type"] == "websocket":
        with suppress(RuntimeError):  # it is closed already
            await send({"type": "websocket.close", "code": 1011})
    elif not started:
        await problem(500, DETAIL[500])(scope, receive, send)


def add_middleware(app: FastAPI, settings: Settings) -> None:
    """Add everything that surrounds a request. What is added last is the outermost."""
    app.add_middleware(RequestGuard, max_body_size=settings.max_body_size)
    if origins := settings.cors_origins:
        app.add_middleware(
            PreflightGuard,
            allow_origins=origins,
            allow_methods=["*"],
            allow_headers=["*"],
            allow_credentials="*" not in origins,  # no cookies for everybody
            expose_headers=["X-Request-ID"],
        )
