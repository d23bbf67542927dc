"""`/docs` and `/redoc` as `python -m dev` serves them, in a browser that reaches this machine alone."""

import os
import shutil
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from service.servers import serving
from service.tools import wait_for

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
OPERATION = "create_user_users_post"  # in the page once its script has read /openapi.json


def behind_a_proxy() -> Starlette:
    """The application below the path /api."""
    from dev.served import app  # noqa: PLC0415 not in the process of the tests: it changes FastAPI's defaults

    return Starlette(routes=[Mount("/api", app)])


@pytest.fixture(params=["dev.served:app", f"{__name__}:behind_a_proxy"])
def address(request: pytest.FixtureRequest) -> Generator[str]:
    """Where the application is."""
    factory, prefix = (["--factory"], "/api") if "proxy" in request.param else ([], "")
    with serving(*factory, environment={}, program=("uvicorn", request.param)) as server:
        yield server.url + prefix


def shown(url: str, profile: Path) -> str:
    """Return the page as its scripts made it."""
    options = ["--headless", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
    options += ["--no-sandbox"]  # for root
    options += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"--user-data-dir={profile}"]
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    command = [BROWSER, *options, url]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=60
    ).stdout


@pytest.mark.skipif(not BROWSER, reason="needs Chromium")
@pytest.mark.parametrize("page", ["docs", "redoc"])
def test_the_pages_of_the_api_need_no_network(address: str, page: str, tmp_path: Path) -> None:
    assert wait_for(lambda: OPERATION in shown(f"{address}/{page}", tmp_path / "profile"))
