"""The application as `python -m dev` serves it.

The process ends with the one that reloads it. `/docs` and `/redoc` need no network: their scripts are local.
https://fastapi.tiangolo.com/how-to/custom-docs-ui-assets/
"""

from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route

from app.main import app
from dev.parent import end_with_parent

__all__ = ["app"]

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


if app.openapi_url:  # else DOCS is false
    assets = StaticFiles(packages=[("fastapi_offline", "static")])
    local = [Mount("/docs-assets", assets), Route("/docs", docs), Route("/redoc", redoc)]
    app.router.routes[:0] = local  # before FastAPI's own pages, which take their scripts from a CDN
