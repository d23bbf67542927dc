"""Every error is answered with a problem document: https://www.rfc-editor.org/rfc/rfc9457."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.utils import is_body_allowed_for_status_code
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException as StarletteHTTPException

from app.web.causes import cause_of
from app.web.errors import status_of
from app.web.request_ids import request_id

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
DETAIL = {
    409: "This conflicts with what is already stored.",
    500: "The service failed. The request_id finds the reason in its log.",
    503: "The database is not available. Try again.",
}
RETRY = {"Retry-After": "1"}  # seconds


class Problem(BaseModel):
    """What went wrong. `request_id` is in the log, too."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    request_id: str | None
    errors: list[Any] | None = None


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that may answer with these statuses, for the documentation."""
    content = {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def problem(
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    errors: list[Any] | None = None,
) -> Response:
    """Return the response for an error."""
    if not is_body_allowed_for_status_code(status):
        return Response(status_code=status, headers=headers)
    known = status in HTTPStatus.__members__.values()
    body = Problem(
        title=HTTPStatus(status).phrase if known else "Error",
        status=status,
        detail=detail,
        request_id=request_id.get(),
        errors=errors,
    )
    return JSONResponse(body.model_dump(exclude_none=True), status, headers, MEDIA_TYPE)


async def http_problem(_request: Request, error: StarletteHTTPException) -> Response:
    """Answer an `HTTPException`, raised by a route or by the framework."""
    if isinstance(error.detail, str):
        return problem(error.status_code, error.detail, error.headers)
    return problem(error.status_code, "See errors.", error.headers, [error.detail])


async def validation_problem(_request: Request, error: RequestValidationError) -> Response:
    """Answer a request that does not fit; say where and why, without repeating what was sent."""
    errors = [{name: found[name] for name in ("loc", "msg", "type")} for found in error.errors()]
    return problem(422, "The request does not fit.", errors=errors)


async def database_problem(request: Request, error: Exception) -> Response:
    """Answer a database error without a word of SQL or data. If the fault is ours, raise it again: 500."""
    status = status_of(error)
    if status is None or request.scope["type"] != "http":
        raise error
    level = logging.WARNING if status == 503 else logging.INFO
    logger.log(level, "%s %s: %d, %s", request.method, request.url.path, status, cause_of(error))
    return problem(status, DETAIL[status], RETRY if status == 503 else None)


def add_problem_handlers(app: FastAPI) -> None:
    """Register the handlers on the application."""
    app.exception_handler(StarletteHTTPException)(http_problem)
    app.exception_handler(RequestValidationError)(validation_problem)
    app.exception_handler(SQLAlchemyError)(database_problem)
    app.exception_handler(ExceptionGroup)(database_problem)
