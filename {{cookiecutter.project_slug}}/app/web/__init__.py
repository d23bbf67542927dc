"""What surrounds the routes. The modules of this folder are private, and nothing in them is about users."""

from app.web.health import router as health
from app.web.logs import configure_logging
from app.web.middleware import add_middleware
from app.web.problems import add_problem_handlers, problems
from app.web.request_ids import request_id
from app.web.types import BIGINT_MAX, AfterId, Id, Page, PageSize, Text, page

__all__ = [
    "BIGINT_MAX",
    "AfterId",
    "Id",
    "Page",
    "PageSize",
    "Text",
    "add_middleware",
    "add_problem_handlers",
    "configure_logging",
    "health",
    "page",
    "problems",
    "request_id",
]
