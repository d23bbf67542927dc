"""What surrounds the routes: errors as problem documents, probes, headers."""

from collections.abc import AsyncGenerator

import pytest
from httpx2 import ASGITransport, AsyncClient

from app.config import get_settings
from app.db import DatabaseSessionManager, sessionmanager
from app.web import Id
from tests.tools import application


@pytest.fixture
async def failing() -> AsyncGenerator[AsyncClient]:
    """A client of an application with a route that fails."""
    app = application()

    @app.get("/{number}")
    async def fail(number: Id) -> None:
        raise RuntimeError(f"number {number}")

    async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
        yield client


async def test_an_unknown_path_is_a_problem_document(client: AsyncClient) -> None:
    response = await client.get("/nowhere")
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json() == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "Not Found",
        "request_id": response.headers["x-request-id"],
    }


async def test_a_request_that_does_not_fit_is_told_where_without_its_input(failing: AsyncClient) -> None:
    response = await failing.get("/s3cret")
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["errors"][0]["loc"] == ["path", "number"]
    assert "s3cret" not in response.text


async def test_an_unexpected_error_is_a_500_and_one_line_with_its_message(
    failing: AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    response = await failing.get("/7")
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "number 7" not in response.text
    [line] = [record.message for record in caplog.records if record.name == "app.web.middleware"]
    assert line == "GET /7: 500, RuntimeError: number 7"


async def test_every_response_has_the_headers_of_the_service(client: AsyncClient) -> None:
    response = await client.get("/health/live", headers={"Origin": "https://pages.example"})
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == "https://pages.example"
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_a_service_with_its_database_is_ready(client: AsyncClient) -> None:
    assert (await client.get("/health/ready")).json() == {"status": "ok"}


async def test_without_a_database_the_service_lives_but_is_not_ready(
    client: AsyncClient, database: DatabaseSessionManager
) -> None:
    settings = get_settings()
    away = {"database_url": settings.database_url.set(port=1), "database_connect_timeout": 0.1}
    await sessionmanager.close()
    database.init_db(settings.model_copy(update=away))
    assert (await client.get("/health/live")).status_code == 200
    ready = await client.get("/health/ready")
    assert (ready.status_code, ready.headers["retry-after"]) == (503, "1")
    assert ready.headers["content-type"] == "application/problem+json"
