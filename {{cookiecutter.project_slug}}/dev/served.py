"""The application as `python -m dev` serves it.

The process ends with the one that reloads it. `/docs` and `/redoc` need no network: their scripts are local.
https://fastapi.tiangolo.com/how-to/custom-docs-ui-assets/
"""

from importlib.resources import files
from pathlib import Path

from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse
from starlette.routing import Route

from app.main import app
from dev.parent import end_with_parent

__all__ = ["app"]

ASSETS = Path(str(files("fastapi_offline") / "static"))

end_with_parent()


async def docs(_request: Request) -> HTMLResponse:
    """Return the page of Swagger UI. The addresses are relative: they are right behind a root_path, too."""
    return get_swagger_ui_html(
        openapi_url="openapi.json",
        title=app.title,
        oauth2_redirect_url="docs/oauth2-redirect",
        init_oauth=app.swagger_ui_init_oauth,
        swagger_ui_parameters=app.swagger_ui_parameters,
        swagger_js_url="docs-assets/swagger-ui-bundle.js",
        swagger_css_url="docs-assets/swagger-ui.css",
        swagger_favicon_url="docs-assets/favicon.png",
    )


async def redoc(_request: Request) -> HTMLResponse:
    """Return the page of ReDoc."""
    return get_redoc_html(
        openapi_url="openapi.json",
        title=app.title,
        redoc_js_url="docs-assets/redoc.standalone.js",
        redoc_favicon_url="docs-assets/favicon.png",
        with_google_fonts=False,
    )


async def asset(request: Request) -> FileResponse:
    """Return a script of the pages. A `Mount` would not find them behind `FastAPI(root_path=...)`."""
    return FileResponse(ASSETS / Path(request.path_params["name"]).name)


if app.openapi_url:  # else DOCS is false
    local = [Route("/docs", docs), Route("/redoc", redoc), Route("/docs-assets/{name}", asset)]
    app.router.routes[:0] = local  # before FastAPI's own pages, which take their scripts from a CDN
